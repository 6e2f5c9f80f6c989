"""Random sizes for every id, by popularity or not: controls for row methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_eds.argument_checks import check_choice
from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.scaled_rows import scaled_rows
from keras_eds.methods.single_shot import COUNTS, SingleShot
from keras_eds.methods.sseds import measurements_of
from keras_eds.methods.wishes import Wishes
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment


class RandomRowSizes(SingleShot):
    """Draws a size for every id at random, the largest for the most frequent ids.

    Id i of a table of width D draws `u_i`, uniform on 0 to 1, once for each draw.
    With `sorted_by_frequency`, the draws of a table are dealt out again: the
    largest goes to the id that comes most often in the training data, of equally
    frequent ids to the lowest. Then `size_i = min(D, c * u_i)`, rounded: uniform
    on 0 to c, with c the same for all tables and as large as the budget allows.

    A table has few different sizes, each stored without padding, and what c leaves
    of the budget goes to the ids that are nearest to their next size; see
    `scaled_rows`. An id of size 0 has the zero vector. Nothing is measured but
    counts, and without sorting nothing at all; the model is trained at its size.

    Args:
        draws: How many draws to train for each budget. Defaults to 1.
        sorted_by_frequency: Whether frequent ids get the large sizes. Defaults to
            True; False is the control without any knowledge.
        warm_start: Where training starts; see `SingleShot`. Defaults to
            `"fresh"`.
        alignment: `"plan"`, `"fixed"` or `"random"`, of tables whose ids all got one
            size. Defaults to `"random"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, 0.1, method=RandomRowSizes(draws=3))

    Reference:
        Sizes drawn and handed out by frequency: the sampler of Qu et al., Budgeted
        Embedding Table, WSDM 2024, arXiv 2310.14884. Its draws are from four
        distributions and their scale is drawn too; here they are uniform, and c
        is solved for the bytes that are stored.
    """

    name = "random_rows"
    granularity = "row"

    def __init__(
        self,
        draws: int = 1,
        sorted_by_frequency: bool = True,
        warm_start: WarmStart = "fresh",
        alignment: Alignment = "random",
    ) -> None:
        check_choice("sorted_by_frequency", sorted_by_frequency, (True, False))
        probe = COUNTS if sorted_by_frequency else None
        super().__init__("auto", probe, warm_start, alignment, draws)
        self.sorted_by_frequency = sorted_by_frequency

    def check(self, state: SearchState) -> None:
        nothing = [np.zeros(field.input_dim) for field in state.fields]
        for budget in state.budgets:
            scaled_rows(state.fields, Wishes.growing(nothing), budget)

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        return scaled_rows(state.fields, self._wishes(state, draw), budget)

    def _wishes(self, state: SearchState, draw: int) -> Wishes:
        counts = None
        if self.sorted_by_frequency:
            measured = measurements_of(state)
            counts = {field.name: measured[field.name].counts for field in state.fields}
        return sorted_draws(state.fields, counts, [state.seed, draw])


def sorted_draws(
    fields: Sequence[Field], counts: Mapping[str, Any] | None, seed: Sequence[int]
) -> Wishes:
    """Uniform draws for the ids of all fields.

    Args:
        fields: The tables.
        counts: How often each id comes, by field: the largest draws go to the most
            frequent ids. None: to any.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    draws = [random.uniform(size=field.input_dim) for field in fields]
    if counts is not None:
        for field, drawn in zip(fields, draws, strict=True):
            often = np.asarray(counts[field.name]).astype("int64")
            order = np.argsort(-often, kind="stable")
            drawn[order] = np.sort(drawn)[::-1]
    return Wishes.growing(draws)
