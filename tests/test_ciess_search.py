"""A search in which agents try sizes, and see how every id fares under them."""

from __future__ import annotations

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops
from search_setup import (
    ITEMS,
    USERS,
    WIDTH,
    build,
    data,
    once,
    search,
    validation,
)

import keras_eds
from keras_eds.errors import BudgetError, DataError, ProjectError, StageError
from keras_eds.field import Field
from keras_eds.id_quality import IdQuality, Qualities
from keras_eds.measurements import Measurements
from keras_eds.methods import CIESS, Outcome, SampledRows
from keras_eds.methods.ciess.noise import GaussianNoise
from keras_eds.methods.tried_sizes import sizes_in
from keras_eds.surgery.fixed_masks import sizes_on
from keras_eds.surgery.keras_private import all_layers
from keras_eds.surgery.quality import measure_quality
from keras_eds.surgery.sites import find_sites
from keras_eds.tuners import project
from keras_eds.tuners.trial_files import TrialFiles

SMALL = {"random_steps": 1, "td3": {"hidden_units": [8], "batch_size": 16}}
FIELDS = (Field("user", 30, 8), Field("day", 7, 4), Field("bias", 9, 1))
BUDGETS = tuple(keras_eds.Budget.parse(b) for b in (0.7, 0.5))
COUNTS = {f.name: np.arange(f.input_dim) % 4 for f in FIELDS}
ROOTS = {
    f.name: np.random.default_rng(3).normal(size=(f.output_dim,) * 2) for f in FIELDS
}
MOMENTS = {name: root @ root.T for name, root in ROOTS.items()}


def ciess(**options):
    short = {"episodes": 2, "iterations": 2, "updates": 1, "compare": False}
    return CIESS(**{"agent": SMALL, **short, **options})


def numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


def some_sizes(model, seed=0):
    random = np.random.default_rng(seed)
    return {
        site.field.name: random.integers(0, WIDTH + 1, site.field.input_dim)
        for site in find_sites(model)
    }


def test_fixed_masks_are_cut_tables_and_leave_no_trace():
    model, (x, _) = build(), validation()
    sizes = some_sizes(model)
    before = [numpy(v) for v in model.variables], model.predict(x, verbose=0)
    attributes = [sorted(vars(layer)) for layer in all_layers(model)]
    with sizes_on(find_sites(model), sizes):
        masked = model.predict(x, verbose=0)
    assert attributes == [sorted(vars(layer)) for layer in all_layers(model)]
    for old, new in zip(before[0], [numpy(v) for v in model.variables], strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before[1], model.predict(x, verbose=0))
    for name, of_ids in sizes.items():
        table = model.get_layer(name).embeddings
        table.assign(numpy(table) * (np.arange(WIDTH) < of_ids[:, None]))
    np.testing.assert_allclose(masked, model.predict(x, verbose=0), atol=1e-6)
    assert np.abs(masked - before[1]).max() > 1e-3


def test_what_is_masked_is_not_trained():
    model, (x, y) = build(), data(64)
    sizes = some_sizes(model)
    before = {name: numpy(model.get_layer(name).embeddings) for name in sizes}
    with sizes_on(find_sites(model), sizes):
        model.fit(x, y, verbose=0)
    for name, key in (("user_table", "user"), ("item_table", "item")):
        moved = numpy(model.get_layer(name).embeddings) != before[name]
        outside = np.arange(WIDTH) >= sizes[name][:, None]
        assert not moved[outside].any()
        assert moved[x[key]][~outside[x[key]]].mean() > 0.8


@pytest.mark.parametrize("combiner", ["mean", "sum"])
def test_fixed_masks_of_vectors_that_are_added_up(combiner):
    keras_rs = pytest.importorskip("keras_rs")
    table = keras_rs.layers.EmbedReduce(USERS, WIDTH, combiner=combiner, name="table")
    model = keras.Sequential([keras.Input((3,), dtype="int32"), table])
    ids = np.random.default_rng(2).integers(0, USERS, (16, 3)).astype("int32")
    sizes = some_sizes(model)
    rows = numpy(table.embeddings) * (np.arange(WIDTH) < sizes["table"][:, None])
    wanted = getattr(rows[ids], combiner)(axis=1)
    with sizes_on(find_sites(model), sizes):
        np.testing.assert_allclose(model.predict(ids, verbose=0), wanted, atol=1e-6)


