"""A search in which masks learn how long the vector of every id should be."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from search_setup import once, search
from test_row_search import ITEMS, USERS, WIDTH, build, data, found, packed

import keras_eds
from keras_eds.errors import BudgetError, StageError
from keras_eds.field_plan import FieldPlan
from keras_eds.layers import MaskedTwinEmbedding
from keras_eds.learned_sizes import FieldSizes, LearnedSizes
from keras_eds.methods import AMTL, Outcome, Proposal
from keras_eds.surgery.keras_private import all_layers
from keras_eds.surgery.masking import masks_on
from keras_eds.surgery.sites import find_sites
from keras_eds.tuners.weights import load_weights

COUNTS = {"user_table": np.arange(USERS), "item_table": np.arange(ITEMS)[::-1]}


def numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


def test_log_odds_are_those_of_the_sizes():
    logits = np.random.default_rng(0).normal(0, 3, (2, 5, 4))
    chances = np.exp(logits[1]) / np.exp(logits[1]).sum(axis=1, keepdims=True)
    wanted = [
        np.log(chances[:, k:].sum(axis=1) / chances[:, :k].sum(axis=1))
        for k in range(1, 4)
    ]
    sizes = FieldSizes(np.zeros(7, int), logits, np.ones(5))
    np.testing.assert_allclose(sizes.log_odds(1), np.stack(wanted, axis=1))


def test_masks_leave_no_trace():
    model, x = build(), data(64)[0]
    before = [numpy(v) for v in model.variables], model.predict(x, verbose=0)
    attributes = [sorted(vars(layer)) for layer in all_layers(model)]
    sites = find_sites(model)
    with masks_on(sites, COUNTS, min_size=0, seed=1) as maskings:
        for masking in maskings:
            masking.masks.mlps.kernels[-1].assign(
                np.zeros(masking.masks.mlps.kernels[-1].shape)
            )
            # Of equal logits that of the smallest size is taken.
            assert not masking.masks.sizes().any()
        assert len(model.variables) > len(before[0])
        assert len(np.unique(model.predict(x, verbose=0))) == 1
    assert attributes == [sorted(vars(layer)) for layer in all_layers(model)]
    after = [numpy(v) for v in model.variables], model.predict(x, verbose=0)
    for old, new in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before[1], after[1])


def test_a_masked_table_is_a_masked_layer():
    """The instrument gives what `MaskedTwinEmbedding` gives, reduced or not."""
    keras_rs = pytest.importorskip("keras_rs")
    ids = np.random.default_rng(2).integers(0, USERS, (16, 3)).astype("int32")
    for combiner in (None, "mean", "sum"):
        if combiner is None:
            table = keras.layers.Embedding(USERS, WIDTH, name="table")
        else:
            table = keras_rs.layers.EmbedReduce(
                USERS, WIDTH, combiner=combiner, name="table"
            )
        model = keras.Sequential([keras.Input((3,), dtype="int32"), table])
        weights = numpy(table.embeddings)
        theirs = MaskedTwinEmbedding(
            USERS, WIDTH, counts=COUNTS["user_table"], weights=weights, seed=3,
            combiner=combiner,
        )  # fmt: skip
        counts = {"table": COUNTS["user_table"]}
        with masks_on(find_sites(model), counts, seed=3) as [masking]:
            for source, target in zip(
                theirs.masks.mlps.kernels, masking.masks.mlps.kernels, strict=True
            ):
                source.assign(np.random.default_rng(4).normal(size=source.shape))
                target.assign(numpy(source))
            assert len(np.unique(masking.masks.sizes())) > 2
            outputs = model.predict(ids, verbose=0)
        np.testing.assert_allclose(outputs, numpy(theirs(ids)), atol=1e-6)


def test_small_models_within_their_budgets(tmp_path, capsys):
    method = AMTL(epochs=3, compare=False)
    result = found(tmp_path, method=method)
    assert [r.stage for r in result.results()] == ["learn", "retrain", "retrain"]
    total = 4 * WIDTH * (USERS + ITEMS)
    for small, plan in zip(
        result.get_best_models(2), result.get_best_plans(2), strict=True
    ):
        assert packed(small) and plan.num_bytes() <= 0.4 * total
        assert not plan["user_table"].sizes[USERS - 50 :].any()
        for kept in plan:
            # Prefixes of the columns as they are: nothing is rotated.
            columns = kept.columns if isinstance(kept, FieldPlan) else None
            assert kept.encoder is None or columns == tuple(range(kept.kept_dim))
    other = result.plan_for(0.2)
    assert 0.19 * total < other.num_bytes() <= 0.2 * total
    result.results_summary()
    assert "learn" in capsys.readouterr().out
    again = found(tmp_path, method=method)
    assert again.get_best_plans(2) == result.get_best_plans(2)


def test_nothing_but_sizes_is_taken_over(tmp_path):
    model = build()
    model.optimizer.learning_rate = 0.0
    starts = []
    for start in ("learned", "fresh"):
        method = AMTL(epochs=1, retrain_from=start, compare=False)
        result = found(tmp_path / start, model, [0.4], method)
        starts.append((result.results()[-1], result.get_best_models()[0]))
    (first, learned), (second, fresh) = starts
    assert first.plan == second.plan
    for kept in first.plan:
        wanted = kept.masked(numpy(model.get_layer(kept.name).embeddings))
        ids = np.arange(kept.field.input_dim)
        got = [numpy(m.get_layer(kept.name)(ids)) for m in (learned, fresh)]
        np.testing.assert_allclose(got[0], wanted, atol=1e-6)
        assert kept.kept_dim == 0 or not np.allclose(got[1], wanted)


def test_cut_model_is_the_masked_one_before_retraining(tmp_path):
    result = found(tmp_path, method=AMTL(epochs=2, compare=False))
    for moment, stage in enumerate(result.results()[1:]):
        model = build()
        load_weights(model, tmp_path / "p" / f"learned_{moment}.weights.h5")
        small = keras_eds.apply_plan(model, stage.plan)
        for kept in stage.plan:
            layer = model.get_layer(kept.name)
            layer.embeddings.assign(kept.masked(numpy(layer.embeddings)))
        x, y = data(128, seed=1)
        np.testing.assert_allclose(
            small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
        )
        score = model.evaluate(x, y, verbose=0, return_dict=True)["auc"]
        assert stage.score_before == pytest.approx(score, abs=1e-6)


class Seen(keras.callbacks.Callback):
    """Remembers the logs of all epochs; copies share the list."""

    epochs: list = []

    def on_epoch_end(self, epoch, logs=None):
        Seen.epochs.append(dict(logs))


@once
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_expected_bytes_come_down_to_the_smallest_budget(tmp_path, steps_per_execution):
    def build_so():
        model = build()
        model.compile(
            keras.optimizers.Adam(0.05),
            "binary_crossentropy",
            metrics=["auc"],
            steps_per_execution=steps_per_execution,
        )
        return model

    Seen.epochs = []
    stop = keras.callbacks.EarlyStopping("loss", patience=0, mode="max")
    result = search(
        tmp_path,
        build_so,
        [0.4, 0.2],
        method=AMTL(epochs=12, min_size=1, compare=False),
    )
    result.search(*data(512), epochs=1, batch_size=32, verbose=0,
                  validation_data=data(128, 1), callbacks=[Seen(), stop])  # fmt: skip
    learning = [logs for logs in Seen.epochs if "expected_bytes" in logs]
    assert len(learning) == 12
    total = 4 * WIDTH * (USERS + ITEMS)
    bytes_ = [logs["expected_bytes"] / total for logs in learning]
    assert bytes_[0] > 0.3
    assert bytes_[-1] == pytest.approx(0.2, rel=0.02)
    assert [logs["target_bytes"] / total for logs in learning][-1] == pytest.approx(0.2)


def test_learning_starts_from_a_trained_model(tmp_path):
    model = build()
    model.fit(*data(), epochs=2, verbose=0)
    tables = {n: numpy(model.get_layer(n).embeddings) for n in COUNTS}
    # A step of size 0 changes nothing: what is learned from is what was given.
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy", metrics=["auc"])
    result = search(tmp_path, model, 0.3, method=AMTL(epochs=1, compare=False))
    result.search(*data(), validation_data=data(128, 1), epochs=1, verbose=0)
    learned = build()
    load_weights(learned, tmp_path / "p" / "learned_0.weights.h5")
    for name, table in tables.items():
        np.testing.assert_array_equal(numpy(learned.get_layer(name).embeddings), table)


def test_plans_follow_what_was_learned():
    fields = keras_eds.find_fields(build())
    method = AMTL()
    state = method.start(
        fields, [keras_eds.Budget.parse(b) for b in (0.5, 0.2)], 0, True
    )
    proposal = method.propose(state)
    assert proposal.stage == "learn"
    groups = {f.name: np.arange(f.input_dim) % 3 for f in fields}
    # The second group is sure of size 6, the third of size 2; nobody of the first.
    logits = np.full((2, 3, WIDTH + 1), -20.0)
    for group, size in enumerate((0, 6, 2)):
        logits[:, group, size] = 20.0
    often = np.ones(3)
    learned = LearnedSizes(
        {f.name: FieldSizes(groups[f.name], logits, often) for f in fields}
    )
    state = method.observe(state, proposal, Outcome(0.5, learned=learned))
    needed = sum(
        4 * np.array([0, 6, 2])[groups[f.name]].sum() + 2 * f.input_dim for f in fields
    )
    plan = method.plan(state, keras_eds.Budget(num_bytes=int(needed * 1.02)))
    for kept in plan:
        means = [kept.sizes[groups[kept.name] == g].mean() for g in range(3)]
        np.testing.assert_allclose(means, [0, 6, 2], atol=0.3)
    # Moments belong to budgets: that of 20 % is the nearest to 10 %.
    retrain = method.propose(state)
    assert retrain.settings["moment"] == 0
    assert (
        method._retrain(state, keras_eds.Budget.parse(0.1), 0).settings["moment"] == 1
    )


@pytest.mark.parametrize("sure", [30.0, 70.0, 3000.0])
@pytest.mark.parametrize("wanted", [0, WIDTH])
def test_plans_fit_however_sure_masks_are(sure, wanted):
    """All ids alike: what fits is one size for all, the largest that does."""
    field, budget = keras_eds.Field("user", 1000, WIDTH), keras_eds.Budget.parse(0.3)
    logits = np.zeros((1, 2, WIDTH + 1), "float32")
    logits[..., wanted] = sure
    sizes = FieldSizes(np.zeros(1000, int), logits, np.array([5.0, 0.0]))
    method = AMTL()
    state = method.start([field], [budget], 0, True)
    learned = Outcome(0.5, learned=LearnedSizes({"user": sizes}))
    state = method.observe(state, method.propose(state), learned)
    plan = method.plan(state, budget)
    assert plan.fits(budget)
    assert plan.sizes() == {"user": int(0.3 * WIDTH)}


@pytest.mark.parametrize("share", [0.2, 0.3, 0.7])
def test_ids_that_never_come_get_nothing_of_what_is_left(share):
    field, budget = keras_eds.Field("user", 1000, WIDTH), keras_eds.Budget.parse(share)
    logits = np.random.default_rng(0).normal(0, 2, (1, 2, WIDTH + 1)).astype("float32")
    logits[0, 1, 0] = 1e30  # as masks hold ids without a count at the least size
    never = np.arange(1000) % 5 > 1
    sizes = FieldSizes(never.astype(int), logits, np.array([5.0, 0.0]))
    method = AMTL()
    state = method.start([field], [budget], 0, True)
    learned = Outcome(0.5, learned=LearnedSizes({"user": sizes}))
    state = method.observe(state, method.propose(state), learned)
    [kept] = method.plan(state, budget)
    assert kept.sizes[never].max() == 0 < kept.sizes[~never].max()


def test_bad_input(tmp_path):
    fields = keras_eds.find_fields(build())
    with pytest.raises(BudgetError, match="`budget` must be at least"):
        search(tmp_path, build, 0.05, method=AMTL(min_size=1))
    assert not any(tmp_path.iterdir())
    for arguments, message in (
        ({"epochs": 0}, "`epochs` must be an integer of at least 1"),
        ({"min_size": -1}, "`min_size` must be"),
        ({"temperature": 0.0}, "`temperature` must be a finite number above 0"),
        ({"hidden_units": ()}, "`hidden_units` must be"),
        ({"retrain_from": "all"}, "`retrain_from` must be one of"),
        ({"alpha_from": "age"}, "`alpha_from` must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            AMTL(**arguments)
    method = AMTL()
    budget = keras_eds.Budget.parse(0.5)
    state = method.start(fields, [budget], 0, False)
    with pytest.raises(StageError, match="has not learned"):
        method.plan(state, budget)
    failed = method.observe(state, Proposal("learn"), None)
    assert method.propose(failed) is None


def test_one_width_a_field_is_tried_too():
    """Widths are in proportion to the mean sizes over the lookups of fields."""
    fields = [keras_eds.Field("even", 100, 3), keras_eds.Field("few", 100, 3)]
    method = AMTL()
    budget = keras_eds.Budget.parse(0.55)
    state = method.start(fields, [budget], 0, False)
    # Of the first table half the ids come, and want 2 values; the others none.
    of_id = np.arange(100) % 2
    wanted = np.full((1, 2, 4), -8.0)
    wanted[0, 0, 0] = wanted[0, 1, 2] = 0.0
    little = np.full((1, 2, 4), -8.0)
    little[0, :, 1] = 0.0
    learned = LearnedSizes({
        "even": FieldSizes(of_id, wanted, np.array([0.0, 4.0])),
        "few": FieldSizes(of_id, little, np.array([1.0, 1.0])),
    })  # fmt: skip
    state = method.observe(state, method.propose(state), Outcome(0.5, learned=learned))
    proposals = []
    while (proposal := method.propose(state)) is not None:
        proposals.append(proposal)
        state = method.observe(state, proposal, Outcome(0.5))
    plans = [method.plan(state, budget, draw) for draw in (0, 1)]
    # Sizes for ids need an index that does not pay here: both are the same plan.
    assert plans[0] == plans[1] and [p.plan for p in proposals] == plans[:1]
    assert {p.name: p.kept_dim for p in plans[1]} == {"even": 2, "few": 1}
    assert plans[1].fits(budget)
    wide = [keras_eds.Field("even", 100, 30), keras_eds.Field("few", 100, 30)]
    odds = [np.full((2, 30), -40.0), np.full((2, 30), -40.0)]
    # 20 values for ids that come 4 times of 5, else none; and 4 for all.
    odds[0][0, :20], odds[1][:, :4] = 40.0, 40.0
    often = [np.array([4.0, 1.0]), np.array([1.0, 1.0])]
    ten = keras_eds.Budget(parameters=10 * (100 + 30))
    found = {p.name: p.kept_dim for p in method._narrow(wide, odds, often, ten)}
    assert found == {"even": 8, "few": 2}
    # What was learned is not lost to a budget that pays for nothing.
    least = keras_eds.Budget(num_bytes=1)
    for draw in (0, 1):
        assert method.plan(state, least, draw).num_bytes() == 0


@once
def test_learning_in_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = search(tmp_path, build, 0.4, method=AMTL(epochs=2, compare=False))
    callback = keras_eds.callbacks.EDSTensorBoard(tmp_path / "logs")
    result.search(*data(), validation_data=data(128, 1), epochs=1, verbose=0,
                  callbacks=[callback])  # fmt: skip
    run = EventAccumulator(str(tmp_path / "logs" / "eds" / "0-learn"))
    run.Reload()
    tags = run.Tags()
    assert {"epoch_expected_bytes", "epoch_target_bytes"} <= set(tags["tensors"])
    assert {"sizes/user_table", "sizes/item_table", "popularity"} <= set(
        tags["tensors"]
    )
    assert len(run.Tensors("sizes/user_table")) == 2
