"""What the agents of all fields have come by in a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.id_quality import Qualities
from keras_eds.methods.ciess.field_agent import FieldAgent
from keras_eds.methods.quality_ratio import mean_ratio
from keras_eds.methods.step_course import Course
from keras_eds.methods.tried_sizes import sizes_in
from keras_eds.methods.wishes import Wishes
from keras_eds.plan import DimensionPlan

FIRST_PENALTY = 0.4
# A price moves by the square root of what sizes miss the budget by, at most so far.
MOST_CHANGE = 2.0


class AgentCourse(Course):
    """The steps of a search, in order: sizes, and how ids fared under them.

    It follows from its arguments and from what it observed alone: a course that
    observes the same again proposes the same.

    Args:
        fields: The tables.
        counts: How often ids occur in the training data, by field.
        full: How ids fare in the full-size model.
        budgets: That of every step.
        iterations: Steps of an episode, which begins at full width.
        seed: That of the search; each field's agent gets one of its own.
        fitted: Makes sizes of wishes that fit a budget; see `SizeSteps.fitted`.
        low: Least size.
        penalty: lambda, or None: whatever brings wishes to the budget.
        shift: See `CIESS`.
        **options: `reward`, `relative` and `options` of `FieldAgent`.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        counts: Mapping[str, Any],
        full: Qualities,
        budgets: Sequence[Budget],
        iterations: int,
        seed: int,
        fitted: Callable[[Sequence[Field], Wishes, Budget], DimensionPlan],
        low: int,
        penalty: float | None,
        shift: float | None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._fields, self._counts, self._full = fields, counts, full
        self._fitted, self._shift = fitted, shift
        self._agents = [
            FieldAgent(
                f, counts[f.name], full[f.name], low, seed=seed + place, **options
            )
            for place, f in enumerate(fields)
        ]
        self._budgets = budgets
        self._iterations = iterations
        self._adapts = penalty is None
        first = FIRST_PENALTY if penalty is None else penalty
        self._penalties = dict.fromkeys(set(budgets), first)
        self._wished: list[np.ndarray] = []
        self._widths = np.array([float(field.output_dim) for field in fields])
        # The quality and the mean sizes of each budget's best step.
        self._best: dict[Budget, tuple[float, np.ndarray]] = {}

    def _sizes(self) -> DimensionPlan:
        place = len(self.qualities) % self._iterations
        if place == 0:
            for agent in self._agents:
                agent.start_episode()
        # The last step of an episode shows what was learned.
        explore = 1 - (place + 1) / self._iterations
        wished = self._near([agent.propose(explore) for agent in self._agents])
        self._wished = wished
        return self._fitted(self._fields, Wishes.growing(wished), self._budget)

    def _near(self, wished: list[np.ndarray]) -> list[np.ndarray]:
        """Wishes whose means are, table by table, near those of the best step.

        At first near the same share of every table.

        An id's quality says much of its own size where it is alone in an example,
        and little where an example scores many ids of its table, as a user's ranking
        does items. Left alone the agents swing from all for one table to all for
        another, and few steps are left between.
        """
        if self._shift is None:
            return wished
        _, best = self._best.get(self._budget, (0.0, self._widths))
        asked = _means(wished, wished)
        free = (asked > 0) & (best > 0)
        shift = np.log(asked[free] / best[free])
        shift -= shift.mean() if len(shift) else 0.0
        most = np.log(self._shift) / 2
        factors = np.ones(len(wished))
        factors[free] = np.exp(np.clip(shift, -most, most) - shift)
        return [sizes * factor for sizes, factor in zip(wished, factors, strict=True)]

    @property
    def _budget(self) -> Budget:
        return self._budgets[len(self.qualities)]

    def _learn(self, sizes: DimensionPlan, qualities: Qualities) -> float:
        tried, budget = sizes_in(sizes), self._budget
        self._adapt(tried, budget)
        for agent, of_field in zip(self._agents, tried, strict=True):
            name = agent.field.name
            penalty = self._penalties[budget]
            agent.observe(of_field, qualities[name], penalty, budget)
        self.figures.append(self._figures(budget))
        quality = mean_ratio(qualities, self._full, self._counts)
        if budget not in self._best or quality > self._best[budget][0]:
            self._best[budget] = quality, _means(tried, self._wished)
        return quality

    def _adapt(self, tried: Sequence[np.ndarray], budget: Budget) -> None:
        """Raises the price where wishes exceed the budget, or lowers it."""
        if self._adapts and not any(agent.is_random for agent in self._agents):
            pairs = zip(self._wished, tried, strict=True)
            held = sum(float(sizes[wish > 0].sum()) for wish, sizes in pairs)
            wished = sum(float(wish.sum()) for wish in self._wished)
            change = np.sqrt(wished / max(held, 1))
            factor = np.clip(change, 1 / MOST_CHANGE, MOST_CHANGE)
            self._penalties[budget] *= float(factor)

    def _figures(self, budget: Budget) -> dict[str, float]:
        found = {"penalty": self._penalties[budget]}
        for agent in self._agents:
            for name, value in agent.figures.items():
                found[f"{name}/{agent.field.name}"] = value
        return found


def _means(sizes: Sequence[np.ndarray], wished: Sequence[np.ndarray]) -> np.ndarray:
    """The mean size of each table's ids that something is wished for; 0 without."""
    pairs = zip(sizes, wished, strict=True)
    return np.array([s[w > 0].mean() if (w > 0).any() else 0.0 for s, w in pairs])
