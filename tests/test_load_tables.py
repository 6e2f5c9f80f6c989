"""Tables that start from vectors learned elsewhere."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from search_setup import ITEMS, USERS, WIDTH, build, data

import keras_eds
from keras_eds.errors import FieldError


def table(model, name):
    return np.array(ops.convert_to_numpy(model.get_layer(name).embeddings))


def test_values_of_arrays_and_of_another_model():
    model, other = build(), build()
    item = table(model, "item_table")
    user = np.random.default_rng(0).normal(size=(USERS, WIDTH))
    assert keras_eds.load_tables(model, {"user_table": user}) is model
    np.testing.assert_allclose(table(model, "user_table"), user, rtol=1e-6)
    np.testing.assert_array_equal(table(model, "item_table"), item)
    keras_eds.load_tables(other, model)
    for name in ("user_table", "item_table"):
        np.testing.assert_array_equal(table(other, name), table(model, name))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"film_table": np.zeros((ITEMS, WIDTH))}, "Received: .'film_table'., but"),
        ({}, "Received: nothing"),
        ({"item_table": np.zeros((ITEMS, 3))}, r"shape \(25, 8\) for table 'item"),
        ({"item_table": np.full((ITEMS, WIDTH), "a")}, "must have numbers"),
        ({"item_table": np.full((ITEMS, WIDTH), np.nan)}, "200 values that are not"),
    ],
)
def test_bad_sources_change_nothing(source, message):
    model = build()
    before = [table(model, name) for name in ("user_table", "item_table")]
    good = {"user_table": np.zeros((USERS, WIDTH))} if source else {}
    with pytest.raises(FieldError, match=message):
        keras_eds.load_tables(model, {**good, **source})
    after = [table(model, name) for name in ("user_table", "item_table")]
    np.testing.assert_array_equal(np.concatenate(before), np.concatenate(after))


def test_models_that_share_nothing_or_are_not_built():
    lazy = keras.Sequential([keras.layers.Embedding(9, 4, name="user_table")])
    with pytest.raises(FieldError, match="`source` must be built"):
        keras_eds.load_tables(build(), lazy)
    with pytest.raises(FieldError, match="`model` must be built"):
        keras_eds.load_tables(lazy, {"user_table": np.zeros((9, 4))})
    with pytest.raises(FieldError, match="must name tables"):
        keras_eds.load_tables(
            build(), keras.Sequential([keras.layers.Embedding(9, 4, name="word")])
        )


def cut():
    model = build()
    kept = [f for f in keras_eds.find_fields(model) if f.name == "item_table"]
    plan = keras_eds.DimensionPlan.of_sizes(kept, {"item_table": 2})
    return keras_eds.apply_plan(model, plan)


def with_lora():
    model = build()
    model.get_layer("item_table").enable_lora(2)
    return model


def quantized():
    return keras_eds.quantize_tables(build())


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (cut, "is cut .PrunedFieldEmbedding"),
        (quantized, "is quantized .int8"),
        (with_lora, "has LoRA enabled"),
    ],
)
def test_tables_that_are_not_plain_are_neither_read_nor_written(make, state):
    changed, model = make(), build()
    before = changed.get_weights(), model.get_weights()
    with pytest.raises(FieldError, match=f"`source` must have plain.* {state}"):
        keras_eds.load_tables(model, changed)
    values = {"item_table": np.ones((ITEMS, WIDTH))}
    for source in (model, values):
        with pytest.raises(FieldError, match=f"`model` must have plain.* {state}"):
            keras_eds.load_tables(changed, source)
    after = changed.get_weights(), model.get_weights()
    for old, new in zip(sum(before, []), sum(after, []), strict=True):
        np.testing.assert_array_equal(old, new)


def one_table(dtype):
    ids = keras.Input((), dtype="int32")
    return keras.Model(ids, keras.layers.Embedding(9, 4, name="t", dtype=dtype)(ids))


def test_half_precision_tables_are_loaded():
    values = np.arange(36.0).reshape(9, 4) / 4  # exact in 8 bits
    one, other = one_table("bfloat16"), one_table("bfloat16")
    keras_eds.load_tables(one, {"t": values})
    keras_eds.load_tables(other, one)
    rows = ops.convert_to_numpy(ops.cast(other(np.arange(9)), "float32"))
    np.testing.assert_array_equal(rows, values)


@pytest.mark.parametrize(("dtype", "large"), [("float32", 1e300), ("float16", 1e5)])
def test_values_too_large_for_the_table_are_refused(dtype, large):
    values = np.full((9, 4), large)
    with pytest.raises(FieldError, match=f"36 values that are not, as {dtype}"):
        keras_eds.load_tables(one_table(dtype), {"t": values})


@pytest.mark.parametrize(
    ("source", "ids", "message"),
    [
        ("fm.keras", None, "`source` must be a mapping or a model.*'fm.keras'"),
        ({"t": {"a": np.ones(4)}}, ["t"], "`ids` must be a mapping.*list"),
        ({"t": {"a": np.ones(4)}}, {"t": ["a"]}, r"`ids\['t'\]` must be a mapping"),
    ],
)
def test_what_is_no_mapping_is_named(source, ids, message):
    with pytest.raises(FieldError, match=message):
        keras_eds.load_tables(one_table("float32"), source, ids)


def test_a_search_starts_from_loaded_tables(tmp_path):
    vectors = np.random.default_rng(1).normal(size=(USERS, WIDTH)).astype("float32")
    model = keras_eds.load_tables(build(), {"user_table": vectors})
    model.optimizer.learning_rate = 0.0
    search = keras_eds.EDSSearch(
        model, 0.5, method="amtl", objective="val_auc", directory=tmp_path,
        project_name="p",
    )  # fmt: skip
    search.search(*data(), validation_data=data(128, 1), epochs=1, verbose=0)
    plan, small = search.get_best_plans()[0], search.get_best_models()[0]
    rows = ops.convert_to_numpy(small.get_layer("user_table")(np.arange(USERS)))
    np.testing.assert_allclose(rows, plan["user_table"].masked(vectors), atol=1e-6)


VECTORS = {f"m{i}": np.full(WIDTH, float(i)) for i in range(1, 6)}


@pytest.mark.parametrize("missing", ["error", "keep"])
def test_vectors_find_their_rows_by_token(missing):
    model = build()
    before = table(model, "item_table")
    ids = {"m3": 7, "m1": 2}  # "m2" and others have no row
    keras_eds.load_tables(
        model, {"item_table": VECTORS}, ids={"item_table": ids}, missing=missing
    )
    expected = before.copy()
    expected[7], expected[2] = 3.0, 1.0
    np.testing.assert_array_equal(table(model, "item_table"), expected)


def test_ids_without_vector_keep_their_values_if_asked():
    model = build()
    before = table(model, "item_table")
    source = {"item_table": VECTORS, "user_table": np.ones((USERS, WIDTH))}
    ids = {"item_table": {"m5": 0, "unheard of": 1}}
    keras_eds.load_tables(model, source, ids, missing="keep")
    expected = before.copy()
    expected[0] = 5.0
    np.testing.assert_array_equal(table(model, "item_table"), expected)
    np.testing.assert_array_equal(table(model, "user_table"), 1.0)


@pytest.mark.parametrize(
    ("vectors", "ids", "missing", "message"),
    [
        (VECTORS, {"m1": 1, "x": 2}, "error", r"none for 1 of 2, such as \['x'\]"),
        (VECTORS, {1: 1, 2: 2}, "keep", "1193 is not '1193'"),
        (VECTORS, {"m1": ITEMS}, "error", "from 0 to 24. Received: 1 ids from 25"),
        (VECTORS, {"m1": -1}, "error", "from -1 to -1"),
        (VECTORS, {"m1": 1.5}, "error", "dtype float64"),
        (VECTORS, {}, "error", "Received: 0 ids of dtype"),
        (VECTORS, {"m1": 3, "m2": 3}, "error", "id 3 for 2 tokens"),
        (VECTORS, None, "error", r"ids for \[\], but tokens for \['item_table'\]"),
        ({"m1": np.ones(3)}, {"m1": 1}, "error", r"8 numbers .* shape \(3,\)"),
        ({"m1": ["a"] * WIDTH}, {"m1": 1}, "error", "dtype <U1"),
        ({"m1": np.full(WIDTH, np.nan)}, {"m1": 1}, "keep", "8 values that are not"),
        (VECTORS, {"m1": 1}, "ignore", "missing='ignore'"),
    ],
)
def test_bad_vectors_change_nothing(vectors, ids, missing, message):
    model = build()
    before = [table(model, name) for name in ("user_table", "item_table")]
    source = {"user_table": np.zeros((USERS, WIDTH)), "item_table": vectors}
    given = None if ids is None else {"item_table": ids}
    with pytest.raises(FieldError, match=message):
        keras_eds.load_tables(model, source, given, missing)
    after = [table(model, name) for name in ("user_table", "item_table")]
    np.testing.assert_array_equal(np.concatenate(before), np.concatenate(after))
