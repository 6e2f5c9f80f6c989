"""Which users met which items: a sparse 0/1 matrix."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """The interactions of one part of the data, sorted by user, then item.

    A sparse 0/1 matrix of shape `(num_users, num_items)` in compressed rows:
    `items[offsets[u]:offsets[u + 1]]` are the items of user `u`. Make one
    with `Pairs.of`, which sorts and checks.

    Args:
        users: User of each interaction, int32, `(interactions,)`.
        items: Item of each interaction, int32, `(interactions,)`.
        num_users: Users are `0 .. num_users - 1`; some may have no item.
        num_items: Items are `0 .. num_items - 1`; some may have no user.

    Example:

    >>> pairs = Pairs.of([1, 0, 1], [2, 0, 1], num_users=2, num_items=3)
    >>> pairs.offsets.tolist(), pairs.items.tolist()
    ([0, 1, 3], [0, 1, 2])
    """

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    num_users: int
    num_items: int

    @classmethod
    def of(cls, users: Any, items: Any, num_users: int, num_items: int) -> Pairs:
        """Sort and check interactions.

        Args:
            users: Integers, `(interactions,)`, in any order.
            items: Integers, `(interactions,)`, in the same order.
            num_users: Number of users.
            num_items: Number of items.

        Raises:
            DataError: If the arrays are not integers of one length, hold an
                id out of range, or the same interaction twice.

        Example:

        >>> pairs = Pairs.of([1, 0, 1], [2, 0, 1], num_users=2, num_items=3)
        >>> pairs.items_of(1).tolist()
        [1, 2]
        """
        checked_users = checked_ids("users", users, num_users)
        checked_items = checked_ids("items", items, num_items)
        if len(checked_users) != len(checked_items):
            raise DataError(
                "`users` and `items` must have the same length. Received: "
                f"{len(checked_users)} users and {len(checked_items)} items. "
                "Give one user and one item an interaction."
            )
        keys = np.sort(checked_users * num_items + checked_items)
        twice = int(np.count_nonzero(keys[1:] == keys[:-1]))
        if twice:
            raise DataError(
                "`users` and `items` must hold every interaction once. Received: "
                f"{twice} repeated. Use `Interactions.split`, which merges them."
            )
        sorted_users, sorted_items = np.divmod(keys, max(1, num_items))
        return cls(
            sorted_users.astype("int32"),
            sorted_items.astype("int32"),
            int(num_users),
            int(num_items),
        )

    def __len__(self) -> int:
        return len(self.users)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where the items of each user begin, `(num_users + 1,)`."""
        offsets: np.ndarray = np.zeros(self.num_users + 1, dtype=np.int64)
        np.cumsum(self.user_counts, out=offsets[1:])
        return offsets

    @property
    def user_counts(self) -> npt.NDArray[np.int64]:
        """How many items each user has, `(num_users,)`."""
        return np.bincount(self.users, minlength=self.num_users).astype("int64")

    @property
    def item_counts(self) -> npt.NDArray[np.int64]:
        """How many users each item has, `(num_items,)`."""
        return np.bincount(self.items, minlength=self.num_items).astype("int64")

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """`user * num_items + item`, ascending: to look interactions up."""
        first = self.users.astype(np.int64) * self.num_items
        return np.asarray(first + self.items, np.int64)

    def items_of(self, user: int) -> npt.NDArray[np.int32]:
        """The items of one user, ascending."""
        start, stop = np.searchsorted(self.users, [user, user + 1])
        return self.items[start:stop]

    def check_shape(self, argument: str, other: Pairs) -> None:
        """Refuses interactions of other users or items.

        Raises:
            DataError: If the shapes differ.
        """
        if (self.num_users, self.num_items) != (other.num_users, other.num_items):
            raise DataError(
                f"`{argument}` must have as many users and items. Received: "
                f"{other.num_users} x {other.num_items} instead of "
                f"{self.num_users} x {self.num_items}. Take parts of one data set."
            )

    def union(self, other: Pairs) -> Pairs:
        """The interactions of both, which must share none.

        Raises:
            DataError: If the shapes differ, or an interaction is in both.
        """
        self.check_shape("other", other)
        users = np.concatenate([self.users, other.users])
        items = np.concatenate([self.items, other.items])
        return Pairs.of(users, items, self.num_users, self.num_items)


def checked_ids(name: str, values: Any, count: int) -> npt.NDArray[np.int64]:
    """`values` as integers, or refuse them.

    Raises:
        DataError: If they are no vector of integers in `0 .. count - 1`.
    """
    array = np.asarray(values)
    if array.ndim != 1 or not (array.dtype.kind in "iu" or array.size == 0):
        raise DataError(
            f"`{name}` must be a vector of integers. Received: shape {array.shape}, "
            f"dtype {array.dtype}. Number them with `Interactions.split`."
        )
    ids = array.astype("int64")
    if ids.size and not 0 <= ids.min() <= ids.max() < count:
        raise DataError(
            f"`{name}` must be in 0 .. {count - 1}. Received: ids from {ids.min()} "
            f"to {ids.max()}. Number them with `Interactions.split`."
        )
    return ids
