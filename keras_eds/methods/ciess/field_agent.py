"""The agent of one field, and what it sees of the field's ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.field import Field
from keras_eds.id_quality import IdQuality
from keras_eds.methods.ciess import noise as noises
from keras_eds.methods.ciess.agent import Agent
from keras_eds.methods.ciess.reward import Reward, quality_of
from keras_eds.methods.ciess.size_states import SizeStates

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

# The width for which the paper and its code give noise and walk in sizes.
PAPERS_WIDTH = 128


class FieldAgent:
    """Proposes sizes for the ids of a field, all at once, and learns from quality.

    Only ids of the training data have sizes to choose; the others, padding too,
    stay at `low`. An id without validation examples is given a size by the policy
    that the others taught, and its state holds their mean quality.

    Args:
        field: The table.
        counts: How often each id occurs in the training data, `(input_dim,)`.
        full: The quality of its ids in the full-size model.
        low: Least size. A field that is no wider has no sizes to choose.
        penalty: lambda of `Reward`.
        options: Of `Agent`, see `agent_options`.
        seed: Of the agent.
    """

    def __init__(
        self,
        field: Field,
        counts: Any,
        full: IdQuality,
        low: int,
        penalty: float,
        options: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.field = field
        self._low = min(low, field.output_dim)
        self._seen = np.flatnonzero(np.asarray(counts) > 0)
        if field.output_dim <= low:
            self._seen = self._seen[:0]
        self._full = full
        if self._seen.size:
            high = field.output_dim
            chosen = agent_options(high, options)
            self._agent = Agent(low=low, high=high, seed=seed, **chosen)
            self._states = SizeStates(np.asarray(counts)[self._seen], low, high)
            self._reward = Reward(high, penalty)
            self._now = self._states.first()

    def start_episode(self) -> None:
        """Goes back to all ids at full width."""
        if self._seen.size:
            self._agent.start_episode()
            self._now = self._states.first()

    def propose(self) -> Ints:
        """A size for each id, of shape `(input_dim,)`."""
        sizes = np.full(self.field.input_dim, self._low, np.int32)
        if self._seen.size:
            sizes[self._seen] = self._agent.propose(self._now)
        return sizes

    def observe(self, sizes: Any, quality: IdQuality) -> Floats:
        """Learns what came of sizes.

        Args:
            sizes: Shape `(input_dim,)`.
            quality: Of its ids under these sizes.

        Returns:
            The quality of each id that was measured, by that of the full model.

        Raises:
            DataError: If a score is not finite or below 0.
        """
        seen = self._seen
        if not seen.size:
            return np.zeros(0)
        both = np.minimum(quality.examples, self._full.examples)
        known = both[seen] > 0
        ratio = quality_of(quality.score[seen], self._full.score[seen])
        ratio[~known] = ratio[known].mean() if known.any() else 1.0
        tried = np.asarray(sizes)[seen]
        after = self._states(tried, ratio)
        if known.any():
            at = seen[known]
            rewards = self._reward(quality.score[at], self._full.score[at], sizes[at])
            self._agent.observe(self._now[known], tried[known], rewards, after[known])
        self._now = after
        measured: Floats = ratio[known]
        return measured


def agent_options(width: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `Agent`, with noise and walk as far, by the width, as in the paper.

    The spread of the noise is 6 of 128 sizes and the farthest step 5, but both at
    least 1; the noise on the targets is 2, at most 5, of 128.

    Args:
        width: Of the table.
        given: What the user chose; noise as `noise.to_config` gives it.
    """
    scale = width / PAPERS_WIDTH
    options: dict[str, Any] = {
        "noise": noises.GaussianNoise(max(1.0, 6 * scale)),
        "walk_threshold": max(1, round(5 * scale)),
        **given,
    }
    if "noise" in given:
        # Noise may drift: each agent has its own.
        options["noise"] = noises.from_config(given["noise"])
    smoothing = {"policy_noise": 2 * scale, "noise_clip": 5 * scale}
    options["td3"] = {**smoothing, **(given.get("td3") or {})}
    return options
