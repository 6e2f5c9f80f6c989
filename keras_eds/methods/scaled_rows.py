"""Sizes for ids that all grow with one number, the largest that fits a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from keras_eds.budget import Budget
from keras_eds.errors import BudgetError
from keras_eds.field import Field
from keras_eds.field_plan import FieldPlan, field_cost
from keras_eds.layers.row_blocks import RowBlock, choose_blocks
from keras_eds.plan import DimensionPlan, TablePlan
from keras_eds.row_plan import RowPlan, row_cost

# A wish for every id of every table, from 0; none falls as the number rises.
Wishes = Callable[[float], Sequence[np.ndarray]]

_LEAST, _MOST = -60.0, 60.0
_STEPS = 60
# Few sizes a table: each is a block of its own, and is looked up on its own.
_COARSENESS = 0.1


def scaled_rows(
    fields: Sequence[Field],
    wishes: Wishes,
    budget: Budget,
    floor: int = 0,
    projected: bool = False,
) -> DimensionPlan:
    """A size for every id: its wish at the largest x that fits, rounded.

    Every size of a table is stored in a block of its own, so a table has few of
    them: neighbouring sizes are joined to their mean, where `choose_blocks` would
    put them in one block. A table that would cost no less than whole is kept whole,
    and one whose ids all have the same size is kept narrow, without an index.

    x is found by bisection. Where the next step of x gives the ids of a table
    different sizes, and its index cannot be paid for, that table stays as it is
    and the others go on. Then the ids that are nearest to the next size of their
    table get it, nearest first, as long as one fits. An id whose wish is 0 at
    every x keeps `floor`, also where some of the budget is left.

    Args:
        fields: The tables.
        wishes: Maps x from -60 to 60 to a wish for every id of every table.
        budget: What may be kept; index, spare rows and alignment count.
        floor: The least size of an id.
        projected: Whether the rows of a table go through an alignment.

    Returns:
        A plan that fits.

    Raises:
        BudgetError: If the least sizes exceed the budget.
    """
    limit = budget.limit(fields)
    tables = [_Table(field, floor, budget, projected) for field in fields]
    _solve(tables, wishes, limit, budget)
    for table in tables:
        table.restrict()
    ratios = _solve(tables, wishes, limit, budget)
    _spend_the_rest(tables, ratios, limit)
    return DimensionPlan(tuple(table.plan() for table in tables))


def can_differ(
    fields: Sequence[Field], budget: Budget, floor: int, projected: bool
) -> bool:
    """Whether a single id of any table may be longer than all others.

    Args:
        fields: The tables.
        budget: What may be kept, at least the least sizes.
        floor: The least size of an id.
        projected: Whether the rows of a table go through an alignment.
    """
    tables = [_Table(field, floor, budget, projected) for field in fields]
    left = budget.limit(fields) - sum(table.cost for table in tables)
    for table in tables:
        least = table.cost
        table.places[0] = min(1, len(table.levels) - 1)
        if table.rows and table.cost - least <= left:
            return True
    return False


class _Table:
    """One table: the sizes that its ids can have, and which each of them has."""

    def __init__(
        self, field: Field, floor: int, budget: Budget, projected: bool
    ) -> None:
        self.field = field
        self.levels = np.arange(min(floor, field.output_dim), field.output_dim + 1)
        # The wish at which each level begins.
        self.edges = self.levels[1:] - 0.5
        self.places = np.zeros(field.input_dim, np.int64)
        self.frozen = False
        self._projected = projected
        self._budget_unit = budget.unit

    def take(self, wishes: np.ndarray) -> None:
        """Gives every id the size that belongs to its wish."""
        if not self.frozen:
            # A hair, so that x at the end of its range gives the whole table.
            self.places = np.searchsorted(self.edges - 1e-9, wishes, side="right")

    def nearness(self, wishes: np.ndarray) -> np.ndarray:
        """Wish by what the next size takes; 0 where there is none."""
        above = np.append(self.edges, np.inf)[self.places]
        return np.where(self.rows, wishes / above, 0.0)

    def restrict(self) -> None:
        """Joins neighbouring sizes to their mean, so that there are few."""
        if self.rows:
            least, sizes = int(self.levels[0]), self.sizes
            tops = [b.width + least for b in choose_blocks(sizes - least, _COARSENESS)]
            levels, edges, below = [least], [], least
            for top in reversed(tops):
                joined = sizes[(sizes > below) & (sizes <= top)]
                levels.append(round(float(joined.mean())))
                edges.append(float(joined.min()) - 0.5)
                below = top
            above = np.arange(below + 1, self.field.output_dim + 1)
            self.levels = np.append(levels, above)
            self.edges = np.append(edges, above - 0.5)
        self.places = np.zeros(self.field.input_dim, np.int64)
        self.frozen = False

    def drop_unused(self) -> None:
        """Forgets the sizes that no id has."""
        kept = np.union1d([0], self.places).astype(np.int64)
        self.levels, self.edges = self.levels[kept], self.edges[kept[1:] - 1]
        self.places = np.searchsorted(kept, self.places)

    @property
    def sizes(self) -> np.ndarray:
        return self.levels[self.places]

    @property
    def rows(self) -> bool:
        """Whether ids differ, and packed rows cost less than the whole table."""
        return len(self._blocks()) > 0 and self._rows_cost() < self._whole()

    @property
    def cost(self) -> int:
        """What the table costs, in units of the budget."""
        if self.rows:
            return self._rows_cost()
        return min(self._whole(), self._narrow()) if self.same else self._whole()

    def prices(self) -> np.ndarray:
        """What the next size of each id costs; infinite where no id has it yet."""
        numbers = np.bincount(self.places, minlength=len(self.levels) + 1)
        steps = np.diff(self.levels).astype(float) * self._unit()
        steps = np.append(steps, np.inf)[: len(self.levels)]
        steps[numbers[1 : len(self.levels) + 1] == 0] = np.inf
        return np.asarray(steps[self.places])

    def plan(self) -> TablePlan:
        """What is kept of the table."""
        width = self.field.output_dim
        if self.rows:
            matrix = np.eye(width)[:, : self.sizes.max()] if self._projected else None
            turned = None if matrix is None else matrix.T
            return RowPlan(self.field, self.sizes, matrix, turned, None, self._blocks())
        if self.same and self._narrow() < self._whole():
            return FieldPlan.of_columns(self.field, range(int(self.sizes[0])))
        return FieldPlan.full(self.field)

    @property
    def same(self) -> bool:
        """Whether all ids have one size."""
        return bool((self.places == self.places[0]).all())

    def _blocks(self) -> list[RowBlock]:
        numbers = np.bincount(self.places, minlength=len(self.levels))
        used = [p for p in range(len(self.levels) - 1, -1, -1) if numbers[p]]
        if len(used) < 2:
            return []
        return [
            RowBlock(int(numbers[p]), int(self.levels[p]))
            for p in used
            if self.levels[p]
        ]

    def _rows_cost(self) -> int:
        cost = row_cost(self.field, self._blocks(), self._projected, False)
        return cost.in_unit(self._budget_unit, self.field)

    def _narrow(self) -> int:
        return self._cost_at(int(self.sizes[0]))

    def _whole(self) -> int:
        return self._cost_at(self.field.output_dim)

    def _cost_at(self, width: int) -> int:
        return field_cost(self.field, width, False).in_unit(
            self._budget_unit, self.field
        )

    def _unit(self) -> int:
        return self.field.value_bytes if self._budget_unit == "bytes" else 1


def _solve(
    tables: Sequence[_Table], wishes: Wishes, limit: int, budget: Budget
) -> list[np.ndarray]:
    """Sets sizes at the largest x that fits; returns the wishes there."""
    least = sum(table.cost for table in tables)
    if least > limit:
        raise BudgetError(
            f"`budget` must be at least {least} {budget.unit}, the least possible for "
            f"these {len(tables)} tables. Received: {budget.label}, which is {limit} "
            f"{budget.unit}. Raise it, or lower the least size."
        )
    low = _LEAST
    while True:
        low, high = _bisect(tables, wishes, limit, low)
        _take(tables, wishes(high))
        costs = [table.cost for table in tables]
        _take(tables, wishes(low))
        entering = [
            (cost, place)
            for place, (table, cost) in enumerate(zip(tables, costs, strict=True))
            if not table.frozen and table.same and cost > table.cost
        ]
        if sum(costs) <= limit or not entering:
            return list(wishes(low))
        tables[max(entering)[1]].frozen = True


def _bisect(
    tables: Sequence[_Table], wishes: Wishes, limit: int, low: float
) -> tuple[float, float]:
    """Neighbouring x of which the lower fits, and the higher not unless the last."""
    high = _MOST
    if _fits(tables, wishes(high), limit):
        return high, high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _fits(tables, wishes(middle), limit):
            low = middle
        else:
            high = middle
    return low, high


def _fits(tables: Sequence[_Table], wishes: Sequence[np.ndarray], limit: int) -> bool:
    _take(tables, wishes)
    return sum(table.cost for table in tables) <= limit


def _take(tables: Sequence[_Table], wishes: Sequence[np.ndarray]) -> None:
    for table, wish in zip(tables, wishes, strict=True):
        table.take(wish)


def _spend_the_rest(
    tables: Sequence[_Table], wishes: Sequence[np.ndarray], limit: int
) -> None:
    while True:
        for table in tables:
            table.drop_unused()
        left = limit - sum(table.cost for table in tables)
        near = np.concatenate(
            [t.nearness(wish) for t, wish in zip(tables, wishes, strict=True)]
        )
        prices = np.concatenate([table.prices() for table in tables])
        fits = np.flatnonzero((near > 0) & (prices <= left))
        if not len(fits):
            return
        order = fits[np.argsort(-near[fits], kind="stable")]
        taken = order[np.cumsum(prices[order]) <= left]
        before = [table.places.copy() for table in tables]
        ends = np.cumsum([len(table.places) for table in tables])
        for table, end in zip(tables, ends, strict=True):
            start = end - len(table.places)
            table.places[taken[(taken >= start) & (taken < end)] - start] += 1
        if sum(table.cost for table in tables) > limit:
            # All ids of a table have one size now, whose alignment is dearer.
            for table, places in zip(tables, before, strict=True):
                table.places = places
            return
