"""One function for each format: from a traced model to a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_eds.errors import ExportError
from keras_eds.serving.signature import Signature, holds_strings
from keras_eds.serving.traced import TracedModel


def write_saved_model(traced: TracedModel, signature: Signature, path: Path) -> None:
    """Writes a SavedModel with the endpoint `serve`, also as `serving_default`."""
    function = traced.concrete
    endpoints = {"serve": function, "serving_default": function}
    # A gradient may read variables that the forward pass does not.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(traced, str(path), endpoints, options)


def write_litert(traced: TracedModel, signature: Signature, path: Path) -> None:
    """Writes a LiteRT (TFLite) file of built-in operations."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.concrete], traced
    )
    path.write_bytes(converter.convert())


def write_onnx(traced: TracedModel, signature: Signature, path: Path) -> None:
    """Writes an ONNX file through tf2onnx, and checks it."""
    _check_no_bfloat16(traced)
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    with warnings.catch_warnings():
        # tf2onnx was written for an older NumPy.
        warnings.simplefilter("ignore")
        import tf2onnx

        patch_tf2onnx()
        written, _ = tf2onnx.convert.from_function(
            traced.serve, input_signature=signature, output_path=str(path)
        )
    _check_onnx(written.graph, path)


def _check_no_bfloat16(traced: TracedModel) -> None:
    for operation in traced.concrete.graph.get_operations():
        if any(out.dtype.base_dtype == tf.bfloat16 for out in operation.outputs):
            raise ExportError(
                "`model` must not compute in bfloat16 for format 'onnx': tf2onnx takes "
                f"it for float16. Received: bfloat16 from {operation.name!r}. Nothing "
                "was written. Reload the model with dtype float32, or choose "
                "'tf_saved_model'."
            )


def _check_onnx(graph: Any, path: Path) -> None:
    # tf2onnx writes what it cannot convert as it is, and only logs that.
    import onnx

    unknown = {n.op_type for n in graph.node if not onnx.defs.has(n.op_type, n.domain)}
    if unknown:
        raise NotImplementedError(f"ONNX has no {', '.join(sorted(unknown))}")
    onnx.checker.check_model(str(path), full_check=True)


# Both formats of one file are limited by offsets of 32 bits with a sign.
LARGEST_FILE = 2**31 - 1

# These say nothing about the model.
DISK_ERRORS = (
    OSError,
    tf.errors.ResourceExhaustedError,
    tf.errors.PermissionDeniedError,
)

Writer = Callable[[TracedModel, Signature, Path], None]
WRITERS: dict[str, Writer] = {
    "tf_saved_model": write_saved_model,
    "litert": write_litert,
    "onnx": write_onnx,
}


def check_possible(format: str, signature: Signature, num_bytes: int) -> None:
    """Refuses what a format cannot hold.

    Args:
        format: A key of `WRITERS`.
        signature: The inputs.
        num_bytes: What the weights take in the file.

    Raises:
        ValueError: If an input is text and the format has no vocabularies, or the
            weights are too large for one file.
        ImportError: If a package is missing.
    """
    if format != "tf_saved_model" and num_bytes > LARGEST_FILE:
        raise ValueError(
            f"`format` must be 'tf_saved_model' for weights of {num_bytes:,} bytes. "
            f"Received: format={format!r}, whose file has at most {LARGEST_FILE:,}. "
            "Cut the tables, or export with quantize='int8'."
        )
    if format != "tf_saved_model" and holds_strings(signature):
        raise ValueError(
            f"`format` must be 'tf_saved_model' for a model with text inputs. "
            f"Received: format={format!r}, which has no look-up of text in its "
            "built-in operations. Export the model behind StringLookup, and look "
            "text up before it."
        )
    missing = [name for name in ("tf2onnx", "onnx") if find_spec(name) is None]
    if format == "onnx" and missing:
        raise ImportError(
            "`format='onnx'` needs tf2onnx and onnx. Received: a Python without "
            f"{' and '.join(missing)}. Install keras-eds[onnx]."
        )
