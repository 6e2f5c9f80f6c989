"""Refuses arguments of a row-sized layer by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.arrays import as_array
from keras_eds.layers.row_blocks import Ints, RowBlock, starts


def check_dense(
    table: npt.NDArray[Any], projection: npt.NDArray[Any] | None, constant: Any
) -> int:
    """The width that the output has.

    Raises:
        ValueError: If the arrays are not numbers, or their shapes do not fit.
    """
    _check_shape("table", table, (None, None))
    width: int = table.shape[1]
    if projection is not None:
        _check_shape("projection", projection, (width, None))
        width = projection.shape[1]
    if constant is not None:
        _check_shape("constant", as_array(constant), (width,))
    return width


def check_rows(rows: npt.NDArray[Any], input_dim: int, width: int) -> None:
    """Refuses rows for other ids, or shorter ones than are kept.

    Raises:
        ValueError: If they are no numbers or their shape does not fit.
    """
    _check_shape("table", rows, (input_dim, None))
    if rows.shape[1] < width:
        raise ValueError(
            f"`table` must have at least {width} columns, the largest size. "
            f"Received: table of shape {rows.shape}. Give wider rows, or smaller sizes."
        )


def _check_shape(name: str, array: npt.NDArray[Any], shape: tuple[Any, ...]) -> None:
    fits = array.ndim == len(shape) and all(
        wanted in (None, length)
        for wanted, length in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in "iuf":
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(
            f"`{name}` must be numbers of shape ({wanted}). Received: {name} of shape "
            f"{array.shape} and dtype {array.dtype}. Give one row for each id, or "
            "for each column of the table."
        )


def check_blocks(blocks: Any, input_dim: int, output_dim: int) -> list[RowBlock]:
    """Reads blocks from a config.

    Raises:
        ValueError: If they are no layout of `input_dim` ids of `output_dim`.
    """
    try:
        checked = [RowBlock(int(ids), int(width)) for ids, width in blocks]
        whole = all(tuple(b) == c for b, c in zip(blocks, checked, strict=True))
    except (TypeError, ValueError):
        checked, whole = [], False
    widths = [output_dim + 1, *(block.width for block in checked), 0]
    descend = all(a > b for a, b in zip(widths, widths[1:], strict=False))
    ids = [block.ids for block in checked]
    if whole and descend and all(n > 0 for n in ids) and sum(ids) <= input_dim:
        return checked
    raise ValueError(
        "`blocks` must be pairs (ids, width) of integers, widths descending from at "
        f"most output_dim={output_dim} to at least 1, each with 1 id or more and "
        f"together at most input_dim={input_dim}. Received: blocks={blocks!r}. "
        "Leave them to the layer: give `sizes`."
    )


def check_fit(sizes: Ints, blocks: Sequence[RowBlock]) -> None:
    """Refuses blocks that are too narrow, or have no place, for ids of these sizes.

    Raises:
        ValueError: If a size is wider than the block that its id falls in.
    """
    falling = np.sort(sizes)[::-1]
    at_start = [int(falling[start]) for start in starts(blocks)[:-1]]
    rest = falling[sum(block.ids for block in blocks) :]
    widths = [block.width for block in blocks]
    fit = all(a <= b for a, b in zip(at_start, widths, strict=True))
    if not fit or rest.any() or widths[:1] != at_start[:1]:
        raise ValueError(
            "`blocks` must hold all ids at their `sizes`, and be as wide as the "
            f"largest. Received: blocks={list(blocks)} for sizes up to "
            f"{int(falling[0])}. Leave `blocks` out."
        )


def check_sizes(sizes: Any, input_dim: int, output_dim: int) -> Ints:
    """Reads one size for each id.

    Raises:
        ValueError: If they are not `input_dim` integers from 0 to `output_dim`.
    """
    rule = f"`sizes` must be integers of shape ({input_dim},), one for each id"
    try:
        array = np.asarray(sizes)
    except ValueError as error:
        raise ValueError(
            f"{rule}. Received: sizes={sizes!r}. Give a flat list."
        ) from error
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{rule}. Received: sizes of dtype {array.dtype}, {_shown(array)}. "
            "Round them."
        )
    if array.shape != (input_dim,):
        raise ValueError(
            f"{rule}. Received: sizes of shape {array.shape}. Give input_dim="
            f"{input_dim} of them."
        )
    wrong = np.flatnonzero((array < 0) | (array > output_dim))
    if wrong.size:
        raise ValueError(
            f"`sizes` must be from 0 to output_dim={output_dim}. Received: "
            f"sizes[{wrong[0]}]={array[wrong[0]]}, one of {wrong.size} out of range. "
            "Clip them."
        )
    return array


def _shown(array: npt.NDArray[Any]) -> str:
    return np.array2string(array, threshold=6, edgeitems=2)
