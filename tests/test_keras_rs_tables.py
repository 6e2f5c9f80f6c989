from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import keras_eds
from keras_eds.errors import FieldError, PlanError
from keras_eds.keras_rs_tables import write_widths

keras_rs = pytest.importorskip("keras_rs")

SIZES = {"user": 50, "movie": 40, "zip": 10}
RANDOM = np.random.default_rng(0)
X = {name: RANDOM.integers(0, size, 64).astype("int32") for name, size in SIZES.items()}
Y = ((X["user"] % 2) == (X["movie"] % 2)).astype("float32")


def configs(width=8):
    """Two features share the table of movies."""
    tables = {
        name: keras_rs.layers.TableConfig(name, size, width, combiner="mean")
        for name, size in SIZES.items()
    }
    features = {
        name: keras_rs.layers.FeatureConfig(name, table, (None, 1), (None, width))
        for name, table in tables.items()
    }
    features["last"] = keras_rs.layers.FeatureConfig(
        "last", tables["movie"], (None, 1), (None, width)
    )
    return features


def distributed(features, aligned=None):
    """As in keras-rs's DLRM example: tables, pairwise products, a network."""
    inputs = {name: keras.Input((1,), dtype="int32", name=name) for name in features}
    layer = keras_rs.layers.DistributedEmbedding(features, name="embedding")
    rows = list(layer(inputs).values())
    if aligned:
        rows = [keras.layers.Dense(aligned, use_bias=False)(row) for row in rows]
    products = keras_rs.layers.DotInteraction()(rows)
    x = keras.layers.Concatenate()([*rows, products])
    x = keras.layers.Dense(8, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    return model


def distributed_data():
    x = {name: ids[:, None] for name, ids in X.items()}
    return {**x, "last": x["movie"][::-1]}, Y


def cross_network():
    """As in keras-rs's DCN example."""
    inputs = {name: keras.Input((), dtype="int32", name=name) for name in SIZES}
    rows = [keras.layers.Embedding(n, 8)(inputs[name]) for name, n in SIZES.items()]
    x = keras_rs.layers.FeatureCross(projection_dim=4)(ops.concatenate(rows, axis=1))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("adam", "mse")
    return model


@keras.saving.register_keras_serializable("test_keras_rs")
class Rating(keras.Model):
    """As in keras-rs's basic ranking example."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = keras.layers.Embedding(SIZES["user"], 8)
        self.candidate_embedding = keras.layers.Embedding(SIZES["movie"], 8)
        self.ratings = keras.Sequential([keras.layers.Dense(8), keras.layers.Dense(1)])

    def call(self, inputs):
        rows = (
            self.user_embedding(inputs["user"]),
            self.candidate_embedding(inputs["movie"]),
        )
        return self.ratings(ops.concatenate(rows, axis=1))


def rating():
    model = Rating()
    model.compile("adam", "mse")
    model({name: X[name][:1] for name in ("user", "movie")})
    return model


@pytest.mark.parametrize("make", [distributed, cross_network, rating])
def test_models_of_the_examples_are_searched_as_they_are(make, tmp_path):
    model = make(configs()) if make is distributed else make()
    data = distributed_data() if make is distributed else (X, Y)
    search = keras_eds.EDSSearch(
        model, 0.5, method="sseds", seed=0, directory=tmp_path, project_name="s"
    )
    search.search(*data, validation_data=data, batch_size=32, epochs=1, verbose=0)
    plan = search.get_best_plans()[0]
    small = search.get_best_models()[0]
    full = sum(f.num_bytes for f in keras_eds.find_fields(model))
    assert plan.num_bytes() <= 0.5 * full
    saved = (model.count_params() - small.count_params()) * 4
    assert saved == full - plan.num_bytes()
    if make is distributed:
        assert {kept.name for kept in plan} == {f"embedding/{n}" for n in SIZES}


@pytest.mark.parametrize("aligned", [None, 6])
def test_widths_of_a_plan_go_into_the_tables(aligned):
    old = configs()
    fields = keras_eds.find_fields(distributed(old))
    width = {"user": 3, "movie": 5, "zip": 8} if aligned else dict.fromkeys(SIZES, 4)
    sizes = {f.name: width[f.name.split("/")[-1]] for f in fields}
    new = write_widths(old, keras_eds.DimensionPlan.of_sizes(fields, sizes))
    assert {name: f.table.embedding_dim for name, f in new.items()} == {
        **width, "last": width["movie"]
    }  # fmt: skip
    assert all(f.output_shape == (None, f.table.embedding_dim) for f in new.values())
    assert new["last"].table is new["movie"].table
    assert old["user"].table.embedding_dim == 8
    model = distributed(new, aligned)
    model.fit(*distributed_data(), epochs=1, verbose=0)
    shapes = {f.name: (f.input_dim, f.output_dim) for f in keras_eds.find_fields(model)}
    assert shapes == {f"embedding/{n}": (SIZES[n], width[n]) for n in SIZES}


def test_tables_that_are_not_planned_stay():
    field = keras_eds.Field("user", 50, 8)
    new = write_widths(
        configs(), keras_eds.DimensionPlan.of_sizes([field], {"user": 2})
    )
    assert new["user"].table.embedding_dim == 2
    assert new["zip"].table.embedding_dim == 8


def plan_of(*fields, sizes):
    return keras_eds.DimensionPlan.of_sizes(fields, sizes)


@pytest.mark.parametrize("make", [lambda c: c["zip"].table, lambda c: ()])
def test_what_is_no_feature_is_refused(make):
    plan = plan_of(keras_eds.Field("zip", 10, 8), sizes={"zip": 2})
    with pytest.raises(TypeError, match="`feature_configs` must hold.*Received: .+"):
        write_widths({"zip": make(configs())}, plan)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            plan_of(keras_eds.Field("age", 5, 8), sizes={"age": 2}),
            "name tables.*only.*'age'",
        ),
        (
            plan_of(
                keras_eds.Field("zip", 10, 8),
                keras_eds.Field("movi", 40, 8),
                sizes={"zip": 2, "movi": 2},
            ),
            r"name tables.*only. Received: \['movi'\]",
        ),
        (
            plan_of(keras_eds.Field("user", 5, 8), sizes={"user": 2}),
            r"\(5, 8\), where the table has \(50, 8\)",
        ),
        (plan_of(keras_eds.Field("zip", 10, 8), sizes={"zip": 0}), "'zip' no width"),
        (
            keras_eds.DimensionPlan(
                (keras_eds.RowPlan(keras_eds.Field("zip", 10, 8), np.arange(10) % 8),)
            ),
            "'zip' rows of many sizes",
        ),
        (
            plan_of(
                keras_eds.Field("a/zip", 10, 8),
                keras_eds.Field("b/zip", 10, 8),
                sizes={"a/zip": 1, "b/zip": 1},
            ),
            "one table for each name.*'a/zip', 'b/zip'",
        ),
    ],
)
def test_plans_that_cannot_be_written_are_refused(plan, message):
    with pytest.raises(PlanError, match=message):
        write_widths(configs(), plan)


class Retrieval(Rating):
    """As in keras-rs's retrieval examples: the index is the table itself."""

    def build(self, input_shape):
        self.candidate_embedding.build(input_shape)
        self.retrieval = keras_rs.layers.BruteForceRetrieval(k=3)
        self.retrieval.candidate_embeddings = self.candidate_embedding.embeddings
        super().build(input_shape)

    def call(self, inputs):
        scores, _ = self.retrieval(self.user_embedding(inputs["user"]))
        return super().call(inputs) + scores[:, :1]


def test_an_index_that_is_the_table_itself_is_refused(tmp_path):
    model = Retrieval()
    model.compile("adam", "mse")
    model({name: X[name][:1] for name in ("user", "movie")})
    search = keras_eds.EDSSearch(
        model, 0.5, method="sseds", directory=tmp_path, project_name="s"
    )
    with pytest.raises(FieldError, match="candidate_embedding"):
        search.search(X, Y, validation_data=(X, Y), epochs=1, verbose=0)
