"""The agent of one field, and what it sees of the field's ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.id_quality import IdQuality
from keras_eds.methods.ciess import noise as noises
from keras_eds.methods.ciess.agent import Agent
from keras_eds.methods.ciess.reward import Reward
from keras_eds.methods.ciess.size_states import SizeStates
from keras_eds.methods.quality_ratio import quality_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

# The width for which the paper and its code give noise and walk in sizes.
PAPERS_WIDTH = 128


class FieldAgent:
    """Proposes sizes for the ids of a field, all at once, and learns from quality.

    Only ids of the training data have sizes to choose, not padding nor the others.
    An id without validation examples is given a size by the policy that the others
    taught, and its state holds their mean quality. In a field that has no other ids
    all wish for the whole width: nothing can be learned of them.

    Args:
        field: The table.
        counts: How often each id occurs in the training data, `(input_dim,)`.
        full: The quality of its ids in the full-size model.
        low: Least size. A field that is no wider has no sizes to choose.
        reward: `"ratio"` or `"metric"`, the quality of `Reward`.
        relative: Whether qualities are seen less their mean in a step, and weighed
            by the examples that they rest on, and rewards tell that mean from the one
            of the first step for the same budget; frequencies are then logarithms.
        options: Of `Agent`, see `agent_options`.
        seed: Of the agent.

    Attributes:
        figures: Of the last step: mean quality and reward, and the losses.
    """

    def __init__(
        self,
        field: Field,
        counts: Any,
        full: IdQuality,
        low: int,
        reward: Literal["ratio", "metric"],
        relative: bool,
        options: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.field = field
        self._low = min(low, field.output_dim)
        self._seen = np.flatnonzero(np.asarray(counts) > 0)
        if field.output_dim <= low:
            self._seen = self._seen[:0]
        self._unjudged = self._seen
        if (full.examples[self._seen] > 0).any():
            self._unjudged = self._seen[:0]
        else:
            self._seen = self._seen[:0]
        self._full = full
        self._relative = relative
        self._firsts: dict[Budget, float] = {}
        self.figures: dict[str, float] = {}
        if self._seen.size:
            high = field.output_dim
            chosen = agent_options(high, options)
            self._agent = Agent(low=low, high=high, seed=seed, **chosen)
            often = np.asarray(counts)[self._seen]
            often = np.log1p(often) if relative else often
            self._states = SizeStates(often, low, high)
            self._reward = Reward(high, quality=reward)
            self._now = self._states.first()

    def start_episode(self) -> None:
        """Goes back to all ids at full width."""
        if self._seen.size:
            self._agent.start_episode()
            self._now = self._states.first()

    @property
    def is_random(self) -> bool:
        """Whether sizes are still drawn evenly."""
        return bool(self._seen.size) and self._agent.is_random

    def propose(self, explore: float) -> Ints:
        """A wish for each id, of shape `(input_dim,)`; 0 where nothing is known.

        Args:
            explore: What the noise is multiplied by.
        """
        sizes = np.zeros(self.field.input_dim, np.int32)
        sizes[self._unjudged] = self.field.output_dim
        if self._seen.size:
            sizes[self._seen] = self._agent.propose(self._now, explore)
        return sizes

    def observe(
        self, sizes: Any, quality: IdQuality, penalty: float, budget: Budget
    ) -> None:
        """Learns what came of sizes.

        Args:
            sizes: Shape `(input_dim,)`.
            quality: Of its ids under these sizes.
            penalty: lambda of `Reward`, also for all that was seen before.
            budget: What the sizes of all fields fit.

        Raises:
            DataError: If a score is not finite or below 0.
        """
        seen, self.figures = self._seen, {}
        if not seen.size:
            return
        both = np.minimum(quality.examples, self._full.examples)
        known = both[seen] > 0
        ratio = quality_of(quality.score[seen], self._full.score[seen])
        ratio[~known] = ratio[known].mean() if known.any() else 1.0
        tried = np.asarray(sizes)[seen]
        after = self._states(tried, ratio)
        examples = self._full.examples[seen[known]]
        if self._relative:
            # The mean of the known ids becomes whole quality, that of a first state.
            after[:, -1] += 1 - _mean(ratio[known], examples)
        if known.any():
            at, worth = seen[known], replace(self._reward, penalty=penalty)
            gains = worth.gains(quality.score[at], self._full.score[at])
            if self._relative:
                mean = _mean(gains, examples)
                gains = (gains - mean) * examples / examples.mean()
                gains += mean - self._firsts.setdefault(budget, mean)
            losses = self._agent.observe(
                self._now[known], tried[known], gains, after[known], worth.costs
            )
            rewards = gains - worth.costs(tried[known])
            self.figures |= {
                "quality": float(ratio[known].mean()),
                "reward": float(rewards.mean()),
                **losses,
            }
        self._now = after


def _mean(values: Floats, weights: Any) -> float:
    return float(np.average(values, weights=weights)) if len(values) else 1.0


def agent_options(width: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `Agent` that suit some tens of short steps.

    Walk and noise go as far, by the width, as in the paper: the farthest step is 5
    of 128 sizes and the spread of the noise 6, but both at least 2; the noise on
    the targets is 2, at most 5.

    Args:
        width: Of the table.
        given: What the user chose; noise as `noise.to_config` gives it.
    """
    scale = width / PAPERS_WIDTH
    options: dict[str, Any] = {
        "noise": noises.GaussianNoise(max(2.0, 6 * scale)),
        "walk_threshold": max(2, round(5 * scale)),
        "random_steps": 3,
        "standardized": True,
        **given,
    }
    if "noise" in given:
        # Noise may drift: each agent has its own.
        options["noise"] = noises.from_config(given["noise"])
    options["td3"] = {
        "policy_noise": 2 * scale,
        "noise_clip": 5 * scale,
        "gamma": 0.0,
        "hidden_units": (64, 64),
        "batch_size": 256,
        **(given.get("td3") or {}),
    }
    return options
