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
