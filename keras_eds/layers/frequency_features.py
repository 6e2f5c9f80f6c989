"""What a network is told of how often ids occur."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ALPHA_FROM = ("count", "log_count", "rank")
# Columns of the features: what the twins read, and how they are mixed.
NUM_FEATURES, COLUMNS = 2, 3


class FrequencyGroups(NamedTuple):
    """Ids that occur about equally often, and are treated alike.

    Group 0 is that of ids without a frequency: those that do not occur, and
    padding. Its features, and those of groups without ids, are 0.

    Attributes:
        of_id: The group of each id, shape `(input_dim,)`.
        features: `z(log(1 + count))`, `z(rank)` and `alpha`, shape `(groups, 3)`.
        share: The share of all ids that each group has, shape `(groups,)`.
    """

    of_id: npt.NDArray[np.int32]
    features: npt.NDArray[np.float32]
    share: npt.NDArray[np.float32]


def frequency_groups(
    counts: Floats, groups: int, alpha_from: str, mask_zero: bool
) -> FrequencyGroups:
    """Features of each count, and groups of counts if there are many.

    With `z(x) = (x - mean(x)) / std(x)` over the ids that occur, ranks ascending
    from the rarest id, and equal counts sharing their mean rank:

        features = z(log(1 + count)), z(rank)
        alpha    = 1 / (1 + exp(-z(x))), x of `alpha_from`

    Each count has a group of its own. Only if there are `groups` counts or more,
    counts share one whose features differ by less than `1 / (groups - 1)` of the
    features' range; the group has the mean of its ids.

    Args:
        counts: Shape `(input_dim,)`.
        groups: Number of groups, at least 2.
        alpha_from: One of `ALPHA_FROM`: the count, its logarithm or its rank.
        mask_zero: Whether id 0 is padding.

    Raises:
        ValueError: If no id but padding occurs.
    """
    learned = counts > 0
    learned[0] &= not mask_zero
    if not learned.any():
        raise ValueError(
            "`counts` must be above 0 for some id that is not padding. Received: "
            "none. Count the ids of the training data."
        )
    values, value_of_id, ids = np.unique(
        counts[learned], return_inverse=True, return_counts=True
    )
    features = _features(values, ids, alpha_from)
    group_of_value = 1 + _merged(features, groups - 1)
    of_id = np.zeros(len(counts), np.int32)
    of_id[learned] = group_of_value[value_of_id]
    total = np.bincount(group_of_value, ids, groups)
    means = [
        np.bincount(group_of_value, ids * column, groups) / np.maximum(total, 1)
        for column in features.T
    ]
    total[0] = len(counts) - total.sum()
    share = (total / len(counts)).astype(np.float32)
    return FrequencyGroups(of_id, np.stack(means, 1).astype(np.float32), share)


def _features(values: Floats, ids: npt.NDArray[np.int64], alpha_from: str) -> Floats:
    """Columns of each value that `ids` ids have; the values ascend."""
    sources = {
        "count": values,
        "log_count": np.log1p(values),
        "rank": np.cumsum(ids) - (ids + 1) / 2,
    }
    alpha = 1 / (1 + np.exp(-_standardised(sources[alpha_from], ids)))
    log_count = _standardised(sources["log_count"], ids)
    return np.stack([log_count, _standardised(sources["rank"], ids), alpha], axis=1)


def _standardised(values: Floats, ids: npt.NDArray[np.int64]) -> Floats:
    if len(values) == 1:
        return np.zeros_like(values)
    away = values - np.average(values, weights=ids)
    return np.asarray(away / np.sqrt(np.average(away**2, weights=ids)))


def _merged(features: Floats, most: int) -> npt.NDArray[np.int64]:
    if len(features) <= most:
        return np.arange(len(features))
    steps = np.diff(features[:, :NUM_FEATURES], axis=0).sum(axis=1)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    bins = np.minimum((way / way[-1] * most).astype(np.int64), most - 1)
    return np.unique(bins, return_inverse=True)[1]
