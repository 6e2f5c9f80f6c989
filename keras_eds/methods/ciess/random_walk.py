"""A walk over sizes that makes a short list of one proposed size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


class RandomWalk:
    """Walks from size to size, each step to a near one.

    Sizes `d` and `d'` are neighbours where `1 <= |d - d'| <= threshold`. A step
    from `d` reaches `d'` with probability `p(d, d') = w(d, d') / sum_k w(d, k)`,
    `w = 1 / |d - d'|`, over the neighbours within `low` and `high` alone.

    The paper does not say how a neighbour is drawn: the weights are those of the
    published code. There a size that has less neighbours, at a border, is filled
    up with far ones of a tiny probability; here it just has less of them.

    Args:
        low: Least size.
        high: Largest size. If it equals `low`, every step stays.
        threshold: Farthest step. Defaults to 5.
        length: Number of steps; with 0 there is no choice but the start.
            Defaults to 5.

    Raises:
        ValueError: If an argument is not an integer or out of range.

    Example:

    >>> walk = RandomWalk(low=1, high=128)
    >>> walk.candidates([3, 64], np.random.default_rng(0)).shape
    (2, 6)

    Reference:
        Qu et al., Continuous Input Embedding Size Search for Recommender Systems,
        SIGIR 2023, arXiv 2304.03501, section 3.3.
    """

    def __init__(
        self, low: int, high: int, threshold: int = 5, length: int = 5
    ) -> None:
        check_integer("low", low, 0)
        check_integer("high", high, low)
        check_integer("threshold", threshold)
        check_integer("length", length, 0)
        self.low = low
        self.high = high
        self.threshold = threshold
        self.length = length
        count = high - low + 1
        reach = min(threshold, count - 1)
        self._offsets = np.concatenate([np.arange(-reach, 0), np.arange(1, reach + 1)])
        ends = np.arange(count)[:, None] + self._offsets
        inside = (ends >= 0) & (ends < count)
        weights = np.where(inside, 1 / np.abs(self._offsets), 0.0)
        self._ends = np.where(inside, ends, 0).astype(np.int32)
        total = weights.sum(axis=1, keepdims=True)
        self._probabilities = weights / np.where(total, total, 1.0)
        # Divided by its own end, every row ends in exactly 1.
        summed = np.cumsum(weights, axis=1)
        self._cumulated = summed / np.where(total, summed[:, -1:], 1.0)

    def candidates(self, starts: Any, rng: np.random.Generator) -> Ints:
        """The sizes that a walk from each start comes by.

        Args:
            starts: Integer sizes of shape `(ids,)`.
            rng: Draws the steps.

        Returns:
            Sizes of shape `(ids, length + 1)`; the first column is `starts`.

        Raises:
            ValueError: If `starts` are no sizes from `low` to `high`.
        """
        places = self._places(starts)
        path = np.empty((len(places), self.length + 1), np.int32)
        path[:, 0] = places
        for step in range(self.length if self.high > self.low else 0):
            places = self._step(places, rng.random(len(places)))
            path[:, step + 1] = places
        if self.high == self.low:
            path[:] = 0
        return path + np.int32(self.low)

    def distribution(self, start: int, steps: int) -> Floats:
        """The probability of each size, `low` to `high`, after so many steps.

        Args:
            start: The size to start from.
            steps: Number of steps, at least 0.
        """
        check_integer("steps", steps, 0)
        place = self._places([start])[0]
        reached: Floats = np.linalg.matrix_power(self.transitions(), steps)[place]
        return reached

    def transitions(self) -> Floats:
        """`p`, of shape `(sizes, sizes)`: from the row's size to the column's."""
        count = self.high - self.low + 1
        if count == 1:
            return np.ones((1, 1))
        matrix = np.zeros((count, count))
        rows = np.broadcast_to(np.arange(count)[:, None], self._ends.shape)
        np.add.at(matrix, (rows, self._ends), self._probabilities)
        return matrix

    def _step(self, places: Ints, drawn: Floats) -> Ints:
        chosen = np.zeros(len(places), np.int32)
        # What has no probability adds nothing to the sum and is passed over.
        for column in self._cumulated.T[:-1]:
            chosen += drawn >= column[places]
        return self._ends[places, chosen]

    def _places(self, starts: Any) -> Ints:
        array = np.asarray(starts)
        whole = array.dtype.kind in "iu" and array.ndim == 1
        if not whole or ((array < self.low) | (array > self.high)).any():
            raise ValueError(
                f"`starts` must be integers of shape (ids,) from low={self.low} to "
                f"high={self.high}. Received: starts={starts!r}. Round and clip them."
            )
        return (array - self.low).astype(np.int32)
