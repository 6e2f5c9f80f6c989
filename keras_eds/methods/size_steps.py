"""The course of methods that try sizes in short trainings, and keep the best."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from keras_eds.argument_checks import check_choice, check_integer, check_number
from keras_eds.budget import Budget
from keras_eds.errors import BudgetError
from keras_eds.field import Field
from keras_eds.id_quality import Qualities
from keras_eds.methods.base import Proposal, SearchState, Wait, WarmStart
from keras_eds.methods.principal import principal_directions
from keras_eds.methods.quality_ratio import check_measured
from keras_eds.methods.scaled_rows import can_differ, scaled_rows
from keras_eds.methods.single_shot import SingleShot
from keras_eds.methods.sseds import measurements_of
from keras_eds.methods.step_course import Course, Follower, finished_steps, plans_tried
from keras_eds.methods.tried_sizes import along, sizes_in
from keras_eds.methods.wishes import Wishes
from keras_eds.plan import DimensionPlan
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
    number of their examples; and beside them, with `compare`, one width a field, the
    same share of every table. What fares best in a short training may starve a table
    that a whole training needs, and one width needs no index.

    Args:
        top: How many of the plans seen to retrain for each budget.
        compare: Whether to retrain one width a field, too; scores decide.
        low: Least size.
        trainings: What all of it may cost, in trainings of the full model. That is
            1 (a model that is not trained yet) + the steps + what is retrained for
            each budget; the steps are as long as brings it to that, but at least 2
            together.
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
        warm_start: Where retraining starts; see `SingleShot`. None: `"all"`, or
            `"fresh"` where steps are. From trained values, a table keeps of its rows
            what the steps tried: with the principal basis an alignment goes with
            them, which counts. `"fresh"` keeps columns, whatever the basis.
        alignment: `"fixed"`, `"plan"` or `"random"`; see `SingleShot`. Steps are
            trained with fixed directions, whatever it is.
    """

    granularity = "row"

    def __init__(
        self,
        top: int,
        compare: bool,
        low: int,
        trainings: float,
        steps: int | None,
        fresh: bool,
        basis: Basis,
        quality: Callable[[Any], Any] | None,
        warm_start: WarmStart | None,
        alignment: Alignment,
    ) -> None:
        top = check_integer("top", top)
        if warm_start is None:
            warm_start = "fresh" if fresh else "all"
        check_choice("compare", compare, (True, False))
        super().__init__("auto", PROBE, warm_start, alignment, draws=top + compare)
        low = check_integer("low", low, 0)
        if steps is not None:
            steps = check_integer("steps", steps, 0)
        check_choice("fresh", fresh, (True, False))
        check_choice("basis", basis, ("principal", "columns"))
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
        self.compare = compare
        self.low = low
        self.trainings = check_number("trainings", trainings, above=0)
        self.steps = steps
        self.fresh = fresh
        self.basis = basis
        self.probe = {**PROBE, "moments": basis == "principal" and not fresh}
        # A project is known by what has no underscore: of a function, by its name.
        self._quality = quality
        self.measured_by = _name_of(quality)
        self._follower = Follower()

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """How many sizes are tried."""

    @property
    def turns(self) -> bool:
        """Whether what is kept of a table is directions, by an alignment."""
        principal = self.basis == "principal" and not self.fresh
        return principal and self.warm_start != "fresh"

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
            self.fitted(state.fields, Wishes.growing(nothing), budget)
            if not can_differ(state.fields, budget, self.low, self.turns):
                raise BudgetError(
                    "`budget` must have room for ids of different sizes and for the "
                    f"index that finds them. Received: {budget.label}, at which every "
                    f"step would give all ids {self.low}. Raise it, set low=0, or take "
                    "method='sseds'."
                )

    def fitted(
        self, fields: Sequence[Field], wishes: Wishes, budget: Budget
    ) -> DimensionPlan:
        """Sizes that fit a budget; see `scaled_rows`."""
        return scaled_rows(fields, wishes, budget, self.low, self.turns)

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
        others = len(state.budgets) * self.draws + (not state.trained)
        left = max(self.trainings - others, LEAST_FOR_STEPS)
        return min(1.0, left / self.num_steps)

    def num_stages(self, state: SearchState) -> int:
        return super().num_stages(state) + self.num_steps

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        """The sizes of a step, and last one width a field."""
        tried = self._tried(state, budget, draw)
        if not self.turns:
            return tried
        measured = measurements_of(state)
        moments = [measured[field.name].second_moment for field in state.fields]
        turned = (
            along(kept, principal_directions(moment))
            for kept, moment in zip(tried, moments, strict=True)
        )
        return DimensionPlan(tuple(turned))

    def _tried(self, state: SearchState, budget: Budget, draw: int) -> DimensionPlan:
        """A step's sizes as they are, or fitted if it was for another budget."""
        if draw == self.top:
            alike = [np.full(f.input_dim, f.output_dim) for f in state.fields]
            return self.fitted(state.fields, Wishes.growing(alike), budget)
        step = self._best(state, budget)[draw]
        tried = plans_tried(state)[step]
        if self._budget_of(step, state) == budget:
            return tried
        return self._refitted(tried, state, budget)

    def _refitted(
        self, tried: DimensionPlan, state: SearchState, budget: Budget
    ) -> DimensionPlan:
        known = [
            sizes * (counts > 0)
            for sizes, counts in zip(
                sizes_in(tried), counts_of(state).values(), strict=True
            )
        ]
        return self.fitted(state.fields, Wishes.growing(known), budget)

    def figures(self, state: SearchState) -> list[dict[str, float]]:
        """What is known of each finished step, in order."""
        return self._followed(state).figures

    def _best(self, state: SearchState, budget: Budget) -> list[int]:
        """The steps in the order in which a budget wants them: of the nearest first."""
        limits = [
            self._budget_of(step, state).limit(state.fields)
            for step in range(len(plans_tried(state)))
        ]
        far = np.abs(np.log(np.array(limits) / budget.limit(state.fields)))
        quality = np.array(self._followed(state).qualities)
        return [int(step) for step in np.lexsort((-quality, far))]

    def _preparations(self, state: SearchState) -> list[Proposal]:
        keep_initial = self.warm_start == "initial"
        first = Proposal("pretrain", settings={"keep_initial": keep_initial})
        probe = Proposal("probe", settings=dict(self.probe or {}))
        return [probe] if state.trained else [first, probe]

    def _followed(self, state: SearchState) -> Course:
        """The course up to the last finished step."""
        full = state.done("probe")[-1][1]
        assert full is not None and full.qualities is not None
        check_measured(full.qualities, counts_of(state))
        start = (state.fields, state.budgets, state.seed)
        return self._follower.follow(
            start, full, finished_steps(state), lambda q: self._new_course(state, q)
        )


def _name_of(quality: Callable[[Any], Any] | None) -> str | None:
    if quality is None:
        return None
    return str(getattr(quality, "__qualname__", type(quality).__qualname__))


def counts_of(state: SearchState) -> dict[str, np.ndarray]:
    """How often the ids of each field come in the training data."""
    measured, counts = measurements_of(state), {}
    for field in state.fields:
        of_field = measured[field.name].counts
        assert of_field is not None
        counts[field.name] = of_field
    return counts
