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

    def initialize(shape: Any, dtype: Any = None) -> Any:
        values = _values(initializer, number, shape)
        positions = np.arange(start, start + shape[0], dtype=np.int32)
        kept = positions[:, None] < np.minimum(reaching[: shape[1]], stop)
        return ops.convert_to_tensor(np.where(kept, values, 0), dtype)

    return initialize


def constant_rows(rows: np.ndarray) -> Callable[..., Any]:
    """The initializer that gives these rows."""
    return lambda shape, dtype=None: ops.convert_to_tensor(rows, dtype)


def _values(initializer: Any, number: int, shape: Any) -> np.ndarray:
    # In NumPy: on JAX, a draw of a new shape takes a second to compile.
    seed = getattr(initializer, "seed", None)
    if isinstance(seed, int):
        random = np.random.default_rng([seed, number])
        # Subclasses may draw what they like.
        if type(initializer) is initializers.RandomUniform:
            low, high = initializer.minval, initializer.maxval
            return np.asarray(random.uniform(low, high, shape), "float32")
        if type(initializer) is initializers.RandomNormal:
            mean, stddev = initializer.mean, initializer.stddev
            return np.asarray(random.normal(mean, stddev, shape), "float32")
    drawn = _with_own_seed(initializer, number)(shape, "float32")
    return np.asarray(ops.convert_to_numpy(drawn))


def _with_own_seed(initializer: Any, number: int) -> Any:
    # With one seed for all, every table would begin with the same random values.
    if number == 0 or not isinstance(initializer, initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += number
    return type(initializer).from_config(config)
