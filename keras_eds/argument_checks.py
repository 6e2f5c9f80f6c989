"""Refuses numbers and choices that an argument cannot have, by its name."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

_BOUNDS = {
    "of at least": operator.ge,
    "above": operator.gt,
    "of at most": operator.le,
    "below": operator.lt,
}


def check_integer(
    name: str, value: Any, least: int = 1, remedy: str = "Give such a number."
) -> int:
    """Returns `value` as an `int`, or refuses it.

    Raises:
        ValueError: If `value` is not an integer of at least `least`.

    Example:

    >>> check_integer("output_dim", 8)
    8
    """
    if not _is_number(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. "
            f"Received: {name}={value!r}. {remedy}"
        )
    return int(value)


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    remedy: str = "Give such a number.",
) -> float:
    """Returns `value` as a `float`, or refuses it.

    Raises:
        ValueError: If `value` is not a finite number within these bounds.

    Example:

    >>> check_number("dropout", 0, least=0, below=1)
    0.0
    """
    given = zip(_BOUNDS, (least, above, most, below), strict=True)
    bounds = {words: bound for words, bound in given if bound is not None}
    number = _is_number(value, (int, float, np.integer, np.floating))
    if (
        not number
        or not math.isfinite(value)
        or not all(_BOUNDS[words](value, bound) for words, bound in bounds.items())
    ):
        rule = " and ".join(f"{words} {bound:g}" for words, bound in bounds.items())
        raise ValueError(
            f"`{name}` must be a finite number {rule}. "
            f"Received: {name}={value!r}. {remedy}"
        )
    return float(value)


def check_choice(
    name: str,
    value: object,
    allowed: Sequence[object],
    remedy: str = "Choose one of these.",
) -> None:
    """Refuses what is none of `allowed`.

    Raises:
        ValueError: If it is none.

    Example:

    >>> check_choice("order", "pairs", ("pairs", "users"))
    """
    if not any(value is option or value == option for option in allowed):
        raise ValueError(
            f"`{name}` must be one of {tuple(allowed)}. "
            f"Received: {name}={value!r}. {remedy}"
        )


def _is_number(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
