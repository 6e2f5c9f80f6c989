"""One table while its sizes are found: what its ids can have, and have."""

from __future__ import annotations

import numpy as np

from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.field_plan import FieldPlan, field_cost
from keras_eds.layers.row_blocks import RowBlock, choose_blocks
from keras_eds.plan import TablePlan
from keras_eds.row_plan import RowPlan, row_cost

# Few sizes a table: each is a block of its own, and is looked up on its own.
_COARSENESS = 0.1


class ScaledTable:
    """The sizes that the ids of a table can have, and which each of them has.

    Places in the sizes are those of groups of ids, until `expand` makes them those
    of single ids.

    Args:
        field: The table.
        floor: The least size of an id.
        budget: Its unit is that of all costs.
        projected: Whether rows go through an alignment.
        groups: The group of each id, `(input_dim,)`.
    """

    def __init__(
        self,
        field: Field,
        floor: int,
        budget: Budget,
        projected: bool,
        groups: np.ndarray,
    ) -> None:
        self.field = field
        self.levels = np.arange(min(floor, field.output_dim), field.output_dim + 1)
        # The wish at which each level begins.
        self.edges = self.levels[1:] - 0.5
        self.frozen = False
        self._groups = groups
        self._members: np.ndarray | None = np.bincount(groups)
        self.places = np.zeros(len(self._members), np.int64)
        self._projected = projected
        self._budget_unit = budget.unit

    def take(self, wishes: np.ndarray) -> None:
        """Gives every group the size that belongs to its wish."""
        if self.frozen:
            return
        # A hair, so that x at the end of its range gives the whole table.
        edges = self.edges - 1e-9
        if (wishes[1:] >= wishes[:-1]).all():
            # As most are: few edges are found among many wishes.
            ends = np.searchsorted(wishes, edges)
            numbers = np.diff(ends, prepend=0, append=len(wishes))
            self.places = np.repeat(np.arange(len(numbers)), numbers)
        else:
            self.places = np.searchsorted(edges, wishes, side="right")

    def restrict(self) -> None:
        """Joins neighbouring sizes to their mean, so that there are few."""
        members = self._members
        assert members is not None
        if self.rows:
            least, sizes = int(self.levels[0]), self.sizes
            of_ids = np.repeat(sizes - least, members)
            tops = [b.width + least for b in choose_blocks(of_ids, _COARSENESS)]
            levels, edges, below = [least], [], least
            for top in reversed(tops):
                joined = (sizes > below) & (sizes <= top)
                mean = np.average(sizes[joined], weights=members[joined])
                levels.append(round(float(mean)))
                edges.append(float(sizes[joined].min()) - 0.5)
                below = top
            above = np.arange(below + 1, self.field.output_dim + 1)
            self.levels = np.append(levels, above)
            self.edges = np.append(edges, above - 0.5)
        self.places = np.zeros(len(members), np.int64)
        self.frozen = False

    def expand(self) -> None:
        """Goes on from groups to ids."""
        self.places, self._members = self.places[self._groups], None

    def drop_unused(self) -> None:
        """Forgets the sizes that no id has."""
        kept = np.union1d([0], self.places).astype(np.int64)
        self.levels, self.edges = self.levels[kept], self.edges[kept[1:] - 1]
        self.places = np.searchsorted(kept, self.places)

    def narrow(self, width: int) -> None:
        """Gives all ids one size, which needs no index."""
        self.levels, self.edges = np.array([width]), np.array([])
        self.places = np.zeros_like(self.places)

    def narrow_if_no_worse(self) -> bool:
        """Drops the index for good where one width for all costs and takes no more."""
        most = self._rows_cost()
        if most is None:
            return False
        largest = int(self.sizes.max())
        fitting = [
            width
            for width in range(largest, self.field.output_dim)
            if self._cost_at(width) <= most
        ]
        if fitting:
            self.narrow(max(fitting))
            self.frozen = True
        return bool(fitting)

    def nearness(self, wishes: np.ndarray) -> np.ndarray:
        """Wish by what the next size takes; 0 where there is none."""
        above = np.append(self.edges, np.inf)[self.places]
        return np.where(self.rows, wishes / above, 0.0)

    def prices(self) -> np.ndarray:
        """What the next size of each id costs; infinite where no id has it yet."""
        numbers = np.bincount(self.places, minlength=len(self.levels) + 1)
        steps = np.diff(self.levels).astype(float) * self._unit()
        steps = np.append(steps, np.inf)[: len(self.levels)]
        steps[numbers[1 : len(self.levels) + 1] == 0] = np.inf
        return np.asarray(steps[self.places])

    def advance(self, ids: np.ndarray, price: float) -> bool:
        """Gives ids their next size, unless that costs more than `price`.

        As it may where all ids of the table have one size then.
        """
        places, cost = self.places.copy(), self.cost
        self.places[ids] += 1
        if self.cost <= cost + price:
            return True
        self.places = places
        return False

    def widening(self) -> int | None:
        """What one dimension more for all costs; None for rows and whole tables."""
        if self.rows or self.sizes[0] == self.field.output_dim or not self.same:
            return None
        return self._cost_at(int(self.sizes[0]) + 1) - self.cost

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
    def sizes(self) -> np.ndarray:
        return self.levels[self.places]

    @property
    def same(self) -> bool:
        """Whether all ids have one size."""
        return bool((self.places == self.places[0]).all())

    @property
    def rows(self) -> bool:
        """Whether ids differ, and packed rows cost less than the whole table."""
        return self._rows_cost() is not None

    @property
    def cost(self) -> int:
        """What the table costs, in units of the budget."""
        of_rows = self._rows_cost()
        if of_rows is not None:
            return of_rows
        return min(self._whole(), self._narrow()) if self.same else self._whole()

    def _blocks(self) -> list[RowBlock]:
        numbers = np.bincount(self.places, self._members, len(self.levels))
        used = [p for p in range(len(self.levels) - 1, -1, -1) if numbers[p]]
        if len(used) < 2:
            return []
        return [
            RowBlock(int(numbers[p]), int(self.levels[p]))
            for p in used
            if self.levels[p]
        ]

    def _rows_cost(self) -> int | None:
        """What packed rows cost; None where ids do not differ or it is no gain."""
        blocks = self._blocks()
        if not blocks:
            return None
        cost = row_cost(self.field, blocks, self._projected, False)
        in_unit = cost.in_unit(self._budget_unit, self.field)
        return in_unit if in_unit < self._whole() else None

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
