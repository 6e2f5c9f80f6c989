"""Recall and NDCG over all items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer
from keras_eds.datasets.pairs import Pairs
from keras_eds.errors import DataError
from keras_eds.metrics.ranking_scores import RankingScores, score_hits
from keras_eds.metrics.top_items import top_items

Ids = npt.NDArray[np.integer]
# 16 MB of float32: a block that stays near the processor.
_SCORES_A_BLOCK = 2**22


def evaluate_ranking(
    scorer: Callable[[Ids], Any] | Any,
    positives: Pairs,
    seen: Pairs | None = None,
    ks: Sequence[int] = (5, 10, 20),
    users: Ids | None = None,
    block_size: int | None = None,
) -> RankingScores:
    """Rank all items for every user, and score the rankings.

    With `P` the user's positives and `h_j` 1 if the item in place `j` is one:
    `recall@k = sum_{j<=k} h_j / |P|` and
    `NDCG@k = sum_{j<=k} h_j / log2(j + 1) / sum_{j<=min(k, |P|)} 1 / log2(j + 1)`.
    Items that the user has seen are no candidates; a positive that is also
    seen cannot be found. These are the definitions of the published LightGCN
    code; users without a positive are left out, as there.

    Args:
        scorer: A function from user ids `(block,)` to the scores of all items
            `(block, num_items)`, or a model with a method `scorer()` that
            returns one.
        positives: What should be found: the validation or the test part.
        seen: What is left out: the training part, when testing its union with
            the validation part. `None` leaves nothing out.
        ks: How many places count.
        users: Score these users only, without repeats. Defaults to all with a
            positive.
        block_size: Users scored at once. Defaults to about 4 million scores.

    Returns:
        The scores of every user; `.means()` has the usual figures.

    Raises:
        DataError: If no user has a positive, or a score is NaN, or the
            scores have another shape.
        ValueError: If `ks`, `users` or `block_size` cannot be used.

    Example:

    >>> positives = Pairs.of([0, 1], [2, 0], num_users=2, num_items=3)
    >>> scores = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    >>> evaluate_ranking(lambda users: scores[users], positives, ks=[1]).means()
    {'recall@1': 0.5, 'ndcg@1': 0.5}

    Reference: He et al., LightGCN, SIGIR 2020, section 4.1.
    """
    ks = check_ks(ks)
    check_pairs(positives, seen)
    chosen = _users_with_positives(positives, users)
    score = scorer.scorer() if hasattr(scorer, "scorer") else scorer
    if block_size is None:
        block_size = max(1, _SCORES_A_BLOCK // max(1, positives.num_items))
    size = check_integer("block_size", block_size)
    wanted, masked = _Rows(positives), None if seen is None else _Rows(seen)
    hits = [
        _hits(score(block), block, wanted, masked, max(ks))
        for block in _blocks(chosen, size)
    ]
    counts = positives.user_counts[chosen]
    return RankingScores(chosen, *score_hits(np.concatenate(hits), counts, ks))


def check_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """Reads how many places count.

    Raises:
        ValueError: If there is none, or one is not a positive integer.
    """
    checked = tuple(check_integer("ks", k) for k in ks)
    if not checked:
        raise ValueError("`ks` must hold a number. Received: ks=(). Use (5, 10, 20).")
    return checked


def check_pairs(positives: Pairs, seen: Pairs | None) -> None:
    """Refuses pairs that nothing can be scored on.

    Raises:
        DataError: If there are none, or `seen` numbers users or items otherwise.
    """
    if not len(positives):
        raise DataError(
            "`positives` must hold an interaction of a user to score. Received: 0 "
            "interactions. Give a validation or test part."
        )
    if seen is not None:
        positives.check_shape("seen", seen)


def _blocks(users: Ids, size: int) -> Iterator[Ids]:
    for start in range(0, len(users), size):
        yield users[start : start + size]


def _users_with_positives(positives: Pairs, users: Ids | None) -> Ids:
    counts = positives.user_counts
    if users is None:
        chosen = np.flatnonzero(counts)
    else:
        given = np.asarray(users)
        known = given.ndim == 1 and given.dtype.kind in "iu"
        if not known or (given < 0).any() or (given >= len(counts)).any():
            raise ValueError(
                f"`users` must be integers in 0 .. {len(counts) - 1}. Received: "
                f"users={given!r}. Give user numbers of `positives`."
            )
        chosen = np.unique(given)
        chosen = chosen[counts[chosen] > 0]
    if not len(chosen):
        raise DataError(
            "`positives` must hold an interaction of a user to score. Received: "
            f"{len(positives)} interactions. Give a validation or test part."
        )
    return chosen.astype("int32")


class _Rows:
    """The items of many users at once."""

    def __init__(self, pairs: Pairs) -> None:
        self.offsets, self.items, self.keys = pairs.offsets, pairs.items, pairs.keys
        self.num_items = pairs.num_items

    def cells(self, users: Ids) -> tuple[Ids, Ids]:
        """Row in `users` and item of each of their interactions."""
        starts = self.offsets[users]
        counts = self.offsets[np.asarray(users) + 1] - starts
        rows = np.repeat(np.arange(len(users)), counts)
        first = np.cumsum(counts) - counts
        places = np.arange(len(rows)) - np.repeat(first - starts, counts)
        return rows, self.items[places]

    def contain(self, users: Ids, items: Ids) -> npt.NDArray[np.bool_]:
        """Whether `items`, `(users, n)`, are items of their user."""
        sought = np.asarray(users).astype("int64")[:, None] * self.num_items + items
        if not len(self.keys):
            return np.zeros(sought.shape, bool)
        places = np.searchsorted(self.keys, sought)
        return np.equal(self.keys[np.minimum(places, len(self.keys) - 1)], sought)


def _hits(
    scored: Any, users: Ids, wanted: _Rows, seen: _Rows | None, places: int
) -> npt.NDArray[np.bool_]:
    # A copy: backends hand out read-only views, and seen items are overwritten.
    scores = np.array(keras.ops.convert_to_numpy(scored), dtype="float32")
    if scores.shape != (len(users), wanted.num_items):
        raise DataError(
            f"`scorer` must return shape {(len(users), wanted.num_items)}, one score "
            f"a user and item. Received: shape {scores.shape}. Score all items."
        )
    if np.isnan(scores.min(initial=0)):
        row, item = np.argwhere(np.isnan(scores))[0]
        raise DataError(
            "`scorer` must return no NaN. Received: NaN for user "
            f"{users[row]} and item {item}, among {int(np.isnan(scores).sum())}. "
            "Check the learning rate, and the data for NaN."
        )
    if seen is not None:
        scores[seen.cells(users)] = -np.inf
    best = top_items(scores, places)
    found = wanted.contain(users, best)
    if seen is not None:
        found &= ~seen.contain(users, best)
    return found