def two_outputs():
    """A bag of words with padding, a shared table, two losses, a penalty."""
    words = keras.Input((4,), dtype="int32", name="words")
    last = keras.Input((), dtype="int32", name="last")
    table = keras.layers.Embedding(
        20, 3, mask_zero=True, name="word", embeddings_regularizer="l2"
    )
    bag = keras.layers.GlobalAveragePooling1D()(table(words))
    both = keras.layers.Concatenate()([bag, table(last)])
    click = keras.layers.Dense(1, activation="sigmoid", name="click")(both)
    stars = keras.layers.Dense(2, name="stars")(both)
    model = keras.Model([words, last], {"click": click, "stars": stars})
    model.compile(
        "sgd",
        {"click": "binary_crossentropy", "stars": "mse"},
        loss_weights={"click": 1.0, "stars": 0.5},
        run_eagerly=True,
    )
    return model


def test_quality_is_that_of_a_loop_over_examples():
    random, model = np.random.default_rng(0), two_outputs()
    x = {
        "words": random.integers(0, 19, (50, 4)).astype("int32"),
        "last": random.integers(0, 19, 50).astype("int32"),
    }
    y = {
        "click": random.integers(0, 2, (50, 1)).astype("float32"),
        "stars": random.normal(size=(50, 2)).astype("float32"),
    }
    out = {name: numpy(value) for name, value in model(x).items()}
    sums, numbers = np.zeros(20), np.zeros(20, int)
    for row in range(50):
        p, hit = float(out["click"][row, 0]), float(y["click"][row, 0])
        loss = -np.log(p if hit else 1 - p)
        loss += 0.5 * np.mean((out["stars"][row] - y["stars"][row]) ** 2)
        for word in [*x["words"][row], x["last"][row]]:
            if word:
                sums[word] += 1 / (1 + loss)
                numbers[word] += 1
    weights = [numpy(v) for v in model.variables]
    # In batches, of which the last is short.
    batches = [slice(start, start + 16) for start in range(0, 50, 16)]
    cut = [
        tuple(keras.tree.map_structure(lambda a, b=b: a[b], (x, y))) for b in batches
    ]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(cut)

        def __getitem__(self, index):
            return cut[index]

    for given in ({"x": x, "y": y}, {"x": Batches()}):
        found = measure_quality(model, given)["word"]
        np.testing.assert_array_equal(found.examples, numbers)
        np.testing.assert_allclose(
            found.score, sums / np.maximum(numbers, 1), rtol=1e-5
        )
    assert found.score[0] == found.score[19] == 0
    for old, new in zip(weights, model.variables, strict=True):
        np.testing.assert_array_equal(old, numpy(new))
    # The model's own loss is averaged again.
    assert np.ndim(numpy(model.compute_loss(x, y, model(x)))) == 0


