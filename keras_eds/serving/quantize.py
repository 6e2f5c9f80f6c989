"""Turns the tables of a model into 8-bit integers."""

from __future__ import annotations

import keras

from keras_eds.errors import FieldError
from keras_eds.layers.int8_tables import Int8Tables, check_finite, check_precision
from keras_eds.layers.lookup_layer import LookupLayer
from keras_eds.surgery import keras_private
from keras_eds.surgery.compact_model import make_compact
from keras_eds.surgery.copying import compile_result, copy_model


def quantize_tables(model: keras.Model, mode: str = "int8") -> keras.Model:
    """A copy of a model whose tables hold one byte a value, for inference.

    `value ~ integer * scale`, `scale = max |value| / 127`. Cut tables have a scale
    for each column, which costs nothing; `keras.layers.Embedding` has Keras's
    own, for each row: 4 bytes. Other layers stay as they are: they are small, and
    `keras.Model.quantize` is there for them. Tables that compute in float16, as of
    `mixed_float16`, are refused: Keras quantizes float32 and bfloat16.

    Args:
        model: A built Keras model, with cut tables or full ones. Not changed.
        mode: `"int8"`, the only one.

    Returns:
        The copy, compiled as `model` is, to be evaluated, saved or exported.

    Raises:
        ValueError: If `mode` is not `"int8"`.
        FieldError: If the model has no table, or one that cannot be quantized:
            because of its kind, float16, or rows that are not finite.

    Example:

    >>> table = keras.layers.Embedding(100, 8)
    >>> model = keras.Sequential([keras.Input((3,), dtype="int32"), table])
    >>> keras_eds.quantize_tables(model).layers[0].dtype_policy.name
    'int8_from_float32'
    """
    _check_mode(mode)
    _check_tables(model)
    copy = copy_model(model)
    for table in _tables(copy):
        table.quantize(mode)
    make_compact(copy)
    keras_private.refresh(copy)
    if getattr(copy, "compiled", False):
        compile_result(copy, copy)
    return copy


def _check_mode(mode: str) -> None:
    if mode != "int8":
        raise ValueError(
            f"`mode` must be 'int8'. Received: mode={mode!r}. Other modes are those "
            "of keras.Model.quantize."
        )


def _tables(model: keras.Model) -> list[keras.layers.Layer]:
    kinds = (keras.layers.Embedding, LookupLayer, Int8Tables)
    return [t for t in keras_private.all_layers(model) if isinstance(t, kinds)]


def _check_tables(model: keras.Model) -> None:
    tables = _tables(model)
    if not tables:
        raise FieldError(
            "`model` must have a table. Received: model "
            f"{model.name!r} without one. Export it without quantize=..."
        )
    for table in tables:
        ours = isinstance(table, Int8Tables)
        state = None
        if not table.built:
            state = "is not built"
        elif table.quantization_mode is not None:
            state = f"is quantized already ({table.quantization_mode})"
        elif not ours and type(table) is not keras.layers.Embedding:
            state = f"is a {type(table).__name__}, which cannot be quantized"
        if state is not None:
            raise FieldError(
                "`model` must have tables that can be quantized. Received: table "
                f"{table.name!r}, which {state}. Export it without quantize=..."
            )
        check_precision(table)
        check_finite(table, table._tables() if ours else [table.embeddings])
