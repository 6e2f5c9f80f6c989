"""Spends a budget on the columns of many tables, best first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from keras_eds.budget import Budget
from keras_eds.errors import BudgetError
from keras_eds.field import Field
from keras_eds.field_plan import field_cost


def allocate(
    fields: Sequence[Field],
    gains: Sequence[np.ndarray],
    budget: Budget,
    per_cost: bool,
    constant: bool,
    floor: int = 0,
) -> list[int]:
    """Chooses every field's width so that a budget is full and never exceeded.

    Columns are taken one field's next at a time, by `gain` or by `gain / cost`,
    until none that gains anything fits any more. Costs are those of
    `plan.field_cost`; where the whole table costs no more than a narrow one with
    its alignment, the whole table is taken.

    Args:
        fields: The tables.
        gains: For each field what its 1st, 2nd, ... column is worth, shape
            `(output_dim,)`, not increasing and not negative.
        budget: What may be kept.
        per_cost: Whether to rank by gain a value kept, not by gain alone.
        constant: Whether a pruned field keeps a constant vector.
        floor: Least width of every field.

    Returns:
        The width of every field.

    Raises:
        BudgetError: If even the least widths exceed the budget.
    """
    limit = budget.limit(fields)
    ladders = [
        _Ladder(field, gain, budget, per_cost, constant, floor)
        for field, gain in zip(fields, gains, strict=True)
    ]
    left = limit - sum(ladder.cost for ladder in ladders)
    if left < 0:
        remedy = "or lower the least size."
        if constant:
            remedy = "lower the floor, or drop to zero vectors with fill='zero'."
        raise BudgetError(
            f"`budget` must be at least {limit - left} {budget.unit}, the least "
            f"possible for these {len(fields)} tables. Received: {budget.label}, which "
            f"is {limit} {budget.unit}. Raise it, {remedy}"
        )
    heap: list[tuple[float, int, int]] = []
    for place, ladder in enumerate(ladders):
        _push(heap, place, ladder, left)
    while heap:
        _, place, width = heapq.heappop(heap)
        ladder = ladders[place]
        price = ladder.price(width)
        if price <= left:
            left -= price
            ladder.climb(width)
        _push(heap, place, ladder, left)
    return [ladder.width for ladder in ladders]


def _push(
    heap: list[tuple[float, int, int]], place: int, ladder: _Ladder, left: int
) -> None:
    step = ladder.next_step(left)
    if step is not None:
        worth, width = step
        heapq.heappush(heap, (-worth, place, width))


class _Ladder:
    """The widths that one field can have, and what each costs and gains."""

    def __init__(
        self,
        field: Field,
        gains: np.ndarray,
        budget: Budget,
        per_cost: bool,
        constant: bool,
        floor: int,
    ) -> None:
        widths = range(field.output_dim + 1)
        every = [field_cost(field, width, constant) for width in widths]
        costs = np.array([cost.in_unit(budget.unit, field) for cost in every])
        # A wider table that costs no more is taken in place of a narrower one.
        self._costs = np.minimum.accumulate(costs[::-1])[::-1]
        self._best = [
            max(e for e in widths if e >= d and costs[e] == self._costs[d])
            for d in widths
        ]
        self._worth = np.concatenate([[0.0], np.cumsum(np.asarray(gains, "float64"))])
        self._per_cost = per_cost
        self._at = min(floor, field.output_dim)

    @property
    def width(self) -> int:
        return self._best[self._at]

    @property
    def cost(self) -> int:
        return int(self._costs[self._at])

    def price(self, width: int) -> int:
        return int(self._costs[width]) - self.cost

    def climb(self, width: int) -> None:
        self._at = width

    def next_step(self, left: int) -> tuple[float, int] | None:
        """The best next width that `left` can pay for, and its worth."""
        above = np.arange(self._at + 1, len(self._costs))
        prices = self._costs[above] - self.cost
        gains = self._worth[above] - self._worth[self._at]
        possible = (prices <= left) & (gains > 0)
        if not possible.any():
            return None
        if not self._per_cost:
            first = int(np.argmax(possible))
            return float(gains[first]), int(above[first])
        ratios = np.where(possible, gains / np.maximum(prices, 1e-9), -1.0)
        best = int(np.argmax(ratios))
        return float(ratios[best]), int(above[best])
