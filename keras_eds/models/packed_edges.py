"""Edges of a bipartite graph in few bytes."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def pack_edges(users: Ints, items: Ints, num_users: int) -> npt.NDArray[np.uint8]:
    """Write edges, sorted by user, then item, as counts and gaps, compressed.

    Args:
        users: User of each edge, ascending.
        items: Item of each edge, ascending for each user, none twice.
        num_users: Number of users.

    Example:

    >>> packed = pack_edges(np.array([0, 0, 2]), np.array([1, 4, 0]), 3)
    >>> [part.tolist() for part in unpack_edges(packed, 3)]
    [[0, 0, 2], [1, 4, 0]]
    """
    counts = np.bincount(users, minlength=num_users)
    gaps = np.diff(items, prepend=0)
    starts = np.cumsum(counts) - counts
    first = starts[counts > 0]
    gaps[first] = items[first]
    plain = np.concatenate([counts, gaps]).astype("<u4")
    # The first bytes of all numbers, then the second: mostly zeros in a row.
    planes = plain.view(np.uint8).reshape(-1, 4).T.copy()
    return np.frombuffer(zlib.compress(planes.tobytes(), 9), np.uint8)


def unpack_edges(packed: npt.NDArray[np.uint8], num_users: int) -> tuple[Ints, Ints]:
    """Read what `pack_edges` wrote."""
    planes = np.frombuffer(zlib.decompress(packed.tobytes()), np.uint8)
    plain = np.ascontiguousarray(planes.reshape(4, -1).T).view("<u4").ravel()
    counts, gaps = np.split(plain.astype(np.int64), [num_users])
    users = np.repeat(np.arange(num_users), counts)
    total = np.cumsum(gaps)
    # Each user's first gap is counted from 0.
    starts = np.cumsum(counts) - counts
    before = np.concatenate([[0], total])[starts]
    return users, total - np.repeat(before, counts)
