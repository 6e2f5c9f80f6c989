"""Refuses budgets at which nothing of any table could be kept."""

from __future__ import annotations

from collections.abc import Sequence

from keras_eds.budget import Budget
from keras_eds.cost import Cost
from keras_eds.errors import BudgetError
from keras_eds.field import Field
from keras_eds.field_plan import field_cost
from keras_eds.layers.row_blocks import RowBlock
from keras_eds.methods.base import Method
from keras_eds.row_plan import row_cost


def check_room(fields: Sequence[Field], budget: Budget, method: Method) -> None:
    """Refuses a budget that the least that is not nothing exceeds.

    That is one dimension of a table and its alignment, the table whole, or, with a
    size for every id, the index and a value of one id.

    Raises:
        BudgetError: If the budget is smaller.
    """
    by_row = method.granularity == "row"
    needed = min(
        cost.in_unit(budget.unit, field)
        for field in fields
        for cost in _least_costs(field, by_row)
    )
    limit = budget.limit(fields)
    if limit < needed:
        raise BudgetError(
            f"`budget` must be at least {needed} {budget.unit}: less has no room for "
            f"one dimension of the smallest of these {len(fields)} tables. Received: "
            f"{budget.label}, which is {limit} {budget.unit}. Raise it."
        )


def _least_costs(field: Field, by_row: bool) -> list[Cost]:
    widths = {1, field.output_dim}
    costs = [field_cost(field, width, constant=False) for width in widths]
    if by_row:
        costs.append(row_cost(field, [RowBlock(1, 1)], rotated=False, constant=False))
    return costs
