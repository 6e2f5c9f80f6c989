"""What sizes ids wish for, before a budget says what they get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Wishes:
    """A wish for every id of every table, at every number x from -60 to 60.

    Args:
        groups: For every table the group of each id, `(input_dim,)`: ids of a group
            wish alike. No group is empty.
        of_groups: Maps x to the wishes of the groups of every table, from 0; none
            falls as x rises.

    Example:

    >>> wishes = Wishes.growing([np.array([1.0, 3.0, 1.0])])
    >>> wishes.of_ids(0.0)
    [array([1., 3., 1.])]
    """

    groups: Sequence[np.ndarray]
    of_groups: Callable[[float], Sequence[Floats]]

    @classmethod
    def growing(cls, shapes: Sequence[np.ndarray]) -> Wishes:
        """`exp(x) * shape`, for a shape of every id of every table."""
        parts = [np.unique(shape, return_inverse=True) for shape in shapes]
        return cls(
            [groups for _, groups in parts],
            lambda x: [np.exp(x) * values for values, _ in parts],
        )

    def of_ids(self, x: float) -> list[Floats]:
        """The wishes of all ids."""
        pairs = zip(self.of_groups(x), self.groups, strict=True)
        return [wishes[groups] for wishes, groups in pairs]
