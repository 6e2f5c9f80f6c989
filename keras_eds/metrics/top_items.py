"""The best items of each row of scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def top_items(scores: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.intp]:
    """Return the `k` columns with the largest scores, the best first.

    A partial sort: `n + k log k` for `n` columns. Equal scores come in an
    order that is the same every time, but means nothing.

    Args:
        scores: Floats without NaN, `(rows, columns)`.
        k: How many, at most all columns.

    Example:

    >>> top_items(np.array([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]]), 2).tolist()
    [[1, 2], [0, 1]]
    """
    k = min(k, scores.shape[1])
    if k < scores.shape[1]:
        found = np.argpartition(scores, -k, axis=1)[:, -k:]
    else:
        found = np.broadcast_to(np.arange(k), scores.shape)
    values = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)
