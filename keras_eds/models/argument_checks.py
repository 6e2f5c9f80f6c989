"""Checks of numbers that several models take."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_positive_integer(argument: str, value: Any) -> int:
    """Return `value` as an `int`, or refuse it.

    Raises:
        ValueError: If `value` is not an integer of at least 1.

    Example:

    >>> check_positive_integer("output_dim", 8)
    8
    """
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or value < 1:
        raise ValueError(
            f"`{argument}` must be a positive integer. Received: "
            f"{argument}={value!r}. Use at least 1."
        )
    return int(value)


def check_positive(argument: str, value: float) -> float:
    """Return `value` as a `float`, or refuse it.

    Raises:
        ValueError: If `value` is not a finite number above 0.

    Example:

    >>> check_positive("temperature", 0.5)
    0.5
    """
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ValueError(
            f"`{argument}` must be a finite number above 0. Received: "
            f"{argument}={value!r}. Use 1.0 for no effect."
        )
    return float(value)


def check_not_negative(argument: str, value: float) -> float:
    """Return `value` as a `float`, or refuse it.

    Raises:
        ValueError: If `value` is not a finite number of at least 0.

    Example:

    >>> check_not_negative("embeddings_l2", 0)
    0.0
    """
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise ValueError(
            f"`{argument}` must be a finite number of at least 0. Received: "
            f"{argument}={value!r}. Use 0 to leave it out."
        )
    return float(value)


def check_dropout(argument: str, value: float) -> float:
    """Return `value` as a `float`, or refuse it.

    Raises:
        ValueError: If `value` is not in [0, 1).

    Example:

    >>> check_dropout("dropout", 0.1)
    0.1
    """
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(
            f"`{argument}` must be in [0, 1). Received: {argument}={value!r}. "
            "Use 0 for no dropout."
        )
    return float(value)


def _is_number(value: Any) -> bool:
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)
