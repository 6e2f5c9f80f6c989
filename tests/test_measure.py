"""What is measured, against formulas in plain NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from zoo import ROWS, ZOO, ids, labels

import keras_eds
from keras_eds.errors import DataError, FieldError, StageError
from keras_eds.surgery import gate

WIDTH = 5


def linear(mask_zero=False, pooled=False, dtype=None, optimizer="sgd", **compiling):
    """sum over places of e . w, squared error: every gradient is known."""
    inputs = keras.Input((None,) if pooled else (), dtype="int32")
    options = {"mask_zero": mask_zero, "name": "word", "dtype": dtype}
    vectors = layers.Embedding(9, WIDTH, **options)(inputs)
    if pooled:
        vectors = layers.GlobalAveragePooling1D()(vectors)
    outputs = layers.Dense(1, use_bias=False, name="head", dtype="float32")(vectors)
    model = keras.Model(inputs, outputs)
    compiling.setdefault("loss", "mse")
    model.compile(optimizer, **compiling)
    random = np.random.default_rng(0)
    model.get_layer("word").embeddings.assign(random.normal(size=(9, WIDTH)))
    model.get_layer("head").kernel.assign(random.normal(size=(WIDTH, 1)))
    return model


def expected(model, x, y, batch, weights=None, masked=False):
    """Moments and gate gradients of `linear`, batch by batch."""
    table = np.array(ops.convert_to_numpy(model.get_layer("word").embeddings))
    kernel = np.array(ops.convert_to_numpy(model.get_layer("head").kernel))[:, 0]
    weights = np.ones(len(x)) if weights is None else np.asarray(weights)
    x = x.reshape(len(x), -1)
    gates, outer = [], np.zeros((WIDTH, WIDTH))
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        e = table[x[part]].astype("float64")
        real = (x[part] != 0) if masked else np.ones(x[part].shape)
        share = real / np.maximum(real.sum(axis=1, keepdims=True), 1)
        error = np.einsum("bld,bl,d->b", e, share, kernel) - y[part, 0]
        slope = 2.0 * error * weights[part] / len(e)
        g = slope[:, None, None] * share[..., None] * kernel
        gates.append((e * g).sum(axis=(0, 1)))
        outer += np.einsum("bld,ble->de", g, g)
    looked_up = table[x[x != 0] if masked else x.ravel()].astype("float64")
    return {
        "gate_sum": np.sum(gates, axis=0),
        "gate_abs": np.sum(np.abs(gates), axis=0),
        "mean": looked_up.mean(axis=0),
        "second_moment": looked_up.T @ looked_up / len(looked_up),
        "gradient_moment": outer,
        "lookups": len(looked_up),
    }


def assert_measured(measured, right, rtol=1e-4):
    for name, value in right.items():
        got = getattr(measured, name)
        scale = rtol * np.abs(value).max()
        np.testing.assert_allclose(got, value, atol=scale, rtol=rtol, err_msg=name)


def batches_of(x, y, size, **more):
    return {"x": x, "y": y, "batch_size": size, "shuffle": False, **more}


def test_single_lookups():
    model, x, y = linear(), ids(9)[:, 0], labels()
    measured = keras_eds.measure(model, batches_of(x, y, 8), batches=3)["word"]
    assert_measured(measured, expected(model, x, y, 8))
    c = expected(model, x, y, 8)
    right = c["second_moment"] - np.outer(c["mean"], c["mean"])
    np.testing.assert_allclose(measured.covariance(), right, atol=1e-5)


def test_gates_are_the_derivative_of_the_loss():
    model, x, y = linear(), ids(9)[:, 0], labels()
    measured = keras_eds.measure(model, batches_of(x, y, ROWS), batches=1)["word"]
    table = np.array(ops.convert_to_numpy(model.get_layer("word").embeddings))
    for column in range(WIDTH):
        losses = []
        for step in (1e-2, -1e-2):
            changed = table.copy()
            changed[:, column] *= 1 + step
            model.get_layer("word").embeddings.assign(changed)
            losses.append(model.evaluate(x, y, batch_size=ROWS, verbose=0))
        slope = (losses[0] - losses[1]) / 2e-2
        assert measured.gate_sum[column] == pytest.approx(slope, abs=2e-3)


@pytest.mark.parametrize("mask_zero", [True, False])
def test_multi_hot_with_and_without_padding(mask_zero):
    model, y = linear(mask_zero=mask_zero, pooled=True), labels()
    x = np.sort(ids(3, 5, 9), axis=1)
    right = expected(model, x, y, 8, masked=mask_zero)
    measured = keras_eds.measure(model, batches_of(x, y, 8), batches=3)["word"]
    assert_measured(measured, right)


def test_sample_and_class_weights_count():
    model, x, y = linear(), ids(9)[:, 0], labels()
    weights = np.random.default_rng(2).uniform(0, 3, ROWS).astype("float32")
    data = batches_of(x, y, 8, sample_weight=weights)
    measured = keras_eds.measure(model, data, batches=3)["word"]
    assert_measured(measured, expected(model, x, y, 8, weights))
    data = batches_of(x, y, 8, class_weight={0: 0.5, 1: 3.0})
    measured = keras_eds.measure(model, data, batches=3)["word"]
    assert_measured(measured, expected(model, x, y, 8, np.where(y[:, 0] == 1, 3, 0.5)))


def relative_error(measured, right):
    difference = measured.gradient_moment - right["gradient_moment"]
    return np.linalg.norm(difference) / np.linalg.norm(right["gradient_moment"])


def test_batches_larger_than_the_probe_are_right_on_average(monkeypatch):
    monkeypatch.setattr(gate, "PROBE_ROWS", 16)
    random = np.random.default_rng(3)
    x, y = random.integers(0, 9, 4096), random.normal(size=(4096, 1)) + 3.0
    model = linear()
    # 256 vectors fall on each row; unsigned sums would be 100 times too large.
    measured = keras_eds.measure(model, batches_of(x, y, 512), batches=8)["word"]
    right = expected(model, x, y, 512)
    assert relative_error(measured, right) < 0.35
    del right["gradient_moment"]
    assert_measured(measured, right, rtol=1e-3)


def two_places(nested):
    """One table read at two places, where both gradients of a row are equal."""
    table = layers.Embedding(9, WIDTH, name="word")
    one = keras.Input((), dtype="int32")
    tower = keras.Model(one, table(one), name="tower") if nested else table
    left, right = keras.Input((), dtype="int32"), keras.Input((), dtype="int32")
    total = layers.Add()([tower(left), tower(right)])
    outputs = layers.Dense(1, use_bias=False, name="head")(total)
    model = keras.Model([left, right], outputs)
    model.compile("sgd", "mse")
    return model, table


@pytest.mark.parametrize("nested", [True, False])
def test_a_table_read_at_two_places_has_the_moments_of_both(nested):
    model, table = two_places(nested)
    random = np.random.default_rng(4)
    left, right = random.integers(0, 9, (2, 2048))
    y = random.normal(size=(2048, 1)).astype("float32")
    data = batches_of([left, right], y, 256)
    measured = list(keras_eds.measure(model, data, batches=8).values())[0]
    values = np.array(ops.convert_to_numpy(table.embeddings), "float64")
    kernel = np.array(ops.convert_to_numpy(model.get_layer("head").kernel))[:, 0]
    error = (values[left] + values[right]) @ kernel - y[:, 0]
    moment = 2 * np.sum((2 * error / 256) ** 2) * np.outer(kernel, kernel)
    assert relative_error(measured, {"gradient_moment": moment}) < 0.2
    assert measured.lookups == 2 * 2048


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    optimizer = keras.optimizers.SGD(0.1)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model, x, y = linear(dtype=policy, optimizer=optimizer), ids(9)[:, 0], labels()
    measured = keras_eds.measure(model, batches_of(x, y, 8), batches=3)["word"]
    assert_measured(measured, expected(model, x, y, 8), rtol=0.03)
    assert model.optimizer is optimizer


def test_the_settings_of_compile_do_not_matter():
    right = None
    for options in ({"jit_compile": True}, {"run_eagerly": True}, {}):
        if keras.backend.backend() == "torch" and "jit_compile" in options:
            continue  # It would need a C++ compiler.
        model, x, y = linear(**options), ids(9)[:, 0], labels()
        settings = (model.run_eagerly, model.jit_compile, model.steps_per_execution)
        measured = keras_eds.measure(model, batches_of(x, y, 8), batches=3)["word"]
        right = right or expected(model, x, y, 8)
        assert_measured(measured, right)
        after = (model.run_eagerly, model.jit_compile, model.steps_per_execution)
        assert after == settings


@pytest.mark.parametrize("kind", list(ZOO))
def test_every_kind_of_model_can_be_measured(kind):
    model, x, y = ZOO[kind]()
    measured = keras_eds.measure(model, batches_of(x, y, 12), batches=2)
    assert list(measured) == [f.name for f in keras_eds.find_fields(model)]
    for values in measured.values():
        assert values.gate_abs.min() > 0 and values.lookups >= ROWS / 2
        assert np.trace(values.gradient_moment) > 0


def test_a_train_step_of_its_own_is_used():
    model, x, y = ZOO["custom_step"]()
    doubled = keras_eds.measure(model, batches_of(x, y, 12), batches=2)
    model.train_step = super(type(model), model).train_step
    plain = keras_eds.measure(model, batches_of(x, y, 12), batches=2)
    for name, values in doubled.items():
        np.testing.assert_allclose(
            values.gate_sum, 2 * plain[name].gate_sum, rtol=1e-3, atol=1e-6
        )


def test_filters_and_refusals():
    model, x, y = ZOO["functional"]()
    data = batches_of(x, y, 12)
    assert list(keras_eds.measure(model, data, 1, filters="user")) == ["user"]
    x = {name: part[:0] for name, part in x.items()}
    with pytest.raises(DataError, match="batch"):
        keras_eds.measure(model, batches_of(x, y[:0], 12))
    with pytest.raises(FieldError, match="compile"):
        keras_eds.measure(keras.Model(model.inputs, model.outputs), data)
    data = batches_of(ids(9)[:, 0], np.full((ROWS, 1), np.nan), 12)
    with pytest.raises(StageError, match="finite"):
        keras_eds.measure(linear(), data, 1)
