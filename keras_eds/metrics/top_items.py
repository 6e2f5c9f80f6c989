"""The best items of each row of scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer

# Fewer columns in a group, and partitioning all of them is as fast.
LEAST_IN_GROUP = 25


def top_items(scores: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.intp]:
    """Return the `k` columns with the largest scores, the best first.

    A partial sort: the `k` best of `n` columns stand in the `k` groups of columns
    with the best maxima, so that only `sqrt(k n)` are partitioned where `n` is large.
    Equal scores come in an order that is the same every time, but means nothing.

    Args:
        scores: Floats without NaN, `(rows, columns)`.
        k: How many, at most all columns.

    Raises:
        ValueError: If `k` is not an integer of at least 1.

    Example:

    >>> top_items(np.array([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]]), 2).tolist()
    [[1, 2], [0, 1]]
    """
    k = min(check_integer("k", k), scores.shape[1])
    if k < scores.shape[1]:
        found = _best_columns(scores, k)
    else:
        found = np.broadcast_to(np.arange(k), scores.shape)
    values = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _best_columns(scores: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.intp]:
    columns = scores.shape[1]
    in_group = int((columns / k) ** 0.5)
    if in_group < LEAST_IN_GROUP:
        return _partitioned(scores, k)
    groups = columns // in_group
    maxima = scores[:, :groups].copy()
    grouped = groups * in_group
    for start in range(groups, grouped, groups):
        np.maximum(maxima, scores[:, start : start + groups], out=maxima)
    members = _partitioned(maxima, k)[:, :, None] + np.arange(0, grouped, groups)
    rest = np.broadcast_to(
        np.arange(grouped, columns), (len(scores), columns - grouped)
    )
    near = np.concatenate([members.reshape(len(scores), -1), rest], axis=1)
    found = _partitioned(np.take_along_axis(scores, near, axis=1), k)
    return np.take_along_axis(near, found, axis=1)


def _partitioned(scores: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.intp]:
    return np.argpartition(scores, -k, axis=1)[:, -k:]
