"""A small model for tests of exports, and what runs their files."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras
import pytest

tf = pytest.importorskip("tensorflow")
only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's"
)


def small():
    table = keras.layers.Embedding(9, 2)
    return keras.Sequential([keras.Input((), dtype="int32"), table])


def run(path: Path, format: str, x):
    """The outputs of a file, by what is made to run it."""
    if format == "tf_saved_model":
        loaded = tf.saved_model.load(str(path))
        return loaded.serve(x).numpy()
    if format == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
        return session.run(None, x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it names its successor
        runner = tf.lite.Interpreter(str(path)).get_signature_runner()
        return next(iter(runner(**x).values()))
