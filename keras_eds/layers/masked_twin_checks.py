"""Refuses arguments of a masked embedding by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.arrays import as_array


def check_min_size(min_size: Any, output_dim: int) -> int:
    """Returns the smallest size as an `int`; refuses one that no vector can have.

    Raises:
        ValueError: If `min_size` is not an integer from 0 to `output_dim`.
    """
    if not _is_integer(min_size) or not 0 <= min_size <= output_dim:
        raise ValueError(
            f"`min_size` must be an integer from 0 to output_dim={output_dim}. "
            f"Received: min_size={min_size!r}. 0 allows ids without any value."
        )
    return int(min_size)


def check_hidden_units(hidden_units: Any) -> tuple[int, ...]:
    """Reads the widths of hidden layers.

    Raises:
        ValueError: If they are not one or more integers of at least 1.
    """
    listed = isinstance(hidden_units, list | tuple)
    wide = listed and all(_is_integer(u) and u > 0 for u in hidden_units)
    if not wide or not hidden_units:
        raise ValueError(
            "`hidden_units` must be one or more integers of at least 1. Received: "
            f"hidden_units={hidden_units!r}. Give for instance (32,)."
        )
    return tuple(int(units) for units in hidden_units)


def check_table(
    weights: Any, input_dim: int | None = None, output_dim: int | None = None
) -> npt.NDArray[Any]:
    """Reads a table, or a list of a single table.

    Raises:
        ValueError: If it is not made of numbers or its shape is another one.
    """
    alone = isinstance(weights, list | tuple) and len(weights) == 1
    table = as_array(weights[0] if alone else weights)
    wanted = (input_dim, output_dim)
    fits = table.ndim == 2 and all(
        length in (None, given)
        for length, given in zip(wanted, table.shape, strict=True)
    )
    if not fits or table.dtype.kind not in "iuf":
        raise ValueError(
            f"`weights` must be numbers of shape {_shown(wanted)}. Received: weights "
            f"of shape {table.shape} and dtype {table.dtype}. Give the table that "
            "`keras.layers.Embedding.get_weights()` gives."
        )
    return table


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
