"""Writes a model as a file that serves without Keras."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import keras

from keras_eds.argument_checks import check_choice
from keras_eds.backend.block_lookup import portable_lookups
from keras_eds.errors import ExportError
from keras_eds.serving.destination import check_free, written_whole
from keras_eds.serving.quantize import quantize_tables

Format = Literal["tf_saved_model", "litert", "onnx"]
FORMATS = ("tf_saved_model", "litert", "onnx")


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: Format = "tf_saved_model",
    quantize: Literal["int8"] | None = None,
    overwrite: bool = False,
    inputs: Any = None,
) -> Path:
    """Writes a model for serving, each table once.

    The file holds what the forward pass reads, and loads where neither Keras nor
    this library is installed. `keras.Model.export` writes every variable of a
    SavedModel twice.

    Args:
        model: A built Keras model, not changed. On the TensorFlow backend.
        path: The file, or for `"tf_saved_model"` the folder, to write. All of it
            appears at once, or nothing.
        format: `"tf_saved_model"` (served as `serve` and `serving_default`; may
            have vocabularies, as of `StringLookup`), `"litert"` (one file of
            built-in operations) or `"onnx"` (one file, needs tf2onnx). Defaults
            to `"tf_saved_model"`.
        quantize: `"int8"` writes the tables with one byte a value, see
            `quantize_tables`, where the score that it costs can be measured.
            Defaults to `None`.
        overwrite: Whether to replace an earlier export. Defaults to `False`.
        inputs: A batch of inputs, or a structure of `keras.InputSpec`, whose
            dtypes and shapes (but for the first axis) the file takes. Needed for
            subclassed models. Defaults to `None`: the inputs of the graph.

    Returns:
        `path`.

    Raises:
        ValueError: If `model`, `format`, `quantize` or `inputs` cannot be used,
            or the backend is another one.
        FileExistsError: If something is at `path` that may not be replaced.
        ImportError: If the format needs a package that is not installed.
        ExportError: If the model has operations that the format does not know, or
            for `"onnx"` computes in bfloat16.
        OSError: If the disk is full or cannot be written.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> path = keras_eds.export(model, "served")
    >>> served = tf.saved_model.load(path)  # its variables live as long as it does
    >>> served.serve(np.ones((2, 3), "float32")).shape
    TensorShape([2, 1])
    """
    # A link stays one: what it points to is written.
    target = Path(os.path.realpath(path))
    _check(format, quantize)
    check_free(target, overwrite, folder=format == "tf_saved_model")
    # TensorFlow's parts are imported only where they can be used.
    from keras_eds.serving import writers
    from keras_eds.serving.signature import check_built, signature_of, weight_bytes
    from keras_eds.serving.traced import TracedModel

    check_built(model)
    signature = signature_of(model, inputs)
    if quantize is not None:
        model = quantize_tables(model, quantize)
    writers.check_possible(format, signature, weight_bytes(model))
    with nullcontext() if format == "tf_saved_model" else portable_lookups():
        traced = TracedModel(model, signature)
        with written_whole(target) as place:
            try:
                writers.WRITERS[format](traced, signature, place)
            except (ExportError, *writers.DISK_ERRORS):
                raise
            except Exception as error:
                raise _unknown(model, format, error) from error
    return Path(path)


def _unknown(model: keras.Model, format: str, error: Exception) -> ExportError:
    return ExportError(
        f"`model` must be made of operations that {format!r} knows. Received: model "
        f"{model.name!r}, whose conversion raised {type(error).__name__}: {error}. "
        "Nothing was written. Choose another format, or move what it does not know "
        "out of the model."
    )


def _check(format: str, quantize: str | None) -> None:
    check_choice("format", format, FORMATS)
    if quantize not in (None, "int8"):
        raise ValueError(
            f"`quantize` must be None or 'int8'. Received: quantize={quantize!r}. "
            "Other modes are those of keras.Model.quantize."
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`export` must run on the TensorFlow backend, whose graph all formats "
            f"are made from. Received: backend {keras.backend.backend()!r}. Save the "
            "model as .keras and export it in a process with "
            "KERAS_BACKEND=tensorflow."
        )
