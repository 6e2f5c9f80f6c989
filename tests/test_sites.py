"""Which tables are found, what they are called, and which are refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import zoo_models
from keras import layers
from zoo import ZOO, ids

import keras_eds
from keras_eds import Field
from keras_eds.errors import FieldError
from keras_eds.surgery.sites import find_sites

WORD = [("word", 12, 6)]
BOTH = [("user", 12, 6), ("item", 9, 4)]
REDUCED = [("weighed", 12, 6), ("plain", 12, 4)]
TABLES = {
    "functional": BOTH,
    "sequential": WORD,
    "nested": [("tower/deep", 12, 6), ("stack/deep", 9, 4)],
    "subclassed": [
        ("user", 12, 6), ("listed_0", 9, 4), ("listed_1", 8, 5), ("keyed_city", 7, 3),
    ],
    "shared": WORD,
    "multi_hot": [("tag", 12, 6)],
    "mask_zero": WORD,
    "lookups": [("string", 5, 4), ("integer", 5, 4), ("hashed", 5, 4)],
    "feature_space": [("of_age", 9, 4), ("of_bucket", 9, 4), ("of_age_X_bucket", 9, 4)],
    "embed_reduce_sum": REDUCED,
    "embed_reduce_mean": REDUCED,
    "embed_reduce_sqrtn": REDUCED,
    "custom_layer": [("bag/table", 12, 6), ("user", 9, 4)],
    "custom_step": BOTH,
    "own_compile": BOTH,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(ZOO))
def test_finds_every_table_under_a_stable_name(kind, tmp_path):
    model, _, _ = ZOO[kind]()
    fields = keras_eds.find_fields(model)
    found = [(f.name, f.input_dim, f.output_dim) for f in fields]
    if kind == "own_graph":  # Keras numbers what has no name.
        assert [shape for _, *shape in found] == [[12, 6], [9, 4]]
        return
    assert found == TABLES[kind]
    again = ZOO[kind]()[0]
    assert keras_eds.find_fields(again) == fields
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert keras_eds.find_fields(loaded) == fields


def test_a_table_under_two_attributes_is_one_field():
    model = zoo_models.Holder()
    model.alias = model.user
    model.wrapped = layers.TimeDistributed(layers.Embedding(4, 2, name="inside"))
    names = [f.name for f in keras_eds.find_fields(model)]
    assert len(names) == len(set(names)) == 5
    assert "user" in names and "wrapped/layer" in names


def test_tables_of_the_same_name_are_told_apart():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2), layers.Flatten()], name="plain"
    )
    holder = zoo_models.Holder()
    holder.towers = [
        keras.Sequential([layers.Embedding(4, 2, name="e")], name="same"),
        keras.Sequential([layers.Embedding(4, 2, name="e")], name="same"),
    ]
    names = [f.name for f in keras_eds.find_fields(holder)]
    assert names[-2:] == ["towers_0/e", "towers_1/e"]
    with pytest.raises(FieldError, match="must have an embedding table.*plain"):
        keras_eds.find_fields(model)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (None, ["user", "listed_0", "listed_1", "keyed_city"]),
        ("listed", ["listed_0", "listed_1"]),
        ("^(user|keyed)", ["user", "keyed_city"]),
        (["user", r"_1$"], ["user", "listed_1"]),
        (lambda field: field.output_dim < 5, ["listed_0", "keyed_city"]),
        ("user", ["user"]),
    ],
)
def test_filters(filters, names):
    model = ZOO["subclassed"]()[0]
    assert [f.name for f in keras_eds.find_fields(model, filters)] == names


@pytest.mark.parametrize(
    "filters", ["^x", [], ["nobody"], lambda field: False, "(", ["user", "["], 3, [3]]
)
def test_refuses_filters(filters):
    model = ZOO["subclassed"]()[0]
    with pytest.raises(FieldError, match="`filters` must.*Received"):
        keras_eds.find_fields(model, filters)


class OwnCall(layers.Embedding):
    def call(self, inputs):
        return 2 * super().call(inputs)


class PlainSubclass(layers.Embedding):
    """Nothing of its own."""


def one(table):
    inputs = keras.Input((), dtype="int32")
    return keras.Model(inputs, layers.Dense(1)(table(inputs)))


def quantized():
    model = one(layers.Embedding(12, 6, name="table"))
    model.get_layer("table").quantize("int8")
    return model


def with_lora():
    model = one(layers.Embedding(12, 6, name="table"))
    model.get_layer("table").enable_lora(2)
    return model


def tied():
    inputs = keras.Input((), dtype="int32")
    table = layers.ReversibleEmbedding(12, 6, name="table")
    return keras.Model(inputs, table(table(inputs), reverse=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (quantized, "quantized"),
        (with_lora, "LoRA"),
        (tied, "ReversibleEmbedding"),
        (lambda: one(OwnCall(12, 6, name="table")), "OwnCall"),
    ],
)
def test_refuses_tables_that_cannot_be_narrow(build, reason):
    model = build()
    with pytest.raises(FieldError, match=f"'table'.*{reason}.*filters"):
        keras_eds.find_fields(model)
    plan = keras_eds.DimensionPlan.of_sizes([Field("table", 12, 6)], {"table": 2})
    with pytest.raises(FieldError, match=reason):
        keras_eds.apply_plan(model, plan)


def test_takes_a_subclass_with_nothing_of_its_own():
    assert keras_eds.find_fields(one(PlainSubclass(12, 6, name="t")))[0].name == "t"


def test_a_refused_table_can_be_left_out():
    first, second = keras.Input((), dtype="int32"), keras.Input((), dtype="int32")
    parts = [layers.Embedding(9, 4, name="fine")(first), OwnCall(12, 6)(second)]
    model = keras.Model([first, second], layers.Concatenate()(parts))
    assert [f.name for f in keras_eds.find_fields(model, "fine")] == ["fine"]


def test_refuses_two_layers_with_one_variable():
    model = zoo_models.OwnStep()
    model(ids(9, 9))
    model.user._tracker.unlock()
    model.user._embeddings = model.item._embeddings
    with pytest.raises(FieldError, match="'user' and 'item'.*same variable"):
        keras_eds.find_fields(model)


@pytest.mark.parametrize("thing", [None, "model.keras", layers.Dense(1), np.ones(2)])
def test_refuses_what_is_no_model(thing):
    with pytest.raises(FieldError, match="`model` must be a Keras model"):
        keras_eds.find_fields(thing)


def test_sites_hold_the_layers_themselves():
    model = ZOO["subclassed"]()[0]
    layers_found = [site.layer for site in find_sites(model)]
    assert layers_found == [model.user, *model.listed, model.keyed["city"]]
