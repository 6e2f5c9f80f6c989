"""A memory budget, and how it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from keras_eds.cost import Unit
from keras_eds.errors import BudgetError
from keras_eds.field import Field, total_bytes, total_parameters

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s*(%|(?:[KMGT]I?)?B)\s*$", re.IGNORECASE)
_HOWTO = (
    "Give a fraction of today's embedding bytes (0.1 or '10%'), a size ('8MB', "
    "'512KiB'), or Budget(parameters=...)."
)


@dataclass(frozen=True)
class Budget:
    """How much the embedding tables of a model may keep.

    Exactly one of the arguments is given. Counted is what inference has to
    keep: table values, alignment matrices, constants, and the index of packed rows.

    Args:
        fraction: Share of today's embedding bytes, in (0, 1].
        num_bytes: Bytes.
        parameters: Number of values.

    Raises:
        BudgetError: If none or several are given, or one is out of range.

    Example:

    >>> Budget.parse("8MB")
    Budget(num_bytes=8000000)
    >>> Budget.parse(0.1).label
    '10%'
    """

    fraction: float | None = None
    num_bytes: int | None = None
    parameters: int | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) != 1:
            raise BudgetError(
                "`budget` must be given in exactly one way. "
                f"Received: {given or 'nothing'}. {_HOWTO}"
            )
        ((name, value),) = given.items()
        if isinstance(value, bool) or not isinstance(value, Real):
            raise BudgetError(
                f"`budget` must be a number. Received: {name}={value!r}. {_HOWTO}"
            )
        number = float(value)
        if (
            not math.isfinite(number)
            or number <= 0
            or (name != "fraction" and number < 1)
        ):
            raise BudgetError(
                f"`budget` must be greater than 0. Received: {name}={value}. {_HOWTO}"
            )
        if name == "fraction" and number > 1:
            raise BudgetError(
                "`budget` as a fraction must be at most 1. "
                f"Received: budget={value}. {_HOWTO}"
            )
        # Plain numbers, also for NumPy's: a budget is compared, printed and stored.
        plain = number if name == "fraction" else math.floor(value)
        object.__setattr__(self, name, plain)

    def __repr__(self) -> str:
        given = [f"{k}={v}" for k, v in vars(self).items() if v is not None]
        return f"Budget({', '.join(given)})"

    @classmethod
    def parse(cls, value: Budget | float | str) -> Budget:
        """Reads a budget as users write it: `0.1`, `"10%"`, `"8MB"`."""
        if isinstance(value, Budget):
            return value
        if isinstance(value, str):
            return cls._parse_text(value)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise BudgetError(
                "`budget` must be a fraction, a size or a Budget. "
                f"Received: budget={value!r}. {_HOWTO}"
            )
        return cls(fraction=float(value))

    @classmethod
    def _parse_text(cls, text: str) -> Budget:
        match = _SIZE.match(text)
        if match is None:
            raise BudgetError(
                f"`budget` must be readable. Received: budget={text!r}. {_HOWTO}"
            )
        number, unit = float(match[1]), match[2].upper()
        if unit == "%":
            return cls(fraction=number / 100)
        return cls(num_bytes=int(number * _UNITS[unit]))

    @property
    def unit(self) -> Unit:
        """What the budget counts: `"bytes"` or `"parameters"`."""
        return "bytes" if self.parameters is None else "parameters"

    @property
    def label(self) -> str:
        """The budget as a short text."""
        if self.fraction is not None:
            return f"{100 * self.fraction:.6g}%"
        if self.num_bytes is not None:
            return format_bytes(self.num_bytes)
        return f"{self.parameters} parameters"

    def limit(self, fields: Sequence[Field]) -> int:
        """The most that may be kept of `fields`, in `unit`s."""
        if self.fraction is not None:
            # A hair above the product, so that 0.1 of 1,000 is 100 and not 99.
            return math.floor(self.fraction * total_bytes(fields) + 1e-6)
        if self.num_bytes is not None:
            return self.num_bytes
        assert self.parameters is not None
        return self.parameters

    def share(self, fields: Sequence[Field]) -> float:
        """What `limit` is of the whole tables."""
        in_bytes = self.unit == "bytes"
        whole = total_bytes(fields) if in_bytes else total_parameters(fields)
        return self.limit(fields) / whole


def parse_budgets(
    budget: Budget | float | str | Sequence[Budget | float | str],
) -> list[Budget]:
    """Reads one budget or a list of them."""
    many = isinstance(budget, Sequence) and not isinstance(budget, str)
    values = list(budget) if many else [budget]  # type: ignore[arg-type]
    if not values:
        raise BudgetError(
            f"`budget` must hold at least one budget. Received: budget=[]. {_HOWTO}"
        )
    budgets = [Budget.parse(value) for value in values]  # type: ignore[arg-type]
    labels = [budget.label for budget in budgets]
    if len(set(labels)) != len(labels):
        raise BudgetError(
            "`budget` must not name a budget twice, or two that are written alike. "
            f"Received: budget={labels}. Drop the repeated one."
        )
    return budgets


def format_bytes(num_bytes: int) -> str:
    """Writes bytes as people read them, in powers of 1,000."""
    value, units = float(num_bytes), ["B", "KB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.4g} {units[0]}"
