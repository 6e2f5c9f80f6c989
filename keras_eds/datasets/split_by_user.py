"""A random split of every user's interactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]


def split_by_user(
    users: npt.NDArray[Any], fractions: Sequence[float], seed: int
) -> tuple[Rows, Rows, Rows]:
    """Return the rows of training, validation and test part.

    Of a user's `n` rows, shuffled, the first `ceil(a n)` train and the next
    `ceil((a + b) n) - ceil(a n)` validate, with `[a, b, c] = fractions`.

    Args:
        users: User of each row, `(rows,)`.
        fractions: Three shares that add up to 1, the first of them positive.
        seed: Seed of the shuffle.

    Raises:
        ValueError: If `fractions` breaks the rule.

    Example:

    >>> parts = split_by_user(np.zeros(8, int), (0.5, 0.25, 0.25), seed=0)
    >>> [len(part) for part in parts]
    [4, 2, 2]
    """
    shares = tuple(fractions)
    is_whole = len(shares) == 3 and abs(sum(shares) - 1) < 1e-6
    if not is_whole or min(shares) < 0 or not shares[0] > 0:
        raise ValueError(
            "`fractions` must be three shares that add up to 1, the first positive. "
            f"Received: fractions={fractions}. Use (0.5, 0.25, 0.25)."
        )
    users = np.asarray(users)
    draw = np.random.default_rng(seed).random(len(users))
    order = np.lexsort((draw, users))
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    place = np.arange(len(users)) - np.repeat(starts, counts)
    # Rounding up must not see 0.75 * 4 as a little more than 3.
    first = np.repeat(np.ceil(counts * shares[0] - 1e-9), counts)
    second = np.repeat(np.ceil(counts * (shares[0] + shares[1]) - 1e-9), counts)
    in_train, in_test = place < first, place >= second
    return (
        np.sort(order[in_train]),
        np.sort(order[~in_train & ~in_test]),
        np.sort(order[in_test]),
    )
