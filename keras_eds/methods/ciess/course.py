"""What the agents of all fields have come by in a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_eds.field import Field
from keras_eds.id_quality import Qualities
from keras_eds.methods.ciess.field_agent import FieldAgent
from keras_eds.plan import DimensionPlan
from keras_eds.row_plan import RowPlan


class Course:
    """The steps of a search, in order: sizes, and how ids fared under them.

    It follows from its arguments and from what it observed alone: a course that
    observes the same again proposes the same.

    Args:
        fields: The tables.
        counts: How often ids occur in the training data, by field.
        full: How ids fare in the full-size model.
        iterations: Steps of an episode, which begins at full width.
        seed: That of the search; each field's agent gets one of its own.
        **options: `low`, `penalty` and `options` of `FieldAgent`.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        counts: Mapping[str, Any],
        full: Qualities,
        iterations: int,
        seed: int,
        **options: Any,
    ) -> None:
        self._agents = [
            FieldAgent(f, counts[f.name], full[f.name], seed=seed + place, **options)
            for place, f in enumerate(fields)
        ]
        self._iterations = iterations
        self._next: DimensionPlan | None = None
        self.qualities: list[float] = []

    def propose(self) -> DimensionPlan:
        """The sizes of the next step; the same until it is observed."""
        if self._next is None:
            if len(self.qualities) % self._iterations == 0:
                for agent in self._agents:
                    agent.start_episode()
            plans = (RowPlan(agent.field, agent.propose()) for agent in self._agents)
            self._next = DimensionPlan(tuple(plans))
        return self._next

    def observe(self, sizes: DimensionPlan, qualities: Qualities) -> None:
        """Lets the agents learn from a step, and notes its mean quality.

        Raises:
            DataError: If a quality is not finite or below 0.
        """
        # Draws what was drawn when the step was proposed.
        self.propose()
        ratios = [
            agent.observe(tried, qualities[agent.field.name])
            for agent, tried in zip(self._agents, sizes_in(sizes), strict=True)
        ]
        joined = np.concatenate(ratios)
        self.qualities.append(float(joined.mean()) if joined.size else 1.0)
        self._next = None


def sizes_in(plan: DimensionPlan) -> list[np.ndarray]:
    """The sizes of all ids, one array a table, of a plan that `Course` proposed."""
    sizes = []
    for kept in plan:
        assert isinstance(kept, RowPlan)
        sizes.append(np.asarray(kept.sizes))
    return sizes
