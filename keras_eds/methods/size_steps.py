"""The course of methods that try sizes in short trainings, and keep the best."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from keras_eds.budget import Budget
from keras_eds.errors import StageError
from keras_eds.field_plan import FieldPlan
from keras_eds.id_quality import Qualities
from keras_eds.layers.masked_twin_checks import check_number
from keras_eds.methods.base import Outcome, Proposal, SearchState, Wait, WarmStart
from keras_eds.methods.scaled_rows import scaled_rows
from keras_eds.methods.single_shot import SingleShot, check_choice, check_count
from keras_eds.methods.sseds import measurements_of
from keras_eds.methods.step_course import Course, Follower
from keras_eds.plan import DimensionPlan
from keras_eds.row_plan import RowPlan
from keras_eds.surgery.small_layer import Alignment

# So much of all trainings is left to the steps, however many budgets there are.
LEAST_FOR_STEPS = 2.0
# Ids are counted, and the full model's quality is measured.
PROBE = {"data": "validation", "counts": True, "quality": True}

Basis = Literal["principal", "columns"]


class SizeSteps(SingleShot):
    """Base of methods that try sizes, one step after the other.

    A step masks the tables to sizes that fit one of the budgets, trains for a short
    while and measures how every id fares: its quality is the mean score of the
    validation examples that carry it, `1 / (1 + loss)`, or what `quality` says. At
    the end the `top` steps of each budget are retrained, those of the largest mean
    of `min(quality / quality_full, 1)` over all ids that were measured, by the
    number of their examples.

    Args:
        top: How many of the plans seen to retrain for each budget.
        low: Least size.
        trainings: What all of it may cost, in trainings of the full model. That is
            1 (a model that is not trained yet) + the steps + `top` for each budget;
            the steps are as long as brings it to that, but at least 2 together.
        steps: Batches to train in a step. None: what `trainings` says.
        fresh: Whether each step is a whole training from scratch.
        basis: What a size counts: a table's `"columns"`, or its `"principal"`
            directions, the eigenvectors of the second moment of its trained
            vectors, each weighed by how often it comes. What a trained model knows
            of an id is spread over all columns, but not over all directions. From
            scratch (`fresh`) the first columns become what matters: there it is
            always the columns.
        quality: A function of the model, as it is after a step, whose result has
            the quality of every id, at least 0, under the name of its table, of
            shape `(input_dim,)`; as `keras_eds.metrics.RankingQuality`. None: that
            of the loss.
        warm_start: Where retraining starts; see `SingleShot`. Anything but
            `"fresh"` keeps columns and needs `basis="columns"`.
        alignment: `"plan"` or `"random"`, of tables whose ids all got one size.
    """

    granularity = "row"

    def __init__(
        self,
        top: int,
        low: int,
        trainings: float,
        steps: int | None,
        fresh: bool,
        basis: Basis,
        quality: Callable[[Any], Any] | None,
        warm_start: WarmStart,
        alignment: Alignment,
    ) -> None:
        check_count("top", top, 1)
        super().__init__("auto", PROBE, warm_start, alignment, draws=top)
        check_count("low", low, 0)
        if steps is not None:
            check_count("steps", steps, 0)
        check_choice("fresh", fresh, (True, False))
        check_choice("basis", basis, ("principal", "columns"))
        if basis == "principal" and not fresh and warm_start != "fresh":
            raise ValueError(
                "`warm_start` must be 'fresh' with basis='principal': kept values "
                "would be those of columns, which no step has tried. Received: "
                f"warm_start={warm_start!r}. Add basis='columns'."
            )
        if quality is not None and not callable(quality):
            raise ValueError(
                "`quality` must be a function of a model, or None. Received: "
                f"quality={quality!r}. Give for instance a RankingQuality."
            )
        if top > self.num_steps:
            raise ValueError(
                f"`top` must be at most the number of steps, {self.num_steps}. "
                f"Received: top={top}. Lower it."
            )
        self.top = top
        self.low = low
        self.trainings = check_number("trainings", trainings, above=True)
        self.steps = steps
        self.fresh = fresh
        self.basis = basis
        # A project is known by what has no underscore: of a function, by its name.
        self._quality = quality
        self.measured_by = _name_of(quality)
        self._follower = Follower()

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """How many sizes are tried."""

    @property
    def quality(self) -> Callable[[Any], Any] | None:
        """What measures how ids fare."""
        return self._quality

    @abstractmethod
    def _budget_of(self, step: int, state: SearchState) -> Budget:
        """The budget that a step is for."""

    @abstractmethod
    def _new_course(self, state: SearchState, full: Qualities) -> Course: ...

    def check(self, state: SearchState) -> None:
        nothing = [np.zeros(field.input_dim) for field in state.fields]
        for budget in state.budgets:
            scaled_rows(state.fields, lambda _: nothing, budget, self.low)

    def propose(
        self, state: SearchState, pending: Sequence[Proposal] = ()
    ) -> Proposal | Wait | None:
        probed = any(outcome is not None for _, outcome in state.done("probe"))
        seen = state.done("step")
        failed = any(outcome is None for _, outcome in seen)
        if not probed or (len(seen) == self.num_steps and not failed):
            return super().propose(state, pending)
        if pending:
            return "wait"
        if failed:
            return None
        settings = {
            "batches": None if self.fresh else self.steps,
            "share": 1.0 if self.fresh else self.share(state),
            "fresh": self.fresh,
            "basis": "columns" if self.fresh else self.basis,
        }
        return Proposal("step", self._followed(state).propose(), settings=settings)

    def share(self, state: SearchState) -> float:
        """How long a step trains, by a training of the full model."""
        others = len(state.budgets) * self.top + (not state.trained)
        left = max(self.trainings - others, LEAST_FOR_STEPS)
        return min(1.0, left / self.num_steps)

    def num_stages(self, state: SearchState) -> int:
        return super().num_stages(state) + self.num_steps

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        """The sizes of a step as they are, or fitted if it was for another budget."""
        step = self._best(state, budget)[draw]
        tried = _seen(state)[step]
        if self._budget_of(step, state) == budget:
            return tried
        known = [
            sizes * (counts > 0)
            for sizes, counts in zip(
                sizes_in(tried), counts_of(state).values(), strict=True
            )
        ]
        return scaled_rows(
            state.fields, lambda x: [np.exp(x) * k for k in known], budget, self.low
        )

    def figures(self, state: SearchState) -> list[dict[str, float]]:
        """What is known of each finished step, in order."""
        return self._followed(state).figures

    def _best(self, state: SearchState, budget: Budget) -> list[int]:
        """The steps in the order in which a budget wants them: of the nearest first."""
        limits = [
            self._budget_of(step, state).limit(state.fields)
            for step in range(len(_seen(state)))
        ]
        far = np.abs(np.log(np.array(limits) / budget.limit(state.fields)))
        quality = np.array(self._followed(state).qualities)
        return [int(step) for step in np.lexsort((-quality, far))]

    def _preparations(self, state: SearchState) -> list[Proposal]:
        keep_initial = self.warm_start == "initial"
        first = Proposal("pretrain", settings={"keep_initial": keep_initial})
        probe = Proposal("probe", settings=PROBE)
        return [probe] if state.trained else [first, probe]

    def _followed(self, state: SearchState) -> Course:
        """The course up to the last finished step."""
        full = state.done("probe")[-1][1]
        assert full is not None
        start = (state.fields, state.budgets, state.seed)
        return self._follower.follow(
            start, full, _finished(state), lambda q: self._new_course(state, q)
        )


def _name_of(quality: Callable[[Any], Any] | None) -> str | None:
    if quality is None:
        return None
    return str(getattr(quality, "__qualname__", type(quality).__qualname__))


def sizes_in(plan: DimensionPlan) -> list[np.ndarray]:
    """The sizes of all ids under a plan, one array a table."""
    sizes = []
    for kept in plan:
        if isinstance(kept, RowPlan):
            sizes.append(np.asarray(kept.sizes))
        else:
            assert isinstance(kept, FieldPlan)
            sizes.append(np.full(kept.field.input_dim, kept.kept_dim, np.int32))
    return sizes


def counts_of(state: SearchState) -> dict[str, np.ndarray]:
    """How often the ids of each field come in the training data."""
    measured, counts = measurements_of(state), {}
    for field in state.fields:
        of_field = measured[field.name].counts
        assert of_field is not None
        counts[field.name] = of_field
    return counts


def _finished(state: SearchState) -> list[tuple[Proposal, Outcome]]:
    """The steps before the first that failed."""
    steps = []
    for proposal, outcome in state.done("step"):
        if outcome is None:
            break
        steps.append((proposal, outcome))
    return steps


def _seen(state: SearchState) -> list[DimensionPlan]:
    """The sizes of all steps.

    Raises:
        StageError: If there is none.
    """
    plans = [proposal.plan for proposal, _ in _finished(state) if proposal.plan]
    if not plans:
        raise StageError(
            "A plan needs sizes that were tried. Received: a search whose steps have "
            "not begun. Call search(...) first."
        )
    return plans
