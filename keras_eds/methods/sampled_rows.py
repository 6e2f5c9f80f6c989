"""Many random draws of sizes, each tried for a short while: a control of CIESS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_eds.argument_checks import check_integer
from keras_eds.budget import Budget
from keras_eds.id_quality import Qualities
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.quality_ratio import mean_ratio
from keras_eds.methods.random_row_sizes import sorted_draws
from keras_eds.methods.size_steps import (
    Basis,
    SizeSteps,
    counts_of,
)
from keras_eds.methods.step_course import Course
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment


class SampledRows(SizeSteps):
    """Tries random sizes, the largest for the most frequent ids; keeps the best.

    Each of `tries` steps draws sizes as `RandomRowSizes` does, for each budget in
    turn, trains for a short while under their masks and measures how ids fare. The
    `top` steps of the largest mean quality under each budget are retrained, and one
    width a field. All of it is as in `CIESS`, but that nothing is learned from a step.

    Args:
        tries: How many sizes to try. Defaults to 30.
        top: See `SizeSteps`. Defaults to 1.
        compare: See `SizeSteps`. Defaults to True.
        low: Least size. Defaults to 1.
        trainings: What all of it may cost, see `SizeSteps`. Defaults to 10.
        steps: See `SizeSteps`. Defaults to None.
        fresh: See `SizeSteps`. Defaults to False.
        basis: See `SizeSteps`. Defaults to `"principal"`.
        quality: See `SizeSteps`. Defaults to None.
        warm_start: See `SizeSteps`. Defaults to None.
        alignment: See `SizeSteps`. Defaults to `"fixed"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, [0.2, 0.1], method=SampledRows())

    Reference:
        Qu et al., Budgeted Embedding Table, WSDM 2024, arXiv 2310.14884, whose
        ablation chooses among sampled sizes at random. Its draws are from four
        distributions and tables have random shares; here they are as in
        `RandomRowSizes`. Its network, which foretells what sizes give, is left out.
    """

    name = "sampled_rows"

    def __init__(
        self,
        tries: int = 30,
        top: int = 1,
        compare: bool = True,
        low: int = 1,
        trainings: float = 10.0,
        steps: int | None = None,
        fresh: bool = False,
        basis: Basis = "principal",
        quality: Callable[[Any], Any] | None = None,
        warm_start: WarmStart | None = None,
        alignment: Alignment = "fixed",
    ) -> None:
        tries = check_integer("tries", tries)
        self.tries = tries
        super().__init__(
            top,
            compare,
            low,
            trainings,
            steps,
            fresh,
            basis,
            quality,
            warm_start,
            alignment,
        )

    @property
    def num_steps(self) -> int:
        return self.tries

    def _budget_of(self, step: int, state: SearchState) -> Budget:
        return state.budgets[step % len(state.budgets)]

    def _new_course(self, state: SearchState, full: Qualities) -> Course:
        return _Draws(self, state, full)


class _Draws(Course):
    def __init__(
        self, method: SampledRows, state: SearchState, full: Qualities
    ) -> None:
        super().__init__()
        self._method, self._state, self._full = method, state, full
        self._counts = counts_of(state)

    def _sizes(self) -> DimensionPlan:
        step, state = len(self.qualities), self._state
        return self._method.fitted(
            state.fields,
            sorted_draws(state.fields, self._counts, [state.seed, step]),
            self._method._budget_of(step, state),
        )

    def _learn(self, sizes: DimensionPlan, qualities: Qualities) -> float:
        self.figures.append({})
        return mean_ratio(qualities, self._full, self._counts)
