"""Implicit feedback: users, items, and who met what."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from keras_eds.datasets.pairs import Pairs
from keras_eds.datasets.split_by_user import split_by_user
from keras_eds.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class Interactions:
    """Interactions of users and items, in three parts that share none.

    Args:
        train: To learn from. What a user has here is not recommended again.
        validation: To choose on.
        test: To report on.
        user_ids: The user's id in the source, at the user's number.
        item_ids: The item's id in the source, at the item's number.
        source: Where the interactions came from.

    Raises:
        DataError: If a part has other numbers of users or items, or two parts
            share an interaction.

    Example:

    >>> data = Interactions.split([7, 7, 9], ["a", "b", "a"])
    >>> data.num_users, data.num_items
    (2, 2)
    """

    train: Pairs
    validation: Pairs
    test: Pairs
    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    source: str

    def __post_init__(self) -> None:
        shape = (len(self.user_ids), len(self.item_ids))
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[:3]}
        for name, part in parts.items():
            if (part.num_users, part.num_items) != shape:
                raise DataError(
                    f"`{name}` must have {shape[0]} users and {shape[1]} items, like "
                    f"`user_ids` and `item_ids`. Received: {part.num_users} and "
                    f"{part.num_items}. Give all parts the same numbers."
                )
        keys = np.concatenate([part.keys for part in parts.values()])
        shared = len(keys) - len(np.unique(keys))
        if shared:
            raise DataError(
                "`train`, `validation` and `test` must share no interaction. "
                f"Received: {shared} in more than one part. Use `Interactions.split`."
            )

    @property
    def num_users(self) -> int:
        """Number of users, those without interactions included."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Number of items, those without interactions included."""
        return len(self.item_ids)

    def with_validation_in_train(self) -> Interactions:
        """The same, to train once more on both parts and report on the test."""
        none = Pairs.of([], [], self.num_users, self.num_items)
        train = self.train.union(self.validation)
        return dataclasses.replace(self, train=train, validation=none)

    @classmethod
    def split(
        cls,
        users: Any,
        items: Any,
        fractions: Sequence[float] = (0.5, 0.25, 0.25),
        seed: int = 42,
        source: str = "",
    ) -> Interactions:
        """Number users and items, and deal out each user's interactions.

        Ids may be integers with gaps or strings: they are numbered from 0 in
        ascending order. An interaction that is there twice counts once. Each
        part is a random draw from the items of every user, rounded up for the
        training part, so that a user with one interaction trains on it. An
        item may be in the test part alone.

        Args:
            users: Id of the user of each interaction, `(interactions,)`.
            items: Id of the item of each interaction, `(interactions,)`.
            fractions: Shares of training, validation and test part.
            seed: Seed of the split.
            source: Where the interactions came from.

        Raises:
            DataError: If there are none, or one has a missing id.
            ValueError: If `fractions` cannot be used.

        Example:

        >>> data = Interactions.split([7, 7, 7, 7, 9], ["a", "b", "c", "d", "a"])
        >>> len(data.train), len(data.validation), len(data.test)
        (3, 1, 1)

        Reference: Qu et al., Continuous Input Embedding Size Search for
        Recommender Systems, SIGIR 2023, section 4.1, for the shares.
        """
        user_numbers, user_ids = _number("users", users)
        item_numbers, item_ids = _number("items", items)
        if len(user_numbers) != len(item_numbers):
            raise DataError(
                "`users` and `items` must have the same length. Received: "
                f"{len(user_numbers)} users and {len(item_numbers)} items. "
                "Give one user and one item an interaction."
            )
        keys = np.unique(user_numbers * len(item_ids) + item_numbers)
        user_numbers, item_numbers = np.divmod(keys, len(item_ids))
        train, validation, test = (
            Pairs.of(user_numbers[rows], item_numbers[rows], len(user_ids),
                     len(item_ids))
            for rows in split_by_user(user_numbers, fractions, seed)
        )  # fmt: skip
        return cls(train, validation, test, user_ids, item_ids, source)


def _number(name: str, ids: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    values = pd.Series(ids)
    if not len(values) or values.isna().any():
        raise DataError(
            f"`{name}` must hold at least one id, and none that is missing. "
            f"Received: {int(values.isna().sum())} missing of {len(values)}. "
            "Drop incomplete interactions first."
        )
    codes, known = pd.factorize(values, sort=True)
    return codes.astype("int64"), np.asarray(known)
