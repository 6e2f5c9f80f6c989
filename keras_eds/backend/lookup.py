"""Reads rows of a table without ever copying or casting the table."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops
from keras.src.backend import AutocastScope

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def gather(table: Any, ids: Any) -> Any:
        """Rows `ids` of a tensor or variable, all within it."""
        # `keras.ops.take` looks for negative ids, and reads a whole variable first. A
        # gather on its handle does not, and has a gradient of the touched rows only.
        return tf.nn.embedding_lookup(table, ids)

else:

    def gather(table: Any, ids: Any) -> Any:
        """Rows `ids` of a tensor or variable, all within it."""
        return ops.take(table, ids, axis=0)


def lookup(table: keras.Variable, ids: Any, dtype: str) -> Any:
    """Rows `ids` of `table`, as `dtype`."""
    # Under mixed precision Keras casts a variable whenever it is read: the whole
    # table for a few rows.
    with AutocastScope(None):
        rows = gather(table.value, ids)
    return ops.cast(rows, dtype)
