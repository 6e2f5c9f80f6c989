"""What a method is: a state machine over plans.

A method proposes what to train or measure next and observes what came of it. It
never opens a training loop, so a search can stop after any step and go on in
another process.

To add one: a file named after it with the paper in its docstring (formula,
symbols tied to arguments, every departure); a row in `methods/__init__.py`; a
reference computation in the tests; a run in `examples/benchmarks/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.id_quality import Qualities
from keras_eds.learned_sizes import LearnedSizes
from keras_eds.measurements import Measurements
from keras_eds.plan import DimensionPlan
from keras_eds.results import StageName

WarmStart = Literal["all", "tables", "initial", "fresh"]
Wait = Literal["wait"]


@dataclass(frozen=True)
class Proposal:
    """One stage to run.

    Args:
        stage: `"pretrain"` trains the full model, `"probe"` measures it,
            `"learn"` trains it with masks whose sizes are learned, `"step"` with
            masks of the sizes in `plan`, `"retrain"` trains it under `plan`.
        plan: The plan to train under (steps and retraining only).
        budget: The budget that the plan is for (retraining only).
        settings: How to run the stage; plain JSON values.
    """

    stage: StageName
    plan: DimensionPlan | None = None
    budget: Budget | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a proposal: its score, and what a probe measured or learned."""

    score: float
    measurements: Measurements | None = None
    learned: LearnedSizes | None = None
    qualities: Qualities | None = None


@dataclass(frozen=True)
class SearchState:
    """All that a method knows.

    Args:
        fields: The tables to search.
        budgets: What each result may keep.
        seed: Seed of the method's own draws.
        trained: Whether the user's model is trained already.
        finished: Proposals and outcomes in order; None for one that failed.
    """

    fields: tuple[Field, ...]
    budgets: tuple[Budget, ...]
    seed: int
    trained: bool
    finished: tuple[tuple[Proposal, Outcome | None], ...] = ()

    def done(self, stage: StageName) -> list[tuple[Proposal, Outcome | None]]:
        """What is finished of one stage."""
        return [entry for entry in self.finished if entry[0].stage == stage]


class Method(ABC):
    """Base of every method.

    Attributes:
        name: What `EDSSearch(method=...)` calls it.
        granularity: What gets a size of its own: `"field"`, `"row"` or `"entry"`.
        rotates: Whether plans mix the columns of a table.
    """

    name: str
    rotates: bool = False
    granularity: Literal["field", "row", "entry"] = "field"

    def start(
        self,
        fields: Sequence[Field],
        budgets: Sequence[Budget],
        seed: int,
        trained: bool,
    ) -> SearchState:
        """The state before the first step.

        Raises:
            BudgetError: If a budget is smaller than the least possible.
        """
        state = SearchState(tuple(fields), tuple(budgets), seed, trained)
        self.check(state)
        return state

    def observe(
        self, state: SearchState, proposal: Proposal, outcome: Outcome | None
    ) -> SearchState:
        """The state after a stage; `outcome` is None if it failed."""
        return replace(state, finished=(*state.finished, (proposal, outcome)))

    @abstractmethod
    def check(self, state: SearchState) -> None:
        """Refuses what could only fail later."""

    @abstractmethod
    def propose(
        self, state: SearchState, pending: Sequence[Proposal] = ()
    ) -> Proposal | Wait | None:
        """The next stage to run.

        Args:
            state: What is known.
            pending: Proposals that are still running elsewhere.

        Returns:
            A proposal, `"wait"` until a pending one has ended, or None at the end.
        """

    @abstractmethod
    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        """The plan for a budget, from what is known."""

    @abstractmethod
    def num_stages(self, state: SearchState) -> int:
        """How many stages a search has in all."""
