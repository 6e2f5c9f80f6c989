"""Looks ids up in tables of several widths, each id in the one that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from keras_eds.backend.lookup import lookup

_PORTABLE = ContextVar("portable", default=False)

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    def _shapes_are_free() -> bool:
        # Under XLA all shapes must be known when it compiles.
        if _PORTABLE.get():
            return False
        graph = tf.compat.v1.get_default_graph()
        return not control_flow_util.GraphOrParentsInXlaContext(graph)

else:

    def _shapes_are_free() -> bool:
        return False


@contextmanager
def portable_lookups() -> Iterator[None]:
    """Lets what is traced inside use operations that other formats know too."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def block_lookup(
    tables: Sequence[keras.Variable],
    starts: Sequence[int],
    positions: Any,
    reaching: Any,
    width: int,
    dtype: str,
) -> Any:
    """Rows at `positions`, with zeros up to `width`.

    `output[..., c] = tables[k][position - starts[k], c]` if
    `position < reaching[c]`, else 0, where k is the table with
    `starts[k] <= position < starts[k + 1]`. Values that no position reaches get
    no gradient. TensorFlow outside XLA also never reads them: they must be 0.

    Args:
        tables: By descending width. Each has one row more than positions, unless
            it holds them all: other positions are sent there.
        starts: First position of each table, and of the rows in none.
        positions: Integers of any shape.
        reaching: Integers of shape `(tables[0].shape[1],)`, not ascending.
        width: Last axis of the output, at least that of the first table.
        dtype: Of the output.

    Returns:
        Values of shape `(*positions.shape, width)`.
    """
    if _shapes_are_free():
        shape = ops.shape(positions)
        flat = tf.reshape(positions, [-1])
        rows = _from_own_table(tables, starts, flat, reaching, width, dtype)
        return tf.reshape(rows, (*shape, width))
    return _from_all_tables(tables, starts, positions, reaching, width, dtype)


def _from_all_tables(
    tables: Sequence[keras.Variable],
    starts: Sequence[int],
    positions: Any,
    reaching: Any,
    width: int,
    dtype: str,
) -> Any:
    total = None
    for table, start, stop in zip(tables, starts, starts[1:], strict=False):
        here = ops.logical_and(positions >= start, positions < stop)
        # The last row, if the table does not hold every position.
        rows = ops.where(here, positions - start, table.shape[0] - 1)
        rows = lookup(table, rows, dtype)
        kept = ops.expand_dims(positions, -1) < reaching[: table.shape[1]]
        kept = ops.logical_and(kept, ops.expand_dims(here, -1))
        rows = ops.where(kept, rows, ops.zeros_like(rows))
        sides = [(0, 0)] * len(positions.shape)
        rows = ops.pad(rows, [*sides, (0, width - table.shape[1])])
        total = rows if total is None else total + rows
    return total


def _from_own_table(
    tables: Sequence[keras.Variable],
    starts: Sequence[int],
    positions: Any,
    reaching: Any,
    width: int,
    dtype: str,
) -> Any:
    """Sorts positions by table, so that each is looked up once. TensorFlow only."""
    rest = [] if tables[0].shape[0] == starts[1] else [None]
    tables = [*tables, *rest]
    if len(tables) == 1:
        return _padded_rows(tables[0], positions, 0, reaching, width, dtype)
    number = tf.searchsorted(
        tf.constant(starts[1:], positions.dtype), positions, side="right"
    )
    places = tf.dynamic_partition(tf.range(tf.size(positions)), number, len(tables))
    parts = []
    for table, start, place in zip(tables, starts, places, strict=True):
        if table is None:
            parts.append(tf.zeros((tf.size(place), width), dtype))
        else:
            part = tf.gather(positions, place)
            parts.append(_padded_rows(table, part, start, reaching, width, dtype))
    return tf.dynamic_stitch(places, parts)


def _padded_rows(
    table: keras.Variable,
    positions: Any,
    start: int,
    reaching: Any,
    width: int,
    dtype: str,
) -> Any:
    rows = lookup(table, positions - start, dtype)
    own_width = table.shape[1]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def pad(rows: Any) -> tuple[Any, Any]:
        # Masking the gradient keeps the padding at 0 and costs a lookup nothing.
        def gradient(upstream: Any) -> Any:
            kept = positions[:, None] < reaching[None, :own_width]
            upstream = upstream[:, :own_width]
            return tf.where(kept, upstream, tf.zeros_like(upstream))

        return tf.pad(rows, [[0, 0], [0, width - own_width]]), gradient

    return pad(rows)
