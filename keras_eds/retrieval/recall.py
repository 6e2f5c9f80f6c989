"""How much of an exact answer an approximate one has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def index_recall(found: npt.ArrayLike, exact: npt.ArrayLike) -> float:
    """Recall@k of one index against another, the mean over queries.

    `mean_u |found_u & exact_u| / k`. The order within a row does not count.

    Args:
        found: Items of each query, `(queries, k)`; -1 for none.
        exact: Items that should be found, `(queries, k)`.

    Raises:
        ValueError: If the shapes differ.

    Example:

    >>> index_recall([[3, 1, -1]], [[1, 2, 3]])
    0.6666666666666666
    """
    ours, theirs = np.asarray(found), np.asarray(exact)
    if ours.shape != theirs.shape or ours.ndim != 2 or not ours.size:
        raise ValueError(
            "`found` and `exact` must be items of shape (queries, k), both alike. "
            f"Received: shapes {ours.shape} and {theirs.shape}. Ask both indexes for "
            "the same k."
        )
    hits = [len(np.intersect1d(a, b)) for a, b in zip(ours, theirs, strict=True)]
    return float(np.mean(hits) / theirs.shape[1])
