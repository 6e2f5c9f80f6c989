"""Lookups by rows change what a step costs and nothing else."""

from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import ops
from zoo import ZOO

import keras_eds
from keras_eds.errors import FieldError
from keras_eds.optimizers import LazyAdagrad, LazyAdam

TENSORFLOW = keras.backend.backend() == "tensorflow"
ROWS, WIDTH = 50, 6


def two_tables(optimizer="sgd", **kwargs):
    keras.utils.set_random_seed(3)
    left = keras.Input((2,), dtype="int32", name="left")
    right = keras.Input((), name="right")  # float ids are cast, as Keras casts them
    e = keras.layers.Embedding(ROWS, WIDTH, mask_zero=True, name="bag")(left)
    f = keras.layers.Embedding(ROWS, WIDTH, name="one")(right)
    pooled = keras.layers.GlobalAveragePooling1D()(e)
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([pooled, f]))
    model = keras.Model([left, right], outputs)
    model.compile(optimizer, "mse", metrics=["mae"], **kwargs)
    return model


def data(rows=32, seed=0):
    random = np.random.default_rng(seed)
    x = [random.integers(0, ROWS, (rows, 2)), random.integers(0, ROWS, rows)]
    y = random.normal(size=(rows, 1)).astype("float32")
    return [x[0].astype("int32"), x[1].astype("float32")], y


def values(model):
    return [ops.convert_to_numpy(variable) for variable in model.variables]


def config_in_file(model, path):
    model.save(path)
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("config.json"))


@pytest.mark.parametrize("kind", ZOO)
def test_outputs_and_config_stay(kind):
    model, x, _ = ZOO[kind]()
    before = ops.convert_to_numpy(model(x))
    config = keras.saving.serialize_keras_object(model)
    variables = [id(variable) for variable in model.variables]
    assert keras_eds.use_sparse_lookups(model) is model
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), before)
    assert [id(variable) for variable in model.variables] == variables
    assert keras.saving.serialize_keras_object(model) == config


def test_training_and_the_file_are_the_same(tmp_path):
    stock, sparse = two_tables(), two_tables()
    x, y = data()
    stock.fit(x, y, epochs=1, verbose=0)  # a function is traced before the call
    sparse.fit(x, y, epochs=1, verbose=0)
    config = config_in_file(sparse, tmp_path / "before.keras")
    keras_eds.use_sparse_lookups(sparse)
    assert config_in_file(sparse, tmp_path / "after.keras") == config
    for model in (stock, sparse):
        model.fit(x, y, epochs=2, verbose=0)
    for ours, theirs in zip(values(sparse), values(stock), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    sparse.save(tmp_path / "trained.keras")
    loaded = keras.saving.load_model(tmp_path / "trained.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), sparse.predict(x, verbose=0), rtol=1e-6
    )


@pytest.mark.skipif(not TENSORFLOW, reason="elsewhere a lookup copies no table")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_no_whole_table_is_read(policy):
    import tensorflow as tf

    def whole_tables(model):
        function = tf.function(lambda x: model(x, training=True))
        graph = function.get_concrete_function(data()[0]).graph
        shapes = [tuple(t.shape) for op in graph.get_operations() for t in op.outputs
                  if t.shape.rank is not None]  # fmt: skip
        return shapes.count((ROWS, WIDTH))

    keras.config.set_dtype_policy(policy)
    try:
        model = two_tables()
    finally:
        keras.config.set_dtype_policy("float32")
    assert whole_tables(model) > 0
    assert whole_tables(keras_eds.use_sparse_lookups(model)) == 0


@pytest.mark.skipif(not TENSORFLOW, reason="elsewhere a lookup copies no table")
def test_embed_reduce_reads_rows_and_still_takes_sparse_ids():
    import keras_rs
    import tensorflow as tf

    layer = keras_rs.layers.EmbedReduce(ROWS, WIDTH, combiner="sqrtn")
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    ids = tf.constant([[1, 1, 4], [0, 2, 9]])
    weights = tf.constant([[0.5, 2.0, 1.0], [1.0, 0.0, 3.0]])
    sparse = tf.sparse.from_dense(ids)
    expected = [layer(ids), layer(ids, weights), layer(sparse)]
    keras_eds.use_sparse_lookups(model)
    for inputs, wanted in zip(
        [(ids,), (ids, weights), (sparse,)], expected, strict=True
    ):
        np.testing.assert_allclose(layer(*inputs), wanted, rtol=1e-6)
    graph = tf.function(layer.call).get_concrete_function(ids, weights).graph
    assert "ReadVariableOp" not in {op.type for op in graph.get_operations()}


@pytest.mark.parametrize(
    ("stock", "lazy"), [("Adam", LazyAdam), ("Adagrad", LazyAdagrad)]
)
def test_lazy_optimizer_takes_over(stock, lazy):
    optimizer = getattr(keras.optimizers, stock)(0.05, weight_decay=0.01)
    model, (x, y) = two_tables(optimizer), data()
    model.fit(x, y, epochs=2, verbose=0)
    before, slots = values(model), [v.numpy() for v in model.optimizer.variables]
    keras_eds.use_sparse_lookups(model, lazy_optimizer=True)
    assert type(model.optimizer) is lazy
    config = {**optimizer.get_config(), "name": None}
    assert {**model.optimizer.get_config(), "name": None} == config
    for ours, theirs in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(model.optimizer.variables, slots, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    model.fit(x, y, verbose=0)
    assert int(model.optimizer.iterations) == 3


def test_lazy_optimizer_under_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, (x, y) = two_tables("adam"), data()
        model.fit(x, y, verbose=0)
        keras_eds.use_sparse_lookups(model, lazy_optimizer=True)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert type(model.optimizer.inner_optimizer) is LazyAdam
        model.fit(x, y, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "optimizer", ["sgd", keras.optimizers.Adam(use_ema=True), keras.optimizers.Nadam()]
)
def test_refused_before_anything_changes(optimizer):
    model = two_tables(optimizer)
    before = model.optimizer
    with pytest.raises(ValueError, match=r"`(lazy_optimizer|use_ema)`"):
        keras_eds.use_sparse_lookups(model, lazy_optimizer=True)
    assert model.optimizer is before
    assert all("call" not in vars(layer) for layer in model.layers)


def test_a_model_without_tables_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(FieldError, match="embedding table"):
        keras_eds.use_sparse_lookups(model)


def test_measuring_takes_nothing_away():
    model, (x, y) = two_tables("adam"), data()
    expected = keras_eds.measure(model, {"x": x, "y": y}, batches=1)
    keras_eds.use_sparse_lookups(model)
    calls = [vars(layer).get("call") for layer in model.layers]
    measured = keras_eds.measure(model, {"x": x, "y": y}, batches=1)
    assert [vars(layer).get("call") for layer in model.layers] == calls
    for name in ("bag", "one"):
        np.testing.assert_allclose(
            measured[name].gate_abs, expected[name].gate_abs, rtol=1e-5
        )