class OneForAll(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(y_true - y_pred)


def test_quality_needs_a_loss_of_each_example():
    x, y = data(16)
    model = build(loss="mse")
    with pytest.raises(StageError, match="16 of 16 that are not"):
        measure_quality(model, {"x": x, "y": np.full_like(y, np.nan)})
    with pytest.raises(DataError, match="ids from 0 to 39"):
        measure_quality(model, {"x": {**x, "user": x["user"] + 40}, "y": y})
    model.compile("sgd", OneForAll())
    with pytest.raises(DataError, match="`loss` must be one number for each"):
        measure_quality(model, {"x": x, "y": y})
    table = keras.layers.Embedding(USERS, 1)
    model = keras.Sequential([keras.Input((), dtype="int32"), table])
    model.compile("sgd")
    with pytest.raises(DataError, match="`model` must be compiled with a loss"):
        measure_quality(model, {"x": x["user"], "y": y})


class ReadsWhole(keras.Model):
    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(USERS, 2)

    def call(self, inputs):
        return ops.take(self.table(ops.arange(USERS)), inputs, axis=0)


def test_quality_needs_ids_of_each_example():
    model = ReadsWhole()
    model.compile("sgd", "mse")
    with pytest.raises(DataError, match="one example after the other"):
        measure_quality(model, {"x": np.zeros(8, "int32"), "y": np.zeros((8, 2))})


def quality(seed, short=None):
    """Scores of all ids; some were never met."""
    random, by_field = np.random.default_rng(seed), {}
    for field in FIELDS:
        examples = np.arange(field.input_dim) % 3
        score = random.uniform(0.3, 0.9, field.input_dim) * (examples > 0)
        by_field[field.name] = IdQuality(score, examples)
    return Qualities(by_field)


def outcome_of(proposal, number):
    if proposal.stage == "probe":
        counts = Measurements.of_counts(COUNTS)
        if proposal.settings.get("moments"):
            counts = Measurements(
                {n: replace(m, second_moment=MOMENTS[n]) for n, m in counts.items()}
            )
        return Outcome(0.5, counts, qualities=quality(99))
    return Outcome(0.5, qualities=quality(number))


def run(method, state=None, seed=5):
    state, proposals = state or method.start(FIELDS, BUDGETS, seed, False), []
    while (proposal := method.propose(state)) is not None:
        proposals.append(proposal)
        outcome = outcome_of(proposal, len(state.finished))
        state = method.observe(state, proposal, outcome)
    return proposals, state


def test_course():
    method = ciess(iterations=3)
    proposals, state = run(method)
    assert [p.stage for p in proposals] == (
        ["pretrain", "probe"] + ["step"] * 6 + ["retrain"] * 2
    )
    assert len(proposals) == method.num_stages(state)
    for step in proposals[2:8]:
        assert step.budget is None
        json.dumps(dict(step.settings))
        for field, sizes in zip(FIELDS, sizes_in(step.plan), strict=True):
            assert sizes.min() >= 1
            assert len(set(sizes)) == 1 or (sizes[COUNTS[field.name] == 0] == 1).all()
    # An episode is for one budget.
    for number, step in enumerate(proposals[2:8]):
        budget = BUDGETS[number // 3]
        assert step.plan.fits(budget)
        bytes_left = budget.limit(FIELDS) - step.plan.num_bytes()
        assert bytes_left < 0.1 * budget.limit(FIELDS)
    assert len({p.plan.digest() for p in proposals[2:8]}) == 6
    for proposal, budget in zip(proposals[8:], BUDGETS, strict=True):
        assert proposal.budget == budget and proposal.plan.fits(budget)
        assert proposal.plan == method.plan(state, budget)


def test_proposals_follow_from_what_is_finished():
    """Asked again, by others, or after another search: the same sizes."""
    method, other = ciess(), ciess()
    whole, state = run(method)
    different = run(method, seed=6)[0]
    assert different[2].plan != whole[2].plan
    for number in range(2, len(whole)):
        so_far = other.start(FIELDS, BUDGETS, 5, False)
        for earlier, outcome in state.finished[:number]:
            so_far = other.observe(so_far, earlier, outcome)
        # The last step is also asked of one who saw none before.
        for asked in (other, method, other, *[ciess()] * (number == 5)):
            assert asked.propose(so_far).plan == whole[number].plan


@pytest.mark.parametrize("relative", [True, False])
def test_agents_learn_from_the_reward(relative):
    seen = []
    from keras_eds.methods.ciess import field_agent

    class Watched(field_agent.Agent):
        def observe(self, states, sizes, gains, next_states, costs):
            seen.append((np.array(states), sizes, gains - costs(sizes), next_states))
            return super().observe(states, sizes, gains, next_states, costs)

    original, field_agent.Agent = field_agent.Agent, Watched
    try:
        run(ciess(penalty=0.3, relative=relative))
    finally:
        field_agent.Agent = original
    # Of two fields: the third has a width of 1, and no sizes to choose.
    assert len(seen) == 8
    counts, full, now = COUNTS["user"], quality(99)["user"], quality(2)["user"]
    ids = np.flatnonzero(counts > 0)
    known = full.examples[ids] > 0
    states, sizes, rewards, after = seen[0]
    q = np.minimum(now.score[ids][known] / full.score[ids][known], 1)
    gains, often = q, counts[ids][known]
    if relative:
        examples = full.examples[ids][known]
        q = q - (q * examples).sum() / examples.sum()
        gains = q * examples / examples.mean()
        q, often = q + 1, np.log1p(often)
    np.testing.assert_allclose(rewards, gains - 0.3 * (sizes / 8) ** 2)
    scaled = (often - often.min()) / np.ptp(often)
    np.testing.assert_allclose(states, np.stack([scaled, scaled**0, scaled**0], 1))
    np.testing.assert_allclose(after, np.stack([scaled, sizes / 8, q], 1), rtol=1e-6)
    # The second step goes on from there, the third begins anew.
    np.testing.assert_array_equal(seen[2][0], after)
    np.testing.assert_array_equal(seen[4][0], states)


def test_rewards_tell_a_step_from_the_first_one_for_its_budget(monkeypatch):
    from keras_eds.methods.ciess import field_agent

    gains_of_users = []

    class Watched(field_agent.Agent):
        def observe(self, states, sizes, gains, next_states, costs):
            gains_of_users.append(gains)
            return super().observe(states, sizes, gains, next_states, costs)

    monkeypatch.setattr(field_agent, "Agent", Watched)
    run(ciess())
    ids, full = np.flatnonzero(COUNTS["user"] > 0), quality(99)["user"]
    ids = ids[full.examples[ids] > 0]
    weights = full.examples[ids] / full.examples[ids].mean()
    means = []
    # Two episodes of two steps, each for one budget; every other agent is of users.
    for step, gains in enumerate(gains_of_users[::2]):
        q = np.minimum(quality(2 + step)["user"].score[ids] / full.score[ids], 1)
        means.append((q * weights).mean())
        first = means[step - step % 2]
        wanted = (q - means[step]) * weights + means[step] - first
        np.testing.assert_allclose(gains, wanted, atol=1e-12)
    assert len(means) == 4 and abs(means[1] - means[0]) > 1e-3


def mean_quality(outcome):
    """Mean ratio to the full model, by the examples of each id."""
    total = weight = 0.0
    for field in FIELDS:
        examples = (np.arange(field.input_dim) % 3) * (COUNTS[field.name] > 0)
        now, full = outcome.qualities[field.name].score, quality(99)[field.name].score
        ratio = np.minimum(now / np.maximum(full, 1e-9), 1)
        total, weight = total + (ratio * examples).sum(), weight + examples.sum()
    return total / weight


def test_the_best_of_a_budget_is_retrained():
    method = ciess(top=2, iterations=3)
    proposals, state = run(method)
    steps = [p.plan for p, _ in state.done("step")]
    means = [mean_quality(outcome) for _, outcome in state.done("step")]
    np.testing.assert_allclose(method._followed(state).qualities, means)
    for number, budget in enumerate(BUDGETS):
        mine = range(3 * number, 3 * number + 3)
        best = sorted(mine, key=lambda step: -means[step])[:2]
        retrained = [p.plan for p in proposals if p.budget == budget]
        for plan, step in zip(retrained, best, strict=True):
            assert plan.num_bytes() == steps[step].num_bytes()
            for sizes, tried in zip(sizes_in(plan), sizes_in(steps[step]), strict=True):
                np.testing.assert_array_equal(sizes, tried)
    # Of no step's own budget: the best of the nearest, made to fit.
    near = keras_eds.Budget.parse(0.55)
    assert method._best(state, near)[0] == max(range(3, 6), key=means.__getitem__)
    plan = method.plan(state, near)
    assert plan.fits(near) and not plan.fits(BUDGETS[1])


@pytest.mark.parametrize(
    "method", [ciess(compare=True), SampledRows(4)], ids=["ciess", "sampled_rows"]
)
def test_one_width_a_field_is_retrained_too(method):
    """The same share of every table, as much as fits; no index."""
    proposals, state = run(method)
    assert len(proposals) == method.num_stages(state)
    for budget in BUDGETS:
        plans = [p.plan for p in proposals if p.budget == budget]
        assert plans == [method.plan(state, budget, draw) for draw in range(2)]
        assert plans[0].has_row_sizes and not plans[1].has_row_sizes
        assert plans[1].fits(budget)
        assert plans[1].num_bytes() > 0.9 * budget.limit(FIELDS)
        for kept in plans[1]:
            vectors = np.linalg.eigh(MOMENTS[kept.name])[1]
            best = vectors[:, ::-1][:, : kept.kept_dim]
            projection = kept.encoder @ kept.decoder
            np.testing.assert_allclose(projection, best @ best.T, atol=1e-5)


def test_directions_that_were_tried_are_kept():
    """Orthogonal, of falling moment; from scratch, the columns as they are."""
    for kept in run(ciess())[0][-1].plan:
        turn, size, moment = kept.encoder, kept.kept_dim, MOMENTS[kept.name]
        if kept.is_full:
            continue
        np.testing.assert_allclose(turn.T @ turn, np.eye(size), atol=1e-5)
        np.testing.assert_allclose(
            np.diag(turn.T @ moment @ turn),
            np.sort(np.linalg.eigvalsh(moment))[::-1][:size],
            rtol=1e-3,
        )
        np.testing.assert_array_equal(kept.decoder, turn.T)
    for options in ({"warm_start": "fresh"}, {"basis": "columns"}, {"fresh": True}):
        proposals, _ = run(ciess(**options))
        assert all(
            getattr(kept, "encoder", None) is None or kept.columns is not None
            for kept in proposals[-1].plan
        )
    assert ciess(fresh=True).warm_start == "fresh" and ciess().warm_start == "all"


def test_wishes_are_scaled_to_the_budget():
    """More for whoever asked for more, and the least for whoever never came."""
    course, seen = ciess()._new_course(run(ciess())[1], quality(99)), []
    for agent in course._agents:
        agent.propose = lambda explore, agent=agent: (
            seen.append(explore)
            or ((np.arange(agent.field.input_dim) % 4) * (COUNTS[agent.field.name] > 0))
        )
    plan = course.propose()
    sizes = sizes_in(plan)[0]
    wished = (np.arange(30) % 4) * (COUNTS["user"] > 0)
    assert plan.fits(BUDGETS[0]) and len(set(sizes)) > 1
    assert all(sizes[wished == 0] == 1)
    by_wish = [sizes[wished == wish].mean() for wish in range(4)]
    assert by_wish == sorted(by_wish)
    # Noise falls over an episode of two steps, from half to nothing.
    course.observe(plan, quality(1))
    course.propose()
    assert seen == [0.5] * 3 + [0.0] * 3


def test_tables_stay_near_the_best_step():
    """Between tables, wishes move by half as much again at most; within, freely."""
    course = ciess()._new_course(run(ciess())[1], quality(99))
    known = [COUNTS[field.name] > 0 for field in FIELDS]
    random = np.random.default_rng(1)
    wished = [random.uniform(0.5, 1.5, len(k)) * k for k in known]
    wished[0] *= 8
    wished[2] *= 0

    def spread(sizes, best):
        # The last table has one column: nothing is asked for there.
        parts = zip(sizes[:2], known, best, strict=False)
        means = [of_table[k].mean() / b for of_table, k, b in parts]
        return max(means) / min(means)

    first = course._near(wished)
    assert spread(wished, [8, 4, 1]) > 2 > 1.5 + 1e-6 > spread(first, [8, 4, 1])
    np.testing.assert_allclose(first[0] / first[0].max(), wished[0] / wished[0].max())
    plan = course.propose()
    course.observe(plan, quality(1))
    best = [s[k].mean() for s, k in zip(sizes_in(plan), known, strict=True)]
    second = course._near(wished)
    assert spread(second, best) < 1.5 + 1e-6
    free = ciess(shift=None)._new_course(run(ciess())[1], quality(99))
    assert spread(free._near(wished), [8, 4, 1]) == spread(wished, [8, 4, 1])
    # What is asked for near the best is left as it is.
    near = [b * k for b, k in zip(best, known, strict=True)]
    for asked, left in zip(near, course._near(near), strict=True):
        np.testing.assert_allclose(asked, left, rtol=1e-6)


def test_the_price_follows_what_agents_ask_for():
    state = run(ciess())[1]
    for factor, wanted in ((9.0, 2.0), (0.1, 0.5), (2.25, 1.5)):
        free = {**SMALL, "random_steps": 0}
        course = ciess(agent=free)._new_course(state, quality(99))
        plan = course.propose()
        held = [np.maximum(sizes, 1) for sizes in sizes_in(plan)]
        course._wished = [factor * sizes for sizes in held]
        course.observe(plan, quality(1))
        assert course.figures[-1]["penalty"] == pytest.approx(0.4 * wanted)
    fixed = ciess(penalty=0.3)._new_course(state, quality(99))
    fixed.observe(fixed.propose(), quality(1))
    assert fixed.figures[-1]["penalty"] == 0.3


def without(qualities, *names):
    """Qualities in which no id of some fields was measured."""
    nothing = {n: IdQuality(q.score * 0, q.examples * 0) for n, q in qualities.items()}
    return Qualities({n: nothing[n] if n in names else q for n, q in qualities.items()})


@pytest.mark.parametrize("method", [ciess(iterations=6), SampledRows(6, compare=False)])
def test_a_field_of_which_nothing_is_measured_stands_aside(method):
    """As days are where validation is on later ones."""
    state = method.start(FIELDS, BUDGETS, 5, True)
    while (proposal := method.propose(state)) is not None:
        outcome = outcome_of(proposal, len(state.finished))
        known = without(outcome.qualities, "day")
        state = method.observe(state, proposal, replace(outcome, qualities=known))
    assert state.done("retrain")
    if isinstance(method, CIESS):
        days = [sizes_in(p.plan)[1][COUNTS["day"] > 0] for p, _ in state.done("step")]
        assert all(np.ptp(sizes) <= 1 for sizes in days)
        penalties = [figures["penalty"] for figures in method.figures(state)]
        assert len(set(penalties)) > 3


@pytest.mark.parametrize("method", [ciess(), SampledRows(4, compare=False)])
def test_where_nothing_is_measured_nothing_can_be_judged(method):
    state = method.start(FIELDS, BUDGETS, 5, True)
    probe = method.propose(state)
    outcome = outcome_of(probe, 0)
    known = without(outcome.qualities, *COUNTS)
    state = method.observe(state, probe, replace(outcome, qualities=known))
    with pytest.raises(DataError, match="`validation_data` must carry ids that come"):
        method.propose(state)


def test_a_budget_at_which_ids_cannot_differ_is_refused():
    """Least size and index: 1 and 4 / 4 values of 16 an id."""
    field = (Field("user", 40_000, 16),)
    for method in (ciess(), SampledRows(4, compare=False)):
        for share in (0.07, 0.12):
            budget = keras_eds.Budget.parse(share)
            with pytest.raises(BudgetError, match="room for ids of different sizes"):
                method.start(field, [budget], 0, True)
        method.start(field, [keras_eds.Budget.parse(0.13)], 0, True)
    ciess(low=0).start(field, [keras_eds.Budget.parse(0.07)], 0, True)


def test_cost_of_a_search():
    trained = CIESS(top=2).start(FIELDS, BUDGETS, 0, True)
    untrained = CIESS(top=2).start(FIELDS, BUDGETS, 0, False)
    assert CIESS().share(untrained) * 30 + 1 + 2 * 2 == pytest.approx(10)
    assert CIESS().share(trained) * 30 + 2 * 2 == pytest.approx(10)
    alone = CIESS(top=1, compare=False)
    assert alone.share(trained) * 30 + 2 == pytest.approx(10)
    assert CIESS(top=9).share(untrained) * 30 == pytest.approx(2)
    assert ciess(trainings=100).share(trained) == 1.0


def found(directory, method, budget=0.45, epochs=1, model=build, **options):
    result = search(directory, model, budget, method=method)
    result.search(*data(128), epochs=epochs, batch_size=64, verbose=0,
                  validation_data=validation(), **options)  # fmt: skip
    return result


class Epochs(keras.callbacks.Callback):
    """Counts epochs that saw validation data; copies share the list."""

    logs: list = []

    def on_epoch_end(self, epoch, logs=None):
        Epochs.logs.append(set(logs))


def test_search(tmp_path, capsys):
    Epochs.logs = []
    method = ciess(steps=3)
    result = found(tmp_path, method, [0.6, 0.45], epochs=2, callbacks=[Epochs()])
    stages = result.results()
    assert [r.stage for r in stages] == (
        ["pretrain", "probe"] + ["step"] * 4 + ["retrain"] * 2
    )
    for step in stages[2:6]:
        # Three of four batches, and none of the user's callbacks.
        assert step.metrics["trainings"] == 3 / 4
        assert 0 < step.metrics["quality"] < 1
        assert step.plan is None and step.score_before is None
    assert len(Epochs.logs) == 6 and all("val_auc" in names for names in Epochs.logs)
    total = 4 * WIDTH * (USERS + ITEMS)
    plans = [r.plan for r in stages[6:]]
    assert plans[0].num_bytes() <= 0.6 * total and plans[1].num_bytes() <= 0.45 * total
    assert all(kept.sizes.min() >= 1 for kept in plans[1])
    assert result.plan_for(0.5).num_bytes() <= 0.5 * total
    small = result.get_best_models()[0]
    score = small.evaluate(*validation(), verbose=0, return_dict=True)["auc"]
    assert score == pytest.approx(max(r.score for r in stages[6:]), abs=1e-6)
    # The directions that the steps tried, although all else learned.
    for kept in result.get_best_plans()[0]:
        held = numpy(small.get_layer(kept.name).projection)
        np.testing.assert_allclose(held, kept.projection, atol=1e-6)
    result.results_summary()
    assert (
        "Cost: 6.00 trainings of the full model (1 at first, 4 steps as long as 3.00 "
        "trainings, 2 retrainings)"
    ) in " ".join(capsys.readouterr().out.split())
    for step in stages[2:6]:
        for name in ("size/user_table", "bytes/item_table", "quality/user_table"):
            assert step.metrics[name] > 0
        assert {"penalty", "reward/item_table", "critic_loss/user_table"} <= set(
            step.metrics
        )


@pytest.mark.parametrize("basis", ["principal", "columns"])
def test_a_step_is_scored_under_its_masks(tmp_path, basis):
    """Not trained: the shared weights, cut as the step says."""
    model = build()
    model.fit(*data(), verbose=0)
    method = ciess(episodes=1, steps=0, basis=basis)
    result = found(tmp_path, method, model=model)
    counts = {
        f"{key}_table": np.bincount(ids, minlength=rows)
        for (key, ids), rows in zip(data(128)[0].items(), (USERS, ITEMS), strict=True)
    }
    for step in [r for r in result.results() if r.stage == "step"]:
        files = TrialFiles(result.get_trial_dir(f"{step.index:04}"))
        plan, qualities = (
            keras_eds.DimensionPlan.load(files.plan),
            files.read_qualities(),
        )
        masked = build()
        masked.set_weights(model.get_weights())
        for kept, sizes in zip(plan, sizes_in(plan), strict=True):
            table = masked.get_layer(kept.name).embeddings
            rows, turn = numpy(table), np.eye(WIDTH)
            if basis == "principal":
                moment = rows.T @ np.diag(counts[kept.name]) @ rows
                turn = np.linalg.eigh(moment.astype("float64"))[1][:, ::-1]
            kept_part = (rows @ turn) * (np.arange(WIDTH) < sizes[:, None])
            table.assign(kept_part @ turn.T)
        assert step.metrics["trainings"] == 0
        x, y = validation()
        wanted = masked.evaluate(x, y, verbose=0, return_dict=True)["auc"]
        assert step.score == pytest.approx(wanted, abs=1e-6)
        predicted = masked.predict(x, verbose=0)
        scores = 1 / (1 - np.log(np.where(y == 1, predicted, 1 - predicted)))
        by_user = [scores[x["user"] == u] for u in range(USERS)]
        means = [s.mean() if len(s) else 0 for s in by_user]
        np.testing.assert_allclose(qualities["user_table"].score, means, rtol=1e-4)
    # What is cut for retraining is what the best step has tried.
    retrained = result.results()[-1]
    assert retrained.stage == "retrain"
    before = {round(step.score, 5) for step in result.results() if step.stage == "step"}
    assert round(retrained.score_before, 5) in before


@once
def test_whole_trainings_from_scratch(tmp_path):
    Epochs.logs = []
    method = ciess(fresh=True, episodes=1, top=2)
    result = found(tmp_path, method, callbacks=[Epochs()])
    stages = result.results()
    assert [r.stage for r in stages][2:] == ["step"] * 2 + ["retrain"] * 2
    assert all(r.metrics["trainings"] == 1 for r in stages[2:4])
    assert len(Epochs.logs) == 1 + 2 + 2
    assert len({r.plan.digest() for r in stages[4:]}) == 2


@once
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_data_set_without_a_length(tmp_path):
    import tensorflow as tf

    kinds = tf.data.Dataset.from_tensor_slices(data(128)).batch(64)
    kinds = kinds.filter(lambda x, y: True)
    method = ciess(episodes=1, iterations=4, trainings=1.0)
    result = search(tmp_path, build, 0.6, method=method)
    result.search(kinds, epochs=2, verbose=0, validation_data=kinds)
    steps = [r for r in result.results() if r.stage == "step"]
    assert [r.settings["share"] for r in steps] == [0.5] * 4
    assert [r.metrics["trainings"] for r in steps] == [2 / 4] * 4


def test_bad_input(tmp_path):
    for arguments, message in (
        ({"penalty": -0.1}, "`penalty` must be"),
        ({"episodes": 0}, "`episodes` must be an integer of at least 1"),
        ({"iterations": True}, "`iterations` must be"),
        ({"top": 5}, "`top` must be at most the number of steps, 4"),
        ({"low": -1}, "`low` must be"),
        ({"updates": -1}, "`updates` must be"),
        ({"trainings": 0.0}, "`trainings` must be"),
        ({"steps": -1}, "`steps` must be"),
        ({"basis": "rows"}, "`basis` must be one of"),
        ({"reward": "loss"}, "`reward` must be one of"),
        ({"relative": 2}, "`relative` must be one of"),
        ({"shift": 0.9}, "`shift` must be"),
        ({"fresh": "yes"}, "`fresh` must be one of"),
        ({"agent": {"noise": "loud"}}, "`noise` must be"),
        ({"agent": {"walk_length": -1}}, "`walk_length` must be"),
        ({"agent": {"seed": 3}}, "`agent` must not have low, high, seed"),
        ({"agent": {"td3": {"state_size": 5}}}, "must not have.*state_size"),
        ({"warm_start": "hot", "fresh": True}, "`warm_start` must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            ciess(**arguments)
    # A value for each of 65 ids is a share of 1/8.
    with pytest.raises(BudgetError, match="`budget` must be at least"):
        search(tmp_path, build, 0.12, method="ciess")
    search(tmp_path, build, 0.12, method=ciess(low=0), project_name="low")
    result = search(tmp_path, build, 0.5, method="ciess", project_name="none")
    with pytest.raises(DataError, match="`validation_data` must be given"):
        result.search(*data(64), verbose=0)
    method = ciess()
    state = method.start(FIELDS, BUDGETS, 0, True)
    probe = method.propose(state)
    with pytest.raises(StageError, match="have not begun"):
        probed = method.observe(state, probe, outcome_of(probe, 0))
        method.plan(probed, BUDGETS[0])
    step = method.propose(probed)
    spoilt = quality(0)
    spoilt["user"].score[7] = np.nan
    after = method.observe(probed, step, Outcome(0.5, qualities=spoilt))
    with pytest.raises(DataError, match="must be finite"):
        method.propose(after)
    assert method.propose(method.observe(probed, step, None)) is None
    assert method.propose(probed, [step]) == "wait"
    # After a step that failed, what was seen before it can still be read.
    first = method.observe(probed, step, outcome_of(step, 0))
    failed = method.observe(first, method.propose(first), None)
    assert len(method.figures(failed)) == 1
    planned = sizes_in(method.plan(failed, BUDGETS[0]))
    for sizes, tried in zip(planned, sizes_in(step.plan), strict=True):
        np.testing.assert_array_equal(sizes, tried)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ({"nois": "uniform"}, r"`agent` must have arguments of Agent alone.*'nois'"),
        ({"td3": {"gama": 0.5}}, r"`agent\['td3'\]` must have .*'gama'.*'gamma'"),
    ],
)
def test_options_that_nobody_has_are_refused(agent, message):
    with pytest.raises(ValueError, match=message):
        CIESS(agent=agent)


def purpose_of(folder, method):
    found = search(folder, build, 0.6, method=method)
    return project.purpose(found.hypermodel.source.example, found.oracle)


def test_another_quality_is_another_search(tmp_path):
    mine = purpose_of(tmp_path, ciess())
    assert mine == purpose_of(tmp_path, ciess())
    assert mine != purpose_of(tmp_path, ciess(quality=lambda model: {}))


def test_noise_survives_a_new_process(tmp_path):
    """A project is compared by what its method says of itself."""
    first, same, other = (
        purpose_of(tmp_path, ciess(agent={**SMALL, "noise": GaussianNoise(scale)}))
        for scale in (2.0, 2.0, 3.0)
    )
    assert first == same != other


def test_options_that_differ_are_named(tmp_path):
    project.sign(tmp_path / "begun", purpose_of(tmp_path, ciess(penalty=0.5)))
    other = purpose_of(tmp_path, ciess(penalty=0.25))
    with pytest.raises(
        ProjectError, match="'penalty': 0.5}.*'penalty': 0.25}"
    ) as error:
        project.claim(tmp_path / "begun", other, overwrite=False, joins=True)
    assert "same method" in str(error.value) and "episodes" not in str(error.value)
