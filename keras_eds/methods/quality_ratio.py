"""How good short vectors are, beside whole ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.errors import DataError
from keras_eds.id_quality import Qualities
from keras_eds.methods.id_checks import check_metric

Floats = npt.NDArray[np.float64]


def quality_of(metric: Any, metric_full: Any) -> Floats:
    """`min(metric / metric_full, 1)`, and 1 where `metric_full` is 0.

    Args:
        metric: Shape `(ids,)`, at least 0, higher is better.
        metric_full: The same of the full-size model.

    Raises:
        DataError: If a metric is not finite or below 0, or shapes differ.

    Example:

    >>> quality_of([0.1, 0.3, 0.0], [0.2, 0.2, 0.0])
    array([0.5, 1. , 1. ])
    """
    now = check_metric("metric", metric)
    full = check_metric("metric_full", metric_full)
    if now.shape != full.shape:
        raise DataError(
            f"`metric` and `metric_full` must have one shape. Received: {now.shape} "
            f"and {full.shape}. Measure the same ids with both models."
        )
    # Divided only where it gives less than 1: no 0 and no overflow.
    below = now < full
    return np.where(below, now / np.where(below, full, 1.0), 1.0)


def mean_ratio(
    qualities: Qualities, full: Qualities, counts: Mapping[str, np.ndarray]
) -> float:
    """Mean of `min(quality / quality_full, 1)` over all ids that were measured.

    Each id counts as often as there are examples that carry it.
    """
    ratios, weights = [], []
    for name, found in qualities.items():
        examples = np.minimum(found.examples, full[name].examples)
        known = examples * counts[name] > 0
        if not known.any():
            continue
        ratios.append(quality_of(found.score[known], full[name].score[known]))
        weights.append(examples[known])
    return float(np.average(np.concatenate(ratios), weights=np.concatenate(weights)))


def check_measured(full: Qualities, counts: Mapping[str, np.ndarray]) -> None:
    """Refuses qualities of no id that comes in training.

    Raises:
        DataError: If there is none in any field.
    """
    if not any((found.examples * counts[n] > 0).any() for n, found in full.items()):
        raise DataError(
            "`validation_data` must carry ids that come in training. Received: none, "
            f"in any of {sorted(full)}, so that no size can be judged. Validate on "
            "examples of known ids, or take a method that measures none, as 'sseds'."
        )
