"""Random widths: the control that a search has to beat."""

from __future__ import annotations

import numpy as np

from keras_eds.budget import Budget
from keras_eds.methods.allocation import allocate
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.single_shot import SingleShot
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment


class RandomSizes(SingleShot):
    """Draws a width for every field, and makes the draw fit the budget.

    Every field's wish is uniform on 0, ..., `output_dim`; the columns with most
    of a wish unmet are bought first until the budget is full.

    Args:
        draws: How many draws to train for each budget. Defaults to 1.
        warm_start: Where training starts; see `SingleShot`. Defaults to
            `"fresh"`.
        alignment: `"plan"`, `"fixed"` or `"random"`; see `SingleShot`. Defaults to
            `"random"`.

    Example:

    >>> search = keras_eds.EDSSearch(model, 0.1, method=RandomSizes(draws=3))
    """

    name = "random"

    def __init__(
        self,
        draws: int = 1,
        warm_start: WarmStart = "fresh",
        alignment: Alignment = "random",
    ) -> None:
        super().__init__("auto", None, warm_start, alignment, draws)

    def check(self, state: SearchState) -> None:
        for budget in state.budgets:
            self.plan(state, budget)

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        random = np.random.default_rng([state.seed, draw])
        gains = []
        for field in state.fields:
            wish = random.integers(0, field.output_dim + 1)
            column = np.arange(field.output_dim)
            tie = random.uniform() / (2.0 * (column + 1))
            gains.append(np.maximum(wish - column, 0) + tie)
        widths = allocate(state.fields, gains, budget, per_cost=False, constant=False)
        sizes = {f.name: w for f, w in zip(state.fields, widths, strict=True)}
        return DimensionPlan.of_sizes(state.fields, sizes)
