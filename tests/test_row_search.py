"""A search that ends in a size for every id."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from search_setup import EAGER, FIT, search

import keras_eds
from keras_eds.errors import BudgetError, FieldError
from keras_eds.layers import RowSizedEmbedding
from keras_eds.methods import SSEDS, PrincipalRows
from keras_eds.row_plan import RowPlan
from keras_eds.surgery.keras_private import all_layers

USERS, ITEMS, WIDTH = 400, 300, 8


def data(rows=512, seed=0):
    """Popular ids come first; the last fifty users never come."""
    random = np.random.default_rng(seed)
    x = {
        "user": random.zipf(1.3, rows).clip(max=USERS - 50).astype("int32") - 1,
        "item": random.zipf(1.3, rows).clip(max=ITEMS).astype("int32") - 1,
    }
    logit = 2.0 * (x["user"] % 2) + 1.5 * (x["item"] % 3 == 0) - 1.5
    y = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype("float32")
    return x, y[:, None]


def build():
    inputs = {key: keras.Input((), dtype="int32", name=key) for key in data(1)[0]}
    vectors = [
        keras.layers.Embedding(size, WIDTH, name=f"{key}_table")(inputs[key])
        for key, size in (("user", USERS), ("item", ITEMS))
    ]
    outputs = keras.layers.Dense(1, activation="sigmoid")(
        keras.layers.Concatenate()(vectors)
    )
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(0.05),
        "binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auc")],
        run_eagerly=EAGER,
    )
    return model


def found(directory, model=build, budget=(0.4, 0.25), method=None):
    method = method or PrincipalRows(compare=False)
    result = search(directory, model, list(budget), method=method)
    result.search(*data(), validation_data=data(128, seed=1), **FIT)
    return result


def packed(model):
    return [t for t in all_layers(model) if isinstance(t, RowSizedEmbedding)]


def test_small_models_with_packed_rows(tmp_path, capsys):
    result = found(tmp_path)
    stages = [r.stage for r in result.results()]
    assert stages == ["pretrain", "probe", "retrain", "retrain"]
    small, plan = result.get_best_models(2), result.get_best_plans(2)
    total = 4 * WIDTH * (USERS + ITEMS)
    for model, kept in zip(small, plan, strict=True):
        assert packed(model)
        assert kept.num_bytes() <= 0.4 * total
        counts = {layer.name: layer.count_params() for layer in packed(model)}
        for name, values in counts.items():
            assert values == kept[name].num_parameters()
            np.testing.assert_array_equal(
                model.get_layer(name).sizes(), kept[name].sizes
            )
        assert not kept["user_table"].sizes[USERS - 50 :].any()
    path = tmp_path / "small.keras"
    small[0].save(path)
    loaded = keras.saving.load_model(path)
    x = data(64, seed=2)[0]
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), small[0].predict(x, verbose=0), atol=1e-6
    )
    other = result.plan_for(0.3)
    assert 0.25 * total < other.num_bytes() <= 0.3 * total
    result.results_summary()
    print(plan[0])
    assert "8 -> 0-" in capsys.readouterr().out


def test_scores_decide_between_ids_and_fields(tmp_path):
    result = found(tmp_path, budget=[0.25], method="principal_rows")
    rows, fields = result.results()[2:]
    assert [stage.budget.label for stage in (rows, fields)] == ["25%", "25%"]
    assert any(isinstance(kept, RowPlan) for kept in rows.plan)
    assert not any(isinstance(kept, RowPlan) for kept in fields.plan)
    best = rows if rows.score >= fields.score else fields
    assert result.get_best_plans()[0] == best.plan
    # Widths are those of the method for fields, measured the same way.
    sizes = SSEDS().plan(result.oracle.observe_ended(), fields.budget).sizes()
    assert all(abs(sizes[kept.name] - kept.kept_dim) <= 1 for kept in fields.plan)
    assert result.plan_for(0.25) == best.plan


def test_plans_for_other_budgets_are_of_the_kind_that_was_best(tmp_path):
    """The scores are of wide tables at 40% and of ids at 20%, whatever they came to."""
    result = found(tmp_path, budget=[0.4, 0.2], method="principal_rows")
    for trial in result.oracle.get_best_trials(4):
        by_row = result.oracle.files(trial.trial_id).plan
        kind = keras_eds.DimensionPlan.load(by_row).has_row_sizes
        label = trial.hyperparameters.values["eds/budget"]
        trial.score = 0.9 if kind == (label == "20%") else 0.5
    assert not result.plan_for(0.35).has_row_sizes
    assert result.plan_for(0.22).has_row_sizes
    for budget, by_row in ((0.4, False), ("20%", True)):
        [plan] = result.get_best_plans(budget=budget)
        assert plan.has_row_sizes == by_row
        assert plan.fits(keras_eds.Budget.parse(budget))
        [model] = result.get_best_models(budget=budget)
        assert bool(packed(model)) == by_row
    assert len(result.get_best_plans(9, budget=0.4)) == 2
    with pytest.raises(BudgetError, match="one that was searched.*40%.*20%"):
        result.get_best_models(budget=0.3)


def test_pruned_is_masked_before_retraining(tmp_path):
    model = build()
    model.fit(*data(), epochs=2, verbose=0)
    plan = found(tmp_path, model).plan_for(0.3)
    small = keras_eds.apply_plan(model, plan)
    for kept in plan:
        layer = model.get_layer(kept.name)
        table = ops.convert_to_numpy(layer.embeddings)
        layer.embeddings.assign(kept.masked(table))
    x = data(64, seed=2)[0]
    np.testing.assert_allclose(
        small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )


def test_a_search_that_ended_is_read_again(tmp_path):
    first, again = found(tmp_path), found(tmp_path)
    assert [r.score for r in first.results()] == [r.score for r in again.results()]
    assert first.get_best_plans(2) == again.get_best_plans(2)


@pytest.mark.parametrize(
    ("warm_start", "alignment"),
    [("tables", "plan"), ("initial", "random"), ("fresh", "plan"), ("all", "fixed")],
)
def test_warm_starts(tmp_path, warm_start, alignment):
    method = PrincipalRows(warm_start=warm_start, alignment=alignment, compare=False)
    result = found(tmp_path, budget=[0.3], method=method)
    assert packed(result.get_best_models()[0])
    assert np.isfinite(result.results()[-1].score)


METHODS_OF_ROWS = ["principal_rows", "sseds", "amtl", "ciess", "random_rows"]


@pytest.mark.parametrize("method", METHODS_OF_ROWS)
def test_a_constraint_is_refused_before_any_work(tmp_path, method):
    table = keras.layers.Embedding(9, 4, embeddings_constraint="non_neg", name="kept")
    model = keras.Sequential([keras.Input((), dtype="int32"), table])
    model.compile("sgd", "mse")
    with pytest.raises(FieldError, match=r"constraint on \['kept'\]"):
        search(tmp_path, model, 0.5, method=method)
    assert not any(tmp_path.iterdir())
    search(tmp_path, model, 0.5, method=SSEDS(basis="columns"), objective="loss")
