"""A tiny model and data for tests of searches, also for child processes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_eds

USERS, ITEMS, WIDTH = 40, 25, 8
# What Adam and binary cross-entropy of one batch cost is tracing, not training.
EAGER = keras.backend.backend() != "jax"
once = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same on every backend"
)
FIT = {"epochs": 2, "batch_size": 64, "verbose": 0}


def data(rows=256, seed=0):
    """Ids of two fields, and labels that depend on both."""
    random = np.random.default_rng(seed)
    x = {
        "user": random.integers(0, USERS, rows).astype("int32"),
        "item": random.integers(0, ITEMS, rows).astype("int32"),
    }
    logit = 2.0 * (x["user"] % 2) + 1.5 * (x["item"] % 3 == 0) - 1.5
    y = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype("float32")
    return x, y[:, None]


def validation():
    return data(128, seed=1)


def build(named=True, metric="auc", loss="binary_crossentropy"):
    """A compiled Functional model; unnamed, Keras numbers its layers."""
    names = {key: f"{key}_table" if named else None for key in ("user", "item")}
    inputs = {key: keras.Input((), dtype="int32", name=key) for key in names}
    vectors = [
        keras.layers.Embedding(USERS, WIDTH, name=names["user"])(inputs["user"]),
        keras.layers.Embedding(ITEMS, WIDTH, name=names["item"])(inputs["item"]),
    ]
    hidden = keras.layers.Dense(4, activation="relu")(
        keras.layers.Concatenate()(vectors)
    )
    outputs = keras.layers.Dense(1, activation="sigmoid", dtype="float32")(hidden)
    model = keras.Model(inputs, outputs)
    metrics = [keras.metrics.AUC(name=metric)] if named else [keras.metrics.AUC()]
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=metrics, run_eagerly=EAGER)
    return model


def search(directory, model=build, budget=0.5, **options):
    """A search that is seeded and keeps its project in `directory`."""
    options = {
        "method": "sseds",
        "seed": 1,
        "project_name": "p",
        "objective": "val_auc",
        **options,
    }
    return keras_eds.EDSSearch(model, budget, directory=directory, **options)


def snapshot(model):
    """Everything of a model that a search must not change."""
    optimizer = model.optimizer
    return {
        "weights": [np.array(w) for w in model.get_weights()],
        "trainable": [v.trainable for v in model.variables],
        "slots": [np.array(keras.ops.convert_to_numpy(v)) for v in optimizer.variables],
        "layers": [type(layer) for layer in model.layers],
        "eager": model.run_eagerly,
    }


def same(before, after):
    """Whether two snapshots are equal, bit for bit."""
    for key in before:
        for one, other in (
            zip(before[key], after[key], strict=True)
            if isinstance(before[key], list)
            else [(before[key], after[key])]
        ):
            if not np.array_equal(one, other):
                return False
    return True
