"""Recall and NDCG of every user."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = dict[int, npt.NDArray[np.float64]]


@dataclasses.dataclass(frozen=True, eq=False)
class RankingScores:
    """Recall@k and NDCG@k, one value a user.

    Args:
        users: The users that were scored: those with at least one positive,
            `(users,)`.
        recall: Recall@k of these users by `k`, each `(users,)`.
        ndcg: NDCG@k likewise.

    Example:

    >>> half = {20: np.array([0.5, 0.0])}
    >>> RankingScores(np.array([3, 7]), recall=half, ndcg=half).means()
    {'recall@20': 0.25, 'ndcg@20': 0.25}
    """

    users: npt.NDArray[np.integer]
    recall: Values
    ndcg: Values

    def means(self) -> dict[str, float]:
        """Mean over the users, by name: `recall@5`, .., `ndcg@5`, .."""
        named = {f"recall@{k}": float(v.mean()) for k, v in self.recall.items()}
        return {**named, **{f"ndcg@{k}": float(v.mean()) for k, v in self.ndcg.items()}}

    def quality(self) -> npt.NDArray[np.float64]:
        """Mean of all recalls and NDCGs of each user, `(users,)`."""
        values = [*self.recall.values(), *self.ndcg.values()]
        return np.asarray(np.mean(values, axis=0))


def score_hits(
    hits: npt.NDArray[np.bool_], positives: npt.NDArray[np.integer], ks: Sequence[int]
) -> tuple[Values, Values]:
    """Return recall and NDCG, by `k`, of rankings whose hits are known.

    Args:
        hits: Whether the item in place `j` is a positive, the best place
            first, `(users, places)`.
        positives: How many positives each user has, at least 1, `(users,)`.
        ks: How many places count.
    """
    longest = max(ks)
    discounts = 1 / np.log2(np.arange(2, longest + 2))
    ideal = np.cumsum(discounts)
    recall, ndcg = {}, {}
    for k in ks:
        found = hits[:, :k]
        recall[k] = found.sum(axis=1) / positives
        gain = found @ discounts[: found.shape[1]]
        ndcg[k] = gain / ideal[np.minimum(positives, k) - 1]
    return recall, ndcg
