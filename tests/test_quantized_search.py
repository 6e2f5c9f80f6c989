"""Budgets that count 8-bit integers, and the quantized models that they give."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops
from plans import VARIANTS, field_plan
from search_setup import FIT, ITEMS, USERS, WIDTH, build, data, once, search, validation
from test_row_search import build as build_many

import keras_eds
from keras_eds import DimensionPlan
from keras_eds.errors import FieldError, ProjectError
from keras_eds.surgery.sites import all_tables

WHOLE = 4 * WIDTH * (USERS + ITEMS)


def stored_bytes(model):
    """Bytes of all that the tables of a model hold."""
    total = 0
    for table in all_tables(model).values():
        for variable in table.variables:
            dtype = keras.backend.standardize_dtype(variable.dtype)
            total += int(np.prod(variable.shape)) * np.dtype(dtype).itemsize
    return total


def is_quantized(model):
    tables = all_tables(model).values()
    return all(table.quantization_mode == "int8" for table in tables)


@pytest.mark.parametrize("variant", VARIANTS)
def test_plans_count_what_quantized_tables_hold(variant):
    model = build()
    fields = [replace(f, quantized=True) for f in keras_eds.find_fields(model)]
    plan = DimensionPlan(tuple(field_plan(f, variant) for f in fields))
    small = keras_eds.apply_plan(model, plan)
    in_floats = DimensionPlan(
        tuple(replace(p, field=replace(p.field, quantized=False)) for p in plan)
    )
    assert stored_bytes(small) == in_floats.num_bytes()
    assert stored_bytes(keras_eds.quantize_tables(small)) == plan.num_bytes()
    assert plan.num_parameters() == in_floats.num_parameters()
    assert plan.digest() != in_floats.digest()


def test_a_plan_says_how_its_tables_are_kept(tmp_path):
    fields = [replace(f, quantized=True) for f in keras_eds.find_fields(build())]
    plan = DimensionPlan(tuple(field_plan(f, "rows") for f in fields))
    plan.save(tmp_path / "plan.npz")
    again = DimensionPlan.load(tmp_path / "plan.npz")
    assert again == plan and again.quantized
    assert again.num_bytes() == plan.num_bytes()


@pytest.mark.parametrize("method", ["sseds", "principal_rows", "uniform"])
def test_models_are_quantized_and_within_the_budget(method, tmp_path):
    rows = method == "principal_rows"
    result = search(
        tmp_path,
        build_many if rows else build,
        budget=0.2,
        method=method,
        quantize="int8",
    )
    plain = search(
        tmp_path / "floats", result.hypermodel.source.example, 0.2, method=method
    )
    result.search(*data(), validation_data=validation(), **FIT)
    models, plans = result.get_best_models(2), result.get_best_plans(2)
    ended = {r.plan.digest(): r.score for r in result.results() if r.plan is not None}
    x, y = validation()
    limit = result.budgets[0].limit(plain.fields)
    for model, plan in zip(models, plans, strict=True):
        assert is_quantized(model)
        assert stored_bytes(model) == plan.num_bytes() <= limit
        score = model.evaluate(x, y, verbose=0, return_dict=True)["auc"]
        assert score == pytest.approx(ended[plan.digest()], abs=1e-6)
    if method == "uniform":
        # A byte a value: more than twice as wide, for all that stays in floats.
        sizes = plain.plan_for(0.2).sizes(), plans[0].sizes()
        assert all(sizes[1][name] >= 2 * sizes[0][name] for name in sizes[0])
    path = tmp_path / "small.keras"
    models[0].save(path)
    again = keras.saving.load_model(path)
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), models[0].predict(x, verbose=0)
    )


def test_scores_are_those_of_the_integers(tmp_path):
    """Values that integers cannot hold: one huge row sets the scale of all."""
    model = build()
    model.fit(*data(), epochs=20, verbose=0)
    table = np.array(model.get_layer("user_table").get_weights()[0])
    table[USERS - 1] = 1e6
    model.get_layer("user_table").set_weights([table])
    seen = data()[0]["user"] < USERS - 1
    x, y = ({k: v[seen] for k, v in data()[0].items()}, data()[1][seen])
    # Nothing is learned: the model comes back as it was.
    model.optimizer.learning_rate = 0.0
    result = search(tmp_path, model, 0.25, method="sseds", quantize="int8")
    result.search(x, y, validation_data=(x, y), **FIT)
    floats = keras_eds.apply_plan(model, result.get_best_plans()[0])
    before = floats.evaluate(x, y, verbose=0, return_dict=True)["auc"]
    assert result.results()[-1].score < before - 0.05


@once
def test_amtl_learns_sizes_at_the_price_of_integers(tmp_path):
    result = search(tmp_path, build_many, budget=0.15, method="amtl", quantize="int8")
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    result.search(*data(), validation_data=validation(), callbacks=[log], **FIT)
    whole = sum(field.num_bytes for field in result.fields)
    assert result.get_best_plans()[0].num_bytes() <= 0.15 * whole
    # Expected sizes begin at less than a value an id, and with its index.
    rows = np.genfromtxt(
        next(tmp_path.glob("*learn/log.csv")), delimiter=",", names=True
    )
    assert rows["target_bytes"][0] < 0.05 * whole


@once
def test_a_search_goes_on_only_as_it_was_begun(tmp_path):
    result = search(tmp_path, quantize="int8")
    result.search(*data(), validation_data=validation(), **FIT)
    again = search(tmp_path, quantize="int8")
    assert is_quantized(again.get_best_models()[0])
    with pytest.raises(ProjectError, match="same quantize"):
        search(tmp_path)


@once
def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="`quantize` must be None or 'int8'"):
        search(tmp_path, quantize="int4")

    class Own(keras.layers.Embedding):
        pass

    ids = keras.Input((), dtype="int32")
    outputs = keras.layers.Dense(1)(Own(USERS, WIDTH, name="own")(ids))
    model = keras.Model(ids, outputs)
    model.compile("adam", "mse")
    result = search(tmp_path, model, objective="val_loss", quantize="int8")
    x, y = data()
    with pytest.raises(FieldError, match="own.*cannot be quantized"):
        result.search(x["user"], y, validation_data=(x["user"], y), **FIT)
    assert not result.results()


def test_lookups_match_the_plan(tmp_path):
    """The quantized vectors are those of the plan's own vectors, rounded."""
    model = build()
    model.fit(*data(), verbose=0)
    result = search(tmp_path, model, 0.3, method="sseds", quantize="int8")
    model.optimizer.learning_rate = 0.0
    result.search(*data(), validation_data=validation(), **FIT)
    small, plan = result.get_best_models()[0], result.get_best_plans()[0]
    for name, ids in (("user_table", USERS), ("item_table", ITEMS)):
        full = np.array(model.get_layer(name).get_weights()[0])
        rows = ops.convert_to_numpy(small.get_layer(name)(np.arange(ids)))
        error = np.abs(rows - plan[name].masked(full)).max()
        assert error <= 0.02 * np.abs(full).max()
