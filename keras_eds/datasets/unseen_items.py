"""Uniform draws from what a user has not met."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keras_eds.datasets.pairs import Pairs
from keras_eds.errors import DataError


class UnseenItems:
    """Draws items that users have not met, uniformly and without rejection.

    Let `s_0 < s_1 < ..` be what user `u` has met. The `r`-th item that `u`
    has not met is `r + #{j : s_j - j <= r}`, so that one uniform
    `r` in `0 .. num_items - #s - 1` and one binary search give one draw, also
    for users who have met nearly everything.

    Args:
        pairs: What users have met.

    Raises:
        DataError: If a user has met all items.

    Example:

    >>> pairs = Pairs.of([0, 0, 0], [0, 2, 3], num_users=1, num_items=5)
    >>> draws = UnseenItems(pairs).draw(np.zeros(99, int), np.random.default_rng(0))
    >>> np.unique(draws).tolist()
    [1, 4]
    """

    def __init__(self, pairs: Pairs) -> None:
        self.offsets = pairs.offsets
        self.unseen = pairs.num_items - pairs.user_counts
        # More than any `s_j - j`: the users' stretches are in ascending order.
        self.stride = pairs.num_items + 1
        full = np.flatnonzero(self.unseen == 0)
        if len(full):
            raise DataError(
                "`pairs` must leave every user an item that the user has not met. "
                f"Received: {len(full)} users who have met all {pairs.num_items} "
                f"items, such as user {full[0]}. Leave them out."
            )
        place = np.arange(len(pairs)) - self.offsets[pairs.users]
        gaps = pairs.items - place
        self.keys = pairs.users.astype("int64") * self.stride + gaps

    def draw(
        self, users: npt.NDArray[np.integer], random: np.random.Generator
    ) -> npt.NDArray[np.int32]:
        """Draw one item for each of `users`, any shape; the same shape comes back."""
        users = np.asarray(users).astype("int64")
        rank = random.integers(0, self.unseen[users])
        before = np.searchsorted(self.keys, users * self.stride + rank, side="right")
        drawn = rank + before - self.offsets[users]
        return np.asarray(drawn, "int32")
