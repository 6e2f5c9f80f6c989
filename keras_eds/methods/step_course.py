"""The steps of a search that tries sizes, one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod

from keras_eds.id_quality import Qualities
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
