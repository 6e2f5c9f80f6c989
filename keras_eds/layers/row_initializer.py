"""Initializes one of several tables that hold rows of many sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import initializers, ops

from keras_eds.layers.row_blocks import Ints


def in_table(
    initializer: Any, number: int, start: int, stop: int, reaching: Ints
) -> Callable[..., Any]:
    """The initializer for a table, with zeros beyond each row's size.

    Args:
        initializer: A Keras initializer, or any callable of shape and dtype.
        number: Of the table.
        start: Position of its first row.
        stop: Position after its last; rows from here on are 0.
        reaching: For each column, the number of positions that reach it.
    """
    initializer = _with_own_seed(initializer, number)

    def initialize(shape: Any, dtype: Any = None) -> Any:
        # In NumPy, where a new shape needs no compilation.
        values = ops.convert_to_numpy(initializer(shape, "float32"))
        positions = np.arange(start, start + shape[0], dtype=np.int32)
        kept = positions[:, None] < np.minimum(reaching[: shape[1]], stop)
        return ops.convert_to_tensor(np.where(kept, values, 0), dtype)

    return initialize


def constant_rows(rows: np.ndarray) -> Callable[..., Any]:
    """The initializer that gives these rows."""
    return lambda shape, dtype=None: ops.convert_to_tensor(rows, dtype)


def _with_own_seed(initializer: Any, number: int) -> Any:
    # With one seed for all, every table would begin with the same random values.
    if number == 0 or not isinstance(initializer, initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += number
    return type(initializer).from_config(config)
