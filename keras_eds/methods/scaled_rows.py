"""Sizes for ids that all grow with one number, the largest that fits a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_eds.budget import Budget
from keras_eds.errors import BudgetError
from keras_eds.field import Field
from keras_eds.methods.scaled_table import ScaledTable
from keras_eds.methods.wishes import Wishes
from keras_eds.plan import DimensionPlan

_LEAST, _MOST = -60.0, 60.0
_STEPS = 60


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
    and the others go on. A table that costs no less than a narrow one as wide as its
    longest row becomes that. Then the ids that are nearest to the next size of their
    table get it, nearest first, as long as one fits, and what is left goes to narrow
    tables. An id whose wish is 0 at every x keeps `floor`, also where some of
    the budget is left, unless its table is narrow.

    Args:
        fields: The tables.
        wishes: Of their ids.
        budget: What may be kept; index, spare rows and alignment count.
        floor: The least size of an id.
        projected: Whether the rows of a table go through an alignment.

    Returns:
        A plan that fits.

    Raises:
        BudgetError: If the least sizes exceed the budget.
    """
    limit = budget.limit(fields)
    tables = [
        ScaledTable(field, floor, budget, projected, groups)
        for field, groups in zip(fields, wishes.groups, strict=True)
    ]
    _solve(tables, wishes, limit, budget)
    for table in tables:
        table.restrict()
    x = _solve(tables, wishes, limit, budget)
    while any([table.narrow_if_no_worse() for table in tables]):
        x = _solve(tables, wishes, limit, budget)
    for table in tables:
        table.expand()
    _spend_the_rest(tables, wishes.of_ids(x), limit)
    _widen(tables, [wish.max() for wish in wishes.of_groups(x)], limit)
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
    # One id, and all others.
    groups = [np.minimum(np.arange(field.input_dim), 1) for field in fields]
    tables = [
        ScaledTable(field, floor, budget, projected, of_ids)
        for field, of_ids in zip(fields, groups, strict=True)
    ]
    left = budget.limit(fields) - sum(table.cost for table in tables)
    for table in tables:
        least = table.cost
        table.places[0] = min(1, len(table.levels) - 1)
        if table.rows and table.cost - least <= left:
            return True
    return False


def _solve(
    tables: Sequence[ScaledTable], wishes: Wishes, limit: int, budget: Budget
) -> float:
    """Sets sizes at the largest x that fits, and returns it."""
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
        _take(tables, wishes, high)
        costs = [table.cost for table in tables]
        _take(tables, wishes, low)
        entering = [
            (cost, place)
            for place, (table, cost) in enumerate(zip(tables, costs, strict=True))
            if not table.frozen and table.same and cost > table.cost
        ]
        if sum(costs) <= limit or not entering:
            return low
        tables[max(entering)[1]].frozen = True


def _bisect(
    tables: Sequence[ScaledTable], wishes: Wishes, limit: int, low: float
) -> tuple[float, float]:
    """Neighbouring x of which the lower fits, and the higher not unless the last."""
    high = _MOST
    if _fits(tables, wishes, high, limit):
        return high, high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _fits(tables, wishes, middle, limit):
            low = middle
        else:
            high = middle
    return low, high


def _fits(tables: Sequence[ScaledTable], wishes: Wishes, x: float, limit: int) -> bool:
    _take(tables, wishes, x)
    return sum(table.cost for table in tables) <= limit


def _take(tables: Sequence[ScaledTable], wishes: Wishes, x: float) -> None:
    for table, wish in zip(tables, wishes.of_groups(x), strict=True):
        table.take(wish)


def _spend_the_rest(
    tables: Sequence[ScaledTable], wishes: Sequence[np.ndarray], limit: int
) -> None:
    ends = np.cumsum([len(table.places) for table in tables])
    barred = np.zeros(ends[-1], bool)
    # How many ids of a table go on at once.
    most = [len(table.places) for table in tables]
    while True:
        for table in tables:
            table.drop_unused()
        left = limit - sum(table.cost for table in tables)
        near = np.concatenate(
            [t.nearness(wish) for t, wish in zip(tables, wishes, strict=True)]
        )
        prices = np.concatenate([table.prices() for table in tables])
        fits = np.flatnonzero((near > 0) & (prices <= left) & ~barred)
        if not len(fits):
            return
        order = fits[np.argsort(-near[fits], kind="stable")]
        taken = order[np.cumsum(prices[order]) <= left]
        for number, (table, end) in enumerate(zip(tables, ends, strict=True)):
            start = end - len(table.places)
            mine = taken[(taken >= start) & (taken < end)][: most[number]]
            if table.advance(mine - start, prices[mine].sum()):
                most[number] *= 2
            else:
                most[number] = max(1, len(mine) // 2)
                barred[mine] = len(mine) == 1


def _widen(tables: Sequence[ScaledTable], wishes: Sequence[float], limit: int) -> None:
    """Widens tables without an index while that fits, who wishes most by what first."""
    left = limit - sum(table.cost for table in tables)
    while True:
        fitting = [
            (wish / (table.sizes[0] + 0.5), place, price)
            for place, (table, wish) in enumerate(zip(tables, wishes, strict=True))
            if wish > 0 and (price := table.widening()) is not None and price <= left
        ]
        if not fitting:
            return
        _, place, price = max(fitting)
        tables[place].narrow(int(tables[place].sizes[0]) + 1)
        left -= price
