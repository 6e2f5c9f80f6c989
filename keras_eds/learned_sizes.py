"""What a network has learned about how long the vector of every id should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_eds.by_field import ByField


@dataclass(frozen=True, eq=False)
class FieldSizes:
    """How likely each size was for the ids of a field, at several moments.

    Args:
        group_of_id: Integers of shape `(input_dim,)`: ids are alike in groups.
        logits: Shape `(moments, groups, choices)`: of the sizes from
            `output_dim - choices + 1` to `output_dim`.
        counts: Shape `(groups,)`: how often an id of each group occurs, on average.
    """

    group_of_id: np.ndarray
    logits: np.ndarray
    counts: np.ndarray

    def log_odds(self, moment: int) -> np.ndarray:
        """`log(P(size >= k) / P(size < k))`, shape `(groups, choices - 1)`.

        For each group, and the sizes k above the smallest.
        """
        logits = self.logits[moment].astype("float64")
        up = np.logaddexp.accumulate(logits[:, ::-1], axis=1)[:, ::-1]
        down = np.logaddexp.accumulate(logits, axis=1)
        return np.asarray(up[:, 1:] - down[:, :-1])


class LearnedSizes(ByField[FieldSizes]):
    """What was learned about every field, by name."""

    kind = "keras_eds.learned_sizes"
    part = FieldSizes
