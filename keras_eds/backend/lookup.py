"""Reads rows of a table without ever copying the table."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def lookup(table: keras.Variable, ids: Any, dtype: str) -> Any:
        """Rows `ids` of `table`, as `dtype`.

        `keras.ops.take` reads the whole variable first; a gather on the
        variable's handle does not, and its gradient has the touched rows only.
        """
        with keras.src.backend.AutocastScope(None):
            value = table.value
        return tf.cast(tf.nn.embedding_lookup(value, ids), dtype)

else:

    def lookup(table: keras.Variable, ids: Any, dtype: str) -> Any:
        """Rows `ids` of `table`, as `dtype`."""
        return ops.cast(ops.take(table, ids, axis=0), dtype)
