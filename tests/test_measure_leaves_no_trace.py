"""A measured model is what it was, bit for bit, also when the pass fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from plans import assert_same_state, state_of
from zoo import ROWS, ZOO

import keras_eds
from keras_eds.surgery.keras_private import all_layers

BACKEND = keras.backend.backend()


class Batches(keras.utils.PyDataset):
    """Batches of a Functional model's data, broken after some."""

    def __init__(self, x, y, good):
        super().__init__()
        self.x, self.y, self.good = x, y, good

    def __len__(self):
        return ROWS // 6

    def __getitem__(self, index):
        if index >= self.good:
            raise OSError("disk gone")
        part = slice(6 * index, 6 * index + 6)
        if isinstance(self.x, dict):
            return {k: v[part] for k, v in self.x.items()}, self.y[part]
        return self.x[part], self.y[part]


def trained(kind="subclassed", **compiling):
    """A model with Dropout and BatchNormalization that was trained a little."""
    keras.utils.set_random_seed(7)
    model, x, y = ZOO[kind]()
    model.compile(
        keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["mae"], **compiling
    )
    model.fit(x, y, shuffle=False, batch_size=8, verbose=0)
    return model, x, y


def fingerprint(model):
    return {
        "layers": [len(layer.variables) for layer in all_layers(model)],
        "trainable": [layer.trainable for layer in all_layers(model)],
        "instance calls": [x.name for x in all_layers(model) if "call" in vars(x)],
        "history": model.history,
        "optimizer": model.optimizer,
        "settings": (model.run_eagerly, model.jit_compile, model.steps_per_execution),
        "stop": model.stop_training,
        "metrics": [np.array(ops.convert_to_numpy(v)) for v in model.metrics_variables],
    }


def assert_same(before, after):
    metrics = before.pop("metrics"), after.pop("metrics")
    np.testing.assert_equal(*metrics)
    assert before == after


def measure_well(model, x, y):
    data = {"x": x, "y": y, "batch_size": 8, "shuffle": False}
    keras_eds.measure(model, data, batches=2)


def measure_broken_data(model, x, y):
    with pytest.raises(Exception, match="disk gone"):
        keras_eds.measure(model, {"x": Batches(x, y, 2), "shuffle": False}, batches=4)


def measure_broken_loss(model, x, y):
    loss, calls = model.compute_loss, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("loss gone")
        return loss(*args, **kwargs)

    model.compute_loss = failing
    try:
        with pytest.raises(RuntimeError, match="loss gone"):
            measure_well(model, x, y)
    finally:
        del model.compute_loss


PASSES = [measure_well, measure_broken_data, measure_broken_loss]


@pytest.mark.parametrize("measuring", PASSES)
@pytest.mark.parametrize("kind", ["subclassed", "functional"])
def test_the_model_and_its_next_training_are_the_same(kind, measuring):
    twin, x, y = trained(kind)
    model, _, _ = trained(kind)
    before, mark = state_of(model), fingerprint(model)
    measuring(model, x, y)
    assert_same_state(before, state_of(model))
    assert_same(mark, fingerprint(model))
    ours = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(ours, twin.evaluate(x, y, verbose=0), rtol=1e-6)
    for each in (model, twin):
        each.fit(x, y, shuffle=False, batch_size=8, epochs=2, verbose=0)
    for one, other in zip(model.variables, twin.variables, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(one), ops.convert_to_numpy(other), atol=1e-6
        )
    assert int(model.optimizer.iterations) == int(twin.optimizer.iterations)


def test_frozen_layers_are_measured_and_stay_frozen():
    model, x, y = trained()
    model.user.trainable = False
    model.head.trainable = False
    model.compile("adam", "binary_crossentropy")
    flags = [v.trainable for v in model.variables]
    data = {"x": x, "y": y, "batch_size": 8, "shuffle": False}
    frozen = keras_eds.measure(model, data, batches=3)
    assert [v.trainable for v in model.variables] == flags
    assert not model.user.trainable and not model.head.trainable
    table = np.array(ops.convert_to_numpy(model.user.embeddings))
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(model.user.embeddings), table)

    thawed, x, y = trained()
    free = keras_eds.measure(thawed, data, batches=3)
    for name in free:
        np.testing.assert_allclose(
            frozen[name].gate_abs, free[name].gate_abs, rtol=1e-4, atol=1e-7
        )


def test_a_frozen_model_is_measured_and_stays_frozen():
    model, x, y = trained()
    model.trainable = False
    model.compile("adam", "binary_crossentropy")
    data = {"x": x, "y": y, "batch_size": 8, "shuffle": False}
    measured = keras_eds.measure(model, data, batches=3)
    assert measured["user"].gate_abs.max() > 0
    assert not model.trainable and not model.trainable_variables


def test_a_model_that_was_never_trained_stays_so():
    model, x, y = ZOO["functional"]()
    before = state_of(model)
    measure_well(model, x, y)
    after = state_of(model)
    assert_same_state(before, after)
    assert int(model.optimizer.iterations) == 0 and not hasattr(model, "history")
    model.fit(x, y, verbose=0)


REPLICAS = """
import json, sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, keras_eds
from keras import layers

def build():
    inputs = keras.Input((), dtype="int32")
    vectors = layers.Embedding(9, 5, name="word")(inputs)
    outputs = layers.Dense(1, use_bias=False, name="head")(vectors)
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.normal(size=variable.shape))
    model.compile("adam", "mse", jit_compile=False)
    return model

random = np.random.default_rng(1)
x = random.integers(0, 9, 2048)
y = random.normal(size=(2048, 1)).astype("float32") + 3.0
data = {"x": x, "y": y, "batch_size": 256, "shuffle": False}
alone = build()
right = keras_eds.measure(alone, data, batches=8)["word"]
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = build()
weights = [w.copy() for w in model.get_weights()]
measured = keras_eds.measure(model, data, batches=8)["word"]
same = all((a == b).all() for a, b in zip(weights, model.get_weights()))
off = {}
for name in [n for n, value in vars(right).items() if value is not None]:
    ours, theirs = np.array(getattr(measured, name)), np.array(getattr(right, name))
    off[name] = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
model.fit(x, y, verbose=0, batch_size=256)
small = keras_eds.apply_plan(
    model, keras_eds.DimensionPlan.of_sizes(keras_eds.find_fields(model), {"word": 2}))
small.fit(x, y, verbose=0, batch_size=256)
print("RESULT" + json.dumps({"same": same, "off": off}))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_measure_what_one_device_does():
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        capture_output=True, text=True, env=env, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.split("RESULT")[1])
    assert result["same"]
    rough = result["off"].pop("gradient_moment")
    assert rough < 0.2, "the same sign on both replicas gives about 1"
    assert result["off"] == {name: pytest.approx(0, abs=1e-4) for name in result["off"]}
