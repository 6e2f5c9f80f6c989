"""The neighbours of every node, in rows of one length."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
# Sixteen gathers that are added up as they come: 7 times as fast as one gather
# of all edges and a segment sum, under XLA on one core.
LENGTH = 16


def neighbour_lists(
    users: npt.NDArray[Any], items: npt.NDArray[Any], num_users: int, num_items: int
) -> tuple[Ints, Ints]:
    """Cut each node's list of neighbours into pieces of `LENGTH`.

    Nodes are the users, then the items. A node without neighbours has one
    empty piece. Pieces are padded with the number that no node has,
    `num_users + num_items`.

    Args:
        users: User of each edge, `(edges,)`.
        items: Item of each edge, `(edges,)`.
        num_users: Number of users.
        num_items: Number of items.

    Returns:
        The pieces, `(LENGTH, pieces)`, and the node of each, ascending.

    Example:

    >>> pieces, owners = neighbour_lists(np.array([0, 0]), np.array([0, 1]), 1, 2)
    >>> pieces[:3].tolist(), owners.tolist()
    ([[1, 0, 0], [2, 3, 3], [3, 3, 3]], [0, 1, 2])
    """
    nodes = num_users + num_items
    sources = np.concatenate([users, items + np.int64(num_users)])
    targets = np.concatenate([items + np.int64(num_users), users])
    order = np.argsort(sources, kind="stable")
    sources, targets = sources[order], targets[order]
    degrees = np.bincount(sources, minlength=nodes)
    counts = np.maximum(1, -(-degrees // LENGTH))
    first_piece = np.cumsum(counts) - counts
    place = np.arange(len(sources)) - (np.cumsum(degrees) - degrees)[sources]
    pieces = np.full((LENGTH, counts.sum()), nodes, np.int32)
    pieces[place % LENGTH, first_piece[sources] + place // LENGTH] = targets
    return pieces, np.repeat(np.arange(nodes, dtype=np.int32), counts)


def num_pieces(
    users: npt.NDArray[Any], items: npt.NDArray[Any], num_users: int, num_items: int
) -> int:
    """How many pieces `neighbour_lists` returns."""
    total = 0
    for ids, count in ((users, num_users), (items, num_items)):
        degrees = np.bincount(ids, minlength=count)
        total += int(np.maximum(1, -(-degrees // LENGTH)).sum())
    return total
