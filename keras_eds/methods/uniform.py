"""Equal widths for every field: the first control of every comparison."""

from __future__ import annotations

import numpy as np

from keras_eds.budget import Budget
from keras_eds.methods.allocation import allocate
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.single_shot import SingleShot
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment


class Uniform(SingleShot):
    """Gives every field the same width d, the largest that fits the budget.

    What is left over buys further columns, level by level, wherever they still
    fit, so that the budget is as full as any other method's: some fields get one
    more column, and tables that are cheap enough stay whole.

    Args:
        warm_start: Where training starts; see `SingleShot`. Defaults to
            `"fresh"`: trained from scratch at its size.
        alignment: `"plan"`, `"fixed"` or `"random"`; see `SingleShot`. Defaults to
            `"random"`.

    Example:

    >>> search = keras_eds.EDSSearch(model, 0.1, method="uniform")
    """

    name = "uniform"

    def __init__(
        self, warm_start: WarmStart = "fresh", alignment: Alignment = "random"
    ) -> None:
        super().__init__("auto", None, warm_start, alignment)

    def check(self, state: SearchState) -> None:
        for budget in state.budgets:
            self.plan(state, budget)

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        # Every first column before any second one.
        gains = [1.0 / np.arange(1, f.output_dim + 1) for f in state.fields]
        widths = allocate(state.fields, gains, budget, per_cost=False, constant=False)
        sizes = {f.name: w for f, w in zip(state.fields, widths, strict=True)}
        return DimensionPlan.of_sizes(state.fields, sizes)
