"""Mixed dimension embeddings: widths by a power of how often rows are looked up."""

from __future__ import annotations

from typing import Literal

import numpy as np

from keras_eds.argument_checks import check_choice, check_integer, check_number
from keras_eds.budget import Budget
from keras_eds.methods.allocation import allocate
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.scaled_rows import scaled_rows
from keras_eds.methods.single_shot import COUNTS, SingleShot
from keras_eds.methods.sseds import measurements_of
from keras_eds.methods.wishes import Wishes
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment

By = Literal["popularity", "field"]


class MDE(SingleShot):
    """Sizes by a power rule, `d = base * (p / max p)^alpha`, solved for the budget.

    `by="popularity"`: p_i is how often id i comes in the training data, over all
    tables, and every id has a size of its own. An id that never comes has size
    `floor`. `by="field"`: every field has one width, with `p_f = 1 / input_dim`:
    an id of a small vocabulary is looked up more often than one of a large one.

    Where `alpha` is None, the base is the table's `output_dim`, and alpha from 0
    to 1 is solved; if even alpha = 1 exceeds the budget, the base is lowered at
    alpha = 1. Where `alpha` is given, the base is solved, and no size goes above
    `output_dim`. A size is rounded to the nearest integer (or, for ids, to one of
    a few sizes of the table), and what is left of the budget goes to the fields or
    ids that come next on the same way, as long as one fits.

    Departures: a size can be 0, since for an id one value and its index may be
    more than a budget allows; `floor=1` is the paper's. Ids of a table share one
    projection, of which a size d takes the first d rows, where the paper has one
    for each block of ids. Blocks follow from the sizes and are not given. Fields
    of few rows have no threshold of their own: the widest that fits is theirs.
    Projections and indices count against the budget.

    Args:
        by: `"popularity"` or `"field"`. Defaults to `"popularity"`.
        alpha: The temperature, above 0 and at most 1; 0.3 is the default of
            the authors' code. Defaults to `None`: solved.
        floor: The least size of an id or a field. Defaults to 0.
        projection: Whether rows go through a trained projection to `output_dim`,
            as in the paper; without it they are padded with zeros. Fields of one
            width always do. Defaults to True.
        warm_start: Where training starts; see `SingleShot`. Defaults to
            `"fresh"`: trained from scratch at its size, as in the paper.
        alignment: `"plan"`, `"fixed"` or `"random"`; see `SingleShot`. Defaults to
            `"random"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, 0.1, method=MDE(alpha=0.3))

    Reference:
        Ginart et al., Mixed Dimension Embeddings with Application to Memory-
        Efficient Recommendation Systems, ISIT 2021, arXiv 1909.11810. A solved
        alpha: Zhang et al., Experimental Analysis of Large-scale Learnable Vector
        Storage Compression, VLDB 2024.
    """

    name = "mde"

    def __init__(
        self,
        by: By = "popularity",
        alpha: float | None = None,
        floor: int = 0,
        projection: bool = True,
        warm_start: WarmStart = "fresh",
        alignment: Alignment = "random",
    ) -> None:
        check_choice("by", by, ("popularity", "field"))
        check_choice("projection", projection, (True, False))
        floor = check_integer("floor", floor, 0)
        if alpha is not None:
            remedy = "Leave it out to have it solved."
            alpha = check_number("alpha", alpha, above=0, most=1, remedy=remedy)
        probe = COUNTS if by == "popularity" else None
        super().__init__("auto", probe, warm_start, alignment)
        self.by = by
        self.alpha = alpha
        self.floor = floor
        self.projection = projection
        self.granularity = "row" if by == "popularity" else "field"
        self.rotates = projection and by == "popularity"

    def check(self, state: SearchState) -> None:
        nothing = [np.zeros(field.input_dim) for field in state.fields]
        for budget in state.budgets:
            if self.by == "field":
                self.plan(state, budget)
            else:
                self._rows(state, Wishes.growing(nothing), budget)

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        if self.by == "popularity":
            return self._rows(state, self._wishes(state), budget)
        widths = allocate(
            state.fields, self._field_gains(state), budget, False, False, self.floor
        )
        sizes = {f.name: w for f, w in zip(state.fields, widths, strict=True)}
        return DimensionPlan.of_sizes(state.fields, sizes)

    def _rows(
        self, state: SearchState, wishes: Wishes, budget: Budget
    ) -> DimensionPlan:
        return scaled_rows(state.fields, wishes, budget, self.floor, self.projection)

    def _wishes(self, state: SearchState) -> Wishes:
        """The power rule at every x: alpha or the base that belongs to it."""
        measured = measurements_of(state)
        counts = [np.asarray(measured[f.name].counts, "float64") for f in state.fields]
        most = max(max(count.max() for count in counts), 1.0)
        shares = [count / most for count in counts]
        dims = [field.output_dim for field in state.fields]
        if self.alpha is not None:
            return Wishes.growing([share**self.alpha for share in shares])
        parts = [np.unique(share, return_inverse=True) for share in shares]

        def of_groups(x: float) -> list[np.ndarray]:
            alpha, base = np.exp(-max(x, 0.0)), np.exp(min(x, 0.0))
            return [
                np.where(share > 0, dim * base * share**alpha, 0.0)
                for dim, (share, _) in zip(dims, parts, strict=True)
            ]

        return Wishes([groups for _, groups in parts], of_groups)

    def _field_gains(self, state: SearchState) -> list[np.ndarray]:
        """How early every column of a field comes as the budget grows.

        Column j comes where the rule reaches j - 1/2. `allocate` takes what is
        worth more first, so that a worth that falls with the place on the way is
        the rule at whatever place the budget ends.
        """
        fewest = min(field.input_dim for field in state.fields)
        gains = []
        for field in state.fields:
            share = fewest / field.input_dim
            middles = np.arange(field.output_dim) + 0.5
            if self.alpha is not None:
                gains.append(share**self.alpha / middles)
                continue
            rise = field.output_dim / middles
            # At alpha 1 and a falling base: 0 to 1. Above: alpha falls from 1 to 0.
            base = 1 / (rise * share)
            alpha = np.log(rise) / max(-np.log(share), 1e-12)
            gains.append(np.where(base <= 1, 2 - base, np.minimum(alpha, 1)))
        return gains
