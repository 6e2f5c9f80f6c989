from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from export_setup import only_tensorflow, run, small

import keras_eds
from keras_eds.models import DeepFM, FieldSpec
from keras_eds.serving import writers

tf = pytest.importorskip("tensorflow")
pytestmark = only_tensorflow

IDS = 20_000
RANDOM = np.random.default_rng(0)
X = {
    "user": RANDOM.integers(0, IDS, 7).astype("int32"),
    "item": RANDOM.integers(0, 50, 7).astype("int32"),
    "genres": RANDOM.integers(0, 9, (7, 3)).astype("int32"),
}


def full():
    fields = [
        FieldSpec("user", IDS), FieldSpec("item", 50), FieldSpec("genres", 9, True)
    ]  # fmt: skip
    return DeepFM(fields, embedding_dim=15, hidden_units=(8,), seed=0)


def by_field():
    model = full()
    sizes = {f.name: 3 for f in keras_eds.find_fields(model)}
    plan = keras_eds.DimensionPlan.of_sizes(keras_eds.find_fields(model), sizes)
    return keras_eds.apply_plan(model, plan)


def by_row():
    model = full()
    plan = keras_eds.DimensionPlan(
        tuple(
            keras_eds.RowPlan(f, RANDOM.choice([0, 2, 8], f.input_dim))
            for f in keras_eds.find_fields(model)
        )
    )
    return keras_eds.apply_plan(model, plan)


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def weight_bytes(model) -> int:
    kinds = [keras.backend.standardize_dtype(v.dtype) for v in model.variables]
    numbers = [int(np.prod(v.shape)) for v in model.variables]
    each = {"float32": 4, "int32": 4, "int16": 2, "int8": 1, "uint32": 4}
    return sum(n * each[kind] for n, kind in zip(numbers, kinds, strict=True))


@pytest.mark.parametrize(
    ("make", "quantize"),
    [(full, None), (by_field, None), (by_field, "int8"), (by_row, "int8")],
)
@pytest.mark.parametrize("format", ["tf_saved_model", "litert", "onnx"])
def test_files_hold_each_table_once_and_give_the_same(make, format, quantize, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    model = make()
    served = model if quantize is None else keras_eds.quantize_tables(model)
    path = keras_eds.export(model, tmp_path / "file", format, quantize)
    expected = keras.ops.convert_to_numpy(served(X))
    np.testing.assert_allclose(run(path, format, X), expected, atol=1e-5)
    one = {name: values[:1] for name, values in X.items()}
    np.testing.assert_allclose(run(path, format, one), expected[:1], atol=1e-5)
    # The users' smallest table has 60,000 bytes, and operations need some too.
    held = size(path / "variables" if format == "tf_saved_model" else path)
    assert weight_bytes(served) - 200 <= held < weight_bytes(served) + 40_000


def test_a_process_without_keras_serves_the_same(tmp_path):
    model = by_row()
    keras_eds.export(model, tmp_path / "served")
    np.savez(tmp_path / "x.npz", **X)
    code = f"""
import json, sys
for room in ("keras", "tf_keras", "keras_eds"):
    sys.modules[room] = None  # an import of it fails
import numpy as np, tensorflow as tf
served = tf.saved_model.load({str(tmp_path / "served")!r})
x = {{k: tf.constant(v) for k, v in np.load({str(tmp_path / "x.npz")!r}).items()}}
out = served.serve(x).numpy().tolist()
named = served.signatures["serving_default"](**x)
print(json.dumps([out, len(named)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    out, outputs = json.loads(done.stdout.splitlines()[-1])
    assert outputs == 1
    expected = keras.ops.convert_to_numpy(model(X))
    np.testing.assert_allclose(out, expected, atol=1e-5)


def with_text(cut=True):
    words = ["b", "a", "c", "d"]
    text = keras.Input((), dtype="string", name="word")
    ids = keras.layers.StringLookup(vocabulary=words)(text)
    row = keras.layers.Embedding(5, 4, name="word_table")(ids)
    model = keras.Model({"word": text}, keras.layers.Dense(2)(row))
    sizes = {"word_table": 2}
    plan = keras_eds.DimensionPlan.of_sizes(keras_eds.find_fields(model), sizes)
    return keras_eds.apply_plan(model, plan) if cut else model


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_text_is_looked_up_in_the_file(quantize, tmp_path):
    model = with_text()
    path = keras_eds.export(model, tmp_path / "served", quantize=quantize)
    x = {"word": tf.constant(["a", "unknown", "d"])}
    expected = model(x).numpy()
    given = run(path, "tf_saved_model", x)
    np.testing.assert_allclose(given, expected, atol=1e-5 if not quantize else 1e-3)
    assert abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_text_is_refused_where_it_cannot_be_looked_up(format, tmp_path):
    with pytest.raises(ValueError, match=f"'tf_saved_model'.*text.*'{format}'"):
        keras_eds.export(with_text(), tmp_path / "file", format)
    assert not list(tmp_path.iterdir())


def test_a_shared_table_is_written_once(tmp_path):
    table = keras.layers.Embedding(IDS, 16)
    first, second = (keras.Input((), dtype="int32", name=n) for n in ("a", "b"))
    both = keras.layers.Dot(1)([table(first), table(second)])
    model = keras.Model([first, second], both)
    x = [np.arange(3, dtype="int32"), np.arange(3, 6, dtype="int32")]
    for format in ("tf_saved_model", "litert"):
        path = keras_eds.export(model, tmp_path / format, format)
        assert size(path) < IDS * 16 * 4 + 100_000
    given = run(tmp_path / "tf_saved_model", "tf_saved_model", x)
    np.testing.assert_allclose(given, model(x).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "h5"}, "`format` must be one of .*'h5'"),
        ({"quantize": "int4"}, "`quantize` must be None or 'int8'.*'int4'"),
        ({"model": keras.Sequential([keras.layers.Dense(1)])}, "not built"),
        ({"model": "model.keras"}, "no keras.Model"),
    ],
)
def test_bad_arguments_are_named(arguments, message, tmp_path):
    given = {"model": small(), "path": tmp_path / "file", **arguments}
    with pytest.raises(ValueError, match=message):
        keras_eds.export(**given)
    assert not list(tmp_path.iterdir())


def test_other_backends_are_told_where_to_go(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        keras_eds.export(small(), tmp_path / "file")


def test_weights_too_large_for_one_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "LARGEST_FILE", 9 * 2 * 4 - 1)
    with pytest.raises(ValueError, match="weights of 72 bytes.*'litert'.*at most 71"):
        keras_eds.export(small(), tmp_path / "file", "litert")
    assert not list(tmp_path.iterdir())


def test_a_missing_converter_is_named(tmp_path, monkeypatch):
    for missing in ("tf2onnx", "onnx"):
        there = {"tf2onnx", "onnx"} - {missing}
        monkeypatch.setattr(
            writers, "find_spec", lambda name, there=there: name in there or None
        )
        with pytest.raises(ImportError, match=rf"without {missing}\..*keras-eds\[onnx"):
            keras_eds.export(small(), tmp_path / "file", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["export", "quantize"])
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"keras_eds.serving.{name}")
    given = {"keras_eds": keras_eds, "np": np, "tf": tf}
    results = doctest.testmod(module, extraglobs=given)
    assert results.attempted and not results.failed
