"""Spends a budget on ids and fields at once, each at the size that pays best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_eds.budget import Budget
from keras_eds.errors import BudgetError
from keras_eds.field import Field
from keras_eds.field_plan import field_cost
from keras_eds.layers.row_blocks import RowBlock
from keras_eds.row_plan import row_cost

_STEPS = 60
_ENOUGH = 1e-3


@dataclass
class TableOptions:
    """What one table can keep, and what that is worth.

    Either every id keeps the same width (a narrow table), or each its own size
    out of `levels` (packed rows), whichever pays better.

    Args:
        field: The table.
        by_width: Worth of the widths 0 to `output_dim`, shape `(output_dim + 1,)`.
        levels: The sizes that an id can have, ascending from 0, shape `(K,)`.
        by_level: Worth of each level of each id, shape `(input_dim, K)`.
    """

    field: Field
    by_width: np.ndarray
    levels: np.ndarray
    by_level: np.ndarray
    chosen: np.ndarray | int = 0

    def choose(self, price: float, budget: Budget) -> None:
        """Takes what gains most if a unit of the budget costs `price`."""
        unit = self._unit(budget)
        costs = np.array([self._width_cost(d, budget) for d in self._widths()])
        width = int(np.argmax(self.by_width - price * costs))
        best = self.by_width[width] - price * costs[width]
        self.chosen = width
        places = np.zeros(len(self.by_level), np.int8)
        gains = self.by_level[:, 0].astype("float64")
        for place, level in enumerate(self.levels[1:], start=1):
            here = self.by_level[:, place] - price * unit * float(level)
            better = here > gains
            places[better], gains[better] = place, here[better]
        kept = self.levels[places]
        free = float(unit * kept.sum())
        if gains.sum() - price * (self._rows_cost(places, budget) - free) > best:
            self.chosen = places

    def cost(self, budget: Budget) -> int:
        """What is chosen costs, in units of the budget."""
        if isinstance(self.chosen, np.ndarray):
            return self._rows_cost(self.chosen, budget)
        return self._width_cost(self.chosen, budget)

    def sizes(self) -> np.ndarray | None:
        """The size of every id, or None if all have the same."""
        chosen = self.chosen
        return self.levels[chosen] if isinstance(chosen, np.ndarray) else None

    def blocks(self) -> list[RowBlock]:
        """One block for each size that is chosen."""
        assert isinstance(self.chosen, np.ndarray)
        return self._blocks(self.chosen)

    def restrict(self, levels: Sequence[int]) -> None:
        """Leaves only some sizes to choose from."""
        places = np.searchsorted(self.levels, [0, *sorted(levels)])
        self.levels, self.by_level = self.levels[places], self.by_level[:, places]

    def steps(self, budget: Budget) -> tuple[np.ndarray, ...]:
        """What can be taken next: worth a unit, price, id or -1, and place."""
        if not isinstance(self.chosen, np.ndarray):
            return self._width_step(budget)
        # A size that no id has yet would cost a spare row, too.
        used = np.bincount(self.chosen, minlength=len(self.levels)) > 0
        now = np.take_along_axis(self.by_level, self.chosen[:, None], axis=1)
        prices = (self.levels[None, :] - self.levels[self.chosen][:, None]).astype(
            float
        )
        prices *= self._unit(budget)
        higher = (prices > 0) & used
        worth = np.where(higher, self.by_level - now, 0.0)
        ratios = np.where(worth > 0, worth / np.where(higher, prices, 1.0), 0.0)
        place = np.argmax(ratios, axis=1)
        ids = np.arange(len(place))
        found = ids[ratios[ids, place] > 0]
        place = place[found]
        return ratios[found, place], prices[found, place], found, place

    def _width_step(self, budget: Budget) -> tuple[np.ndarray, ...]:
        now = int(self.chosen)  # type: ignore[arg-type]
        above = np.arange(now + 1, self.field.output_dim + 1)
        costs = np.array([float(self._width_cost(int(d), budget)) for d in above])
        prices = costs - self._width_cost(now, budget)
        worth = self.by_width[above] - self.by_width[now]
        ratios = np.where(worth > 0, worth / np.maximum(prices, 1e-9), 0.0)
        found = ratios > 0
        ids = np.full(found.sum(), -1)
        return ratios[found], prices[found], ids, above[found]

    def take(self, ids: np.ndarray, places: np.ndarray) -> None:
        """Takes steps that `steps` offered."""
        if isinstance(self.chosen, np.ndarray):
            self.chosen[ids] = places
        else:
            self.chosen = int(places[0])

    def _widths(self) -> range:
        return range(self.field.output_dim + 1)

    def _unit(self, budget: Budget) -> int:
        return self.field.value_bytes if budget.unit == "bytes" else 1

    def _width_cost(self, width: int, budget: Budget) -> int:
        cost = field_cost(self.field, int(width), True)
        return cost.in_unit(budget.unit, self.field)

    def _rows_cost(self, places: np.ndarray, budget: Budget) -> int:
        cost = row_cost(self.field, self._blocks(places), True, True)
        return cost.in_unit(budget.unit, self.field)

    def _blocks(self, places: np.ndarray) -> list[RowBlock]:
        numbers = np.bincount(places, minlength=len(self.levels))
        used = [p for p in range(len(self.levels) - 1, 0, -1) if numbers[p]]
        return [RowBlock(int(numbers[p]), int(self.levels[p])) for p in used]


def allocate_rows(tables: Sequence[TableOptions], budget: Budget) -> None:
    """Chooses for every table so that a budget is full and never exceeded.

    The choice that gains most at a price for each unit of the budget, with the
    lowest price at which it fits (a Lagrange multiplier, by bisection); then what
    is left is spent on the steps that pay best, until none fits any more.

    Raises:
        BudgetError: If even nothing at all exceeds the budget.
    """
    limit = budget.limit([table.field for table in tables])
    for table in tables:
        table.chosen = 0
    least = _total(tables, budget)
    if least > limit:
        raise BudgetError(
            f"`budget` must be at least {least} {budget.unit}, the least possible for "
            f"these {len(tables)} tables. Received: {budget.label}, which is {limit} "
            f"{budget.unit}. Raise it."
        )
    if _cost_at(tables, 0.0, budget) > limit:
        _raise_price(tables, budget, limit)
    _spend_the_rest(tables, budget, limit)


def _raise_price(tables: Sequence[TableOptions], budget: Budget, limit: int) -> None:
    low, high = 0.0, _highest_price(tables)
    for _ in range(_STEPS):
        middle = (low + high) / 2 if low else high / 16
        cost = _cost_at(tables, middle, budget)
        if cost > limit:
            low = middle
            continue
        high = middle
        # The rest is spent step by step.
        if cost >= (1 - _ENOUGH) * limit:
            return
        if low and high / low < 1 + 1e-6:
            break
    if _cost_at(tables, high, budget) > limit:
        for table in tables:
            table.chosen = 0


def _highest_price(tables: Sequence[TableOptions]) -> float:
    most = max((float(table.by_level.max()) for table in tables), default=0.0)
    wide = max((float(table.by_width.max()) for table in tables), default=0.0)
    return max(most, wide, 1e-300)


def _cost_at(tables: Sequence[TableOptions], price: float, budget: Budget) -> int:
    for table in tables:
        table.choose(price, budget)
    return _total(tables, budget)


def _total(tables: Sequence[TableOptions], budget: Budget) -> int:
    return sum(table.cost(budget) for table in tables)


def _spend_the_rest(tables: Sequence[TableOptions], budget: Budget, limit: int) -> None:
    while True:
        left = limit - _total(tables, budget)
        offers = [table.steps(budget) for table in tables]
        ratios, prices, ids, places = (
            np.concatenate([offer[i] for offer in offers]) for i in range(4)
        )
        owner = np.repeat(np.arange(len(tables)), [len(o[0]) for o in offers])
        fits = np.flatnonzero(prices <= left)
        if not len(fits):
            return
        order = fits[np.argsort(-ratios[fits], kind="stable")]
        # A table takes one step in width at a time: its offers exclude each other.
        order = order[: _first_width_step(ids[order])]
        taken = order[np.cumsum(prices[order]) <= left]
        for place, table in enumerate(tables):
            mine = taken[owner[taken] == place]
            if len(mine):
                table.take(ids[mine], places[mine])


def _first_width_step(ids: np.ndarray) -> int:
    """How many offers come up to and with the first that is a table's width."""
    widths = np.flatnonzero(ids < 0)
    return int(widths[0]) + 1 if len(widths) else len(ids)
