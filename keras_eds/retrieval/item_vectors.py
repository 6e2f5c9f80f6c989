"""The vectors of items as a table holds them, however it was cut."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_eds.errors import DataError
from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.layers.row_blocks import starts

Floats = npt.NDArray[np.float32]


class ItemVectors(NamedTuple):
    """`v_i = pad(blocks[k][j]) @ projection + constant`, `ids[place] = i`.

    Blocks hold the items of places `0, 1, ..` one after the other; items after
    them have no values of their own. The score of a query u is
    `<u @ projection.T, v'> + <u, constant>`: queries are made narrow, no item is
    made wide.

    Args:
        blocks: Shapes `(items, width)`, the widest first.
        ids: The item of each place, `(num_items,)`; None: the place itself.
        projection: Shape `(width, query_dim)`, or None: rows are padded.
        constant: Shape `(query_dim,)`, or None.
        query_dim: Width of a query.
        num_items: Number of items.
    """

    blocks: list[Floats]
    ids: npt.NDArray[np.int32] | None
    projection: Floats | None
    constant: Floats | None
    query_dim: int
    num_items: int


def item_vectors(source: Any) -> ItemVectors:
    """Reads the vectors of an embedding layer, or of an array.

    Args:
        source: A built `keras.layers.Embedding`, `PrunedFieldEmbedding` or
            `RowSizedEmbedding`, whose ids are the items; or an array of shape
            `(num_items, query_dim)`, for instance what a candidate tower gives.

    Raises:
        DataError: If it is none of these, is not built, is quantized or holds
            values that are not finite.
    """
    if isinstance(source, keras.layers.Layer):
        _check_layer(source)
    if isinstance(source, RowSizedEmbedding):
        vectors = _of_rows(source)
    elif isinstance(source, PrunedFieldEmbedding):
        vectors = _of_field(source)
    elif isinstance(source, keras.layers.Embedding):
        vectors = _of_array(_floats(source.embeddings))
    else:
        vectors = _of_array(np.asarray(source))
    for array in (*vectors.blocks, vectors.projection, vectors.constant):
        if array is not None and not np.isfinite(array).all():
            raise DataError(
                "`source` must be finite. Received: "
                f"{int((~np.isfinite(array)).sum())} values that are not. Check the "
                "learning rate, and the data for NaN."
            )
    return vectors


def _of_array(array: npt.NDArray[Any]) -> ItemVectors:
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            "`source` must be an embedding layer or numbers of shape (num_items, "
            f"query_dim). Received: shape {array.shape}, dtype {array.dtype}. Give a "
            "row for every item."
        )
    items, width = array.shape
    return ItemVectors([array.astype(np.float32)], None, None, None, width, items)


def _of_field(layer: PrunedFieldEmbedding) -> ItemVectors:
    blocks = [] if layer.embeddings is None else [_floats(layer.embeddings)]
    return ItemVectors(
        blocks,
        None,
        _optional(layer.projection),
        _optional(layer.constant),
        layer.output_dim,
        layer.input_dim,
    )


def _of_rows(layer: RowSizedEmbedding) -> ItemVectors:
    if not layer.blocks:
        constant = _optional(layer.constant)
        width, items = layer.output_dim, layer.input_dim
        return ItemVectors([], None, None, constant, width, items)
    firsts = starts(layer.blocks)
    blocks = [
        # Without the row that stands in for items of other blocks.
        _floats(table)[: stop - start]
        for table, start, stop in zip(
            layer.embeddings, firsts[:-1], firsts[1:], strict=True
        )
    ]
    return ItemVectors(
        blocks,
        np.argsort(_numpy(layer.positions)).astype(np.int32),
        _optional(layer.projection),
        _optional(layer.constant),
        layer.output_dim,
        layer.input_dim,
    )


def _check_layer(layer: keras.layers.Layer) -> None:
    known = (keras.layers.Embedding, PrunedFieldEmbedding, RowSizedEmbedding)
    state = None
    if not isinstance(layer, known):
        state = f"is a {type(layer).__name__}"
    elif not layer.built:
        state = "is not built"
    elif layer.quantization_mode is not None:
        state = f"is quantized ({layer.quantization_mode})"
    if state is not None:
        raise DataError(
            "`source` must be a built embedding layer that is not quantized, or an "
            f"array. Received: layer {layer.name!r}, which {state}. Give the layer "
            "that holds the items' vectors; quantize the index itself."
        )


def _numpy(variable: Any) -> npt.NDArray[Any]:
    return np.asarray(ops.convert_to_numpy(variable))


def _floats(variable: Any) -> Floats:
    # NumPy takes bfloat16 for no number.
    return _numpy(variable).astype(np.float32)


def _optional(variable: Any) -> Floats | None:
    return None if variable is None else _floats(variable)


def check_k(k: Any, num_items: int) -> int:
    """Returns `k`, or refuses it.

    Raises:
        ValueError: If it is not an integer from 1 to `num_items`.
    """
    integer = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if not integer or not 1 <= k <= num_items:
        raise ValueError(
            f"`k` must be an integer from 1 to the number of items, {num_items}. "
            f"Received: k={k!r}. Ask for fewer."
        )
    return int(k)
