"""An export stands whole where it should, or not at all."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
from export_setup import only_tensorflow, run, small

import keras_eds
from keras_eds.errors import ExportError
from keras_eds.serving import destination, writers

tf = pytest.importorskip("tensorflow")
pytestmark = only_tensorflow


def test_what_exists_is_replaced_only_on_demand(tmp_path):
    first, second = small(), small()
    path = keras_eds.export(first, tmp_path / "served")
    with pytest.raises(FileExistsError, match="`path`.*overwrite=True"):
        keras_eds.export(second, path)
    ids = np.arange(3, dtype="int32")
    np.testing.assert_array_equal(run(path, "tf_saved_model", ids), first(ids).numpy())
    keras_eds.export(second, path, overwrite=True)
    np.testing.assert_array_equal(run(path, "tf_saved_model", ids), second(ids).numpy())
    file = keras_eds.export(first, tmp_path / "file", "litert")
    keras_eds.export(second, file, "litert", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "served"]


def test_nothing_but_exports_is_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("long")
    (tmp_path / "note").write_text("short")
    for name in ("assets", "variables"):
        (tmp_path / f"only_{name}" / name).mkdir(parents=True)
        (tmp_path / f"only_{name}" / name / "thesis.txt").write_text("long")
    small().save(tmp_path / "model.keras")
    served = keras_eds.export(small(), tmp_path / "served")
    (served / "thesis.txt").write_text("long")
    before = contents(tmp_path)
    for name, format, reason in (
        ("mine", "tf_saved_model", "other things"),
        ("served", "tf_saved_model", "other things"),
        ("only_assets", "tf_saved_model", "other things"),
        ("only_variables", "tf_saved_model", "other things"),
        ("mine", "litert", "is a folder"),
        ("note", "tf_saved_model", "is a file"),
        ("note", "litert", "of another kind"),
        ("note/below/it", "litert", "note' is a file"),
        ("model.keras", "litert", "of another kind"),
        ("model.keras", "onnx", "of another kind"),
    ):
        with pytest.raises(FileExistsError, match=reason):
            keras_eds.export(small(), tmp_path / name, format, overwrite=True)
    assert contents(tmp_path) == before


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "served").mkdir()
    path = keras_eds.export(small(), tmp_path / "served", overwrite=True)
    assert (path / "saved_model.pb").exists()


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_files_are_replaced_by_either_format(format, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    path = keras_eds.export(small(), tmp_path / "file", format)
    model, ids = small(), np.arange(3, dtype="int32")
    keras_eds.export(model, path, "litert", overwrite=True)
    given = run(path, "litert", {"inputs": ids})
    np.testing.assert_array_equal(given, model(ids).numpy())


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(error, tmp_path, monkeypatch):
    model, ids = small(), np.arange(3, dtype="int32")
    path = keras_eds.export(model, tmp_path / "served")

    def half(traced, signature, place):
        place.mkdir()
        (place / "saved_model.pb").write_text("half")
        raise error("disk full")

    monkeypatch.setitem(writers.WRITERS, "tf_saved_model", half)
    for name in ("served", "other", "new/folders/other"):
        with pytest.raises(error, match="disk full"):
            keras_eds.export(small(), tmp_path / name, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["served"]
    np.testing.assert_array_equal(run(path, "tf_saved_model", ids), model(ids).numpy())


@pytest.mark.parametrize("stopped", [1, 2, (2, 3)])
def test_ctrl_c_between_the_old_and_the_new_loses_neither(
    stopped, tmp_path, monkeypatch
):
    model, ids = small(), np.arange(3, dtype="int32")
    path = keras_eds.export(model, tmp_path / "served")
    real, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if stopped == 1:  # just after the old one was put aside
            real(source, target)
        if len(calls) in np.atleast_1d(stopped):
            raise KeyboardInterrupt
        if stopped != 1:
            real(source, target)

    monkeypatch.setattr(destination.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keras_eds.export(small(), path, overwrite=True)
    if stopped == (2, 3):  # nor is it put back: it stands where it was put aside
        (path,) = tmp_path.glob(".served-*/old")
    else:
        assert [p.name for p in tmp_path.iterdir()] == ["served"]
    np.testing.assert_array_equal(run(path, "tf_saved_model", ids), model(ids).numpy())


def test_a_link_stays_a_link(tmp_path):
    link = tmp_path / "now"
    link.symlink_to(tmp_path / "version_1")
    for overwrite in (False, True):
        assert keras_eds.export(small(), link, "litert", overwrite=overwrite) == link
        assert link.is_symlink() and (tmp_path / "version_1").is_file()


def test_new_folders_stay_with_what_they_hold(tmp_path):
    path = keras_eds.export(small(), tmp_path / "new" / "folder" / "served")
    assert (path / "saved_model.pb").exists()


@keras.saving.register_keras_serializable("test_export")
class Splits(keras.layers.Layer):
    def call(self, x):
        return tf.strings.to_number(tf.strings.as_string(x))


def test_unknown_operations_are_named(tmp_path):
    model = keras.Sequential([keras.Input((2,)), Splits()])
    with pytest.raises(ExportError, match="'litert'.*Received"):
        keras_eds.export(model, tmp_path / "new" / "file", "litert")
    assert not list(tmp_path.iterdir())
    x = np.ones((1, 2), "float32")
    path = keras_eds.export(model, tmp_path / "served")
    np.testing.assert_array_equal(run(path, "tf_saved_model", x), x)


def looked_up():
    ids = keras.Input((), dtype="int64")
    places = keras.layers.IntegerLookup(vocabulary=[3, 5, 7])(ids)
    return keras.Model(ids, keras.layers.Embedding(4, 2)(places))


def hashed():
    ids = keras.Input((), dtype="int64")
    return keras.Model(ids, keras.layers.Embedding(5, 2)(keras.layers.Hashing(5)(ids)))


def bessel():
    return keras.Sequential([keras.Input((3,)), keras.layers.Lambda(tf.math.bessel_i0)])


def half():
    ids = keras.Input((), dtype="int32")
    rows = keras.layers.Embedding(5, 4, dtype="mixed_bfloat16")(ids)
    return keras.Model(ids, keras.layers.Dense(2, dtype="mixed_bfloat16")(rows))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (looked_up, "ONNX has no LookupTableFindV2"),
        (hashed, "ONNX has no StringToHashBucketFast"),
        (bessel, "ONNX has no BesselI0"),
        (half, "^`model` must not compute in bfloat16.*embedding.*dtype float32"),
    ],
)
def test_onnx_that_cannot_be_loaded_replaces_nothing(
    make, reason, tmp_path, monkeypatch
):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    path = keras_eds.export(small(), tmp_path / "file", "onnx")
    before = contents(tmp_path)
    with pytest.raises(ExportError, match=reason):
        keras_eds.export(make(), path, "onnx", overwrite=True)
    assert contents(tmp_path) == before
    for check in ("_check_no_bfloat16", "_check_onnx"):
        monkeypatch.setattr(writers, check, lambda *args: None)
    keras_eds.export(make(), path, "onnx", overwrite=True)
    with pytest.raises(Exception, match="Load model from .* failed"):
        runtime.InferenceSession(str(path))


def test_onnx_of_known_operations_is_checked_too(tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    monkeypatch.setattr(writers, "_check_no_bfloat16", lambda traced: None)
    with pytest.raises(ExportError, match="raised InferenceError.*MatMul"):
        keras_eds.export(half(), tmp_path / "file", "onnx")
    assert not list(tmp_path.iterdir())
