"""How well a model serves each user and each item."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.datasets.pairs import Pairs
from keras_eds.errors import DataError
from keras_eds.metrics.evaluate_ranking import evaluate_ranking

Values = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Quality:
    """One number in [0, 1] for each user and each item.

    `quality[name]` has those of the side that the name of a table speaks of, as in
    `"user_embedding"`: so methods of a search can read it.

    Args:
        users: `(num_users,)`.
        items: `(num_items,)`.

    Example:

    >>> Quality(users=np.array([0.5]), items=np.array([0.5, 0.0])).items.shape
    (2,)
    """

    users: Values
    items: Values

    def __getitem__(self, name: str) -> Values:
        sides = [side for side in ("user", "item") if side in name.lower()]
        if len(sides) != 1:
            raise DataError(
                "The name of a table must have either 'user' or 'item' in it, to tell "
                f"whose vectors it holds. Received: {name!r}. Name the layer so, leave "
                "the table out with `filters`, or give a `quality` of your own."
            )
        return self.users if sides == ["user"] else self.items


class RankingQuality:
    """Measures quality for each user, and for each item through its users.

    A user's quality is the mean of Recall@k and NDCG@k over `ks`; an item's
    is the mean quality of the users who met it in training. Where nothing is
    known (a user without a validation item, an item that none of the known
    users met) the mean of the known users stands in, so that a ratio of two
    qualities says nothing there; CIESS's code counts such a user as 0, see
    `missing`.

    Args:
        train: The training part: seen, and who met which item.
        validation: What should be found.
        ks: How many places count. Defaults to `(5, 10, 20)`.
        missing: Quality where nothing is known. Defaults to `None`: the mean
            of the known users.

    Raises:
        DataError: If the parts have other numbers of users or items, or no
            user has a validation item.

    Example:

    >>> train = Pairs.of([0, 1, 1], [0, 0, 1], num_users=2, num_items=3)
    >>> validation = Pairs.of([0, 1], [1, 2], num_users=2, num_items=3)
    >>> scores = np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    >>> RankingQuality(train, validation, ks=[1])(lambda ids: scores[ids]).items
    array([1., 1., 1.])

    Reference: Qu et al., Continuous Input Embedding Size Search for
    Recommender Systems, SIGIR 2023, section 3.2.
    """

    def __init__(
        self,
        train: Pairs,
        validation: Pairs,
        ks: Sequence[int] = (5, 10, 20),
        missing: float | None = None,
    ) -> None:
        ours, theirs = (
            (part.num_users, part.num_items) for part in (train, validation)
        )
        if ours != theirs:
            raise DataError(
                "`train` and `validation` must have the same numbers of users and "
                f"items. Received: {ours} and {theirs}. Take parts of one data set."
            )
        self.train = train
        self.validation = validation
        self.ks = tuple(ks)
        self.missing = missing
        self._known = validation.user_counts > 0
        met = self._known[train.users]
        self._users, self._items = train.users[met], train.items[met]

    def __call__(self, scorer: Any) -> Quality:
        """Measure a model, or a function, that `evaluate_ranking` takes."""
        scores = evaluate_ranking(scorer, self.validation, self.train, self.ks)
        known = scores.quality()
        missing = float(known.mean()) if self.missing is None else self.missing
        users = np.full(self.train.num_users, missing)
        users[scores.users] = known
        return Quality(users, self.items(users, missing))

    def items(self, users: Values, missing: float = 0.0) -> Values:
        """Mean of the values of the known users who met each item.

        Args:
            users: One value a user, `(num_users,)`.
            missing: Value of items that none of them met.
        """
        # The training matrix, transposed, times the users' values.
        size = self.train.num_items
        total = np.bincount(self._items, users[self._users], minlength=size)
        count = np.bincount(self._items, minlength=size)
        return np.where(count > 0, total / np.maximum(count, 1), missing)
