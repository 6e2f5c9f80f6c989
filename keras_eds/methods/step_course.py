"""The steps of a search that tries sizes, one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_eds.errors import StageError
from keras_eds.id_quality import Qualities
from keras_eds.methods.base import Outcome, Proposal, SearchState
from keras_eds.plan import DimensionPlan


class Course(ABC):
    """The steps of a search, in order: sizes, and how ids fared under them.

    Attributes:
        qualities: The mean quality of each step that was observed.
        figures: What else is known of each step, by name.
    """

    def __init__(self) -> None:
        self.qualities: list[float] = []
        self.figures: list[dict[str, float]] = []
        self._next: DimensionPlan | None = None

    def propose(self) -> DimensionPlan:
        """The sizes of the next step; the same until it is observed."""
        if self._next is None:
            self._next = self._sizes()
        return self._next

    def observe(self, sizes: DimensionPlan, qualities: Qualities) -> None:
        """Learns from a step, and notes its mean quality.

        Raises:
            DataError: If a quality is not finite or below 0.
        """
        # Draws what was drawn when the step was proposed.
        self.propose()
        self.qualities.append(self._learn(sizes, qualities))
        self._next = None

    @abstractmethod
    def _sizes(self) -> DimensionPlan: ...

    @abstractmethod
    def _learn(self, sizes: DimensionPlan, qualities: Qualities) -> float: ...


class Follower:
    """Leads a course through what is finished, and through nothing twice."""

    def __init__(self) -> None:
        self._start: Any = None
        self._seen: list[Outcome] = []
        self._course: Course | None = None

    def follow(
        self,
        start: Any,
        full: Outcome,
        steps: Sequence[tuple[Proposal, Outcome]],
        new: Callable[[Qualities], Course],
    ) -> Course:
        """The course after the steps.

        Args:
            start: What tells this search from others.
            full: What the full model came to.
            steps: All that are finished, in order.
            new: Makes the course before its first step, of the full model's qualities.
        """
        outcomes = [full, *(outcome for _, outcome in steps)]
        # If a step cannot be learned from, all are gone through again.
        course, self._course = self._course, None
        if course is None or start != self._start or not _begins(outcomes, self._seen):
            assert full.qualities is not None
            course = new(full.qualities)
            self._start, self._seen = start, [full]
        for proposal, outcome in steps[len(self._seen) - 1 :]:
            assert outcome.qualities is not None and proposal.plan is not None
            course.observe(proposal.plan, outcome.qualities)
            self._seen.append(outcome)
        self._course = course
        return course


def _begins(outcomes: Sequence[Outcome], known: Sequence[Outcome]) -> bool:
    """Whether `outcomes` begins with those that are known."""
    pairs = zip(outcomes, known, strict=False)
    return len(known) <= len(outcomes) and all(_same(*pair) for pair in pairs)


def _same(one: Outcome, other: Outcome) -> bool:
    # A worker reads what it knows already from the disk again, after every step.
    if one is other:
        return True
    if one.score != other.score:
        return False
    assert one.qualities is not None and other.qualities is not None
    arrays, others = one.qualities.arrays(), other.qualities.arrays()
    return all(np.array_equal(arrays[name], others[name]) for name in others)


def finished_steps(state: SearchState) -> list[tuple[Proposal, Outcome]]:
    """The steps before the first that failed."""
    steps = []
    for proposal, outcome in state.done("step"):
        if outcome is None:
            break
        steps.append((proposal, outcome))
    return steps


def plans_tried(state: SearchState) -> list[DimensionPlan]:
    """The sizes of all steps.

    Raises:
        StageError: If there is none.
    """
    plans = [proposal.plan for proposal, _ in finished_steps(state) if proposal.plan]
    if not plans:
        raise StageError(
            "A plan needs sizes that were tried. Received: a search whose steps have "
            "not begun. Call search(...) first."
        )
    return plans
