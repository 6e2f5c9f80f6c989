"""What a size is worth: the quality it leaves, less the memory it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_choice, check_integer, check_number
from keras_eds.methods.id_checks import check_rows
from keras_eds.methods.quality_ratio import quality_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reward:
    """Rewards ids whose vectors are short and nearly as good as whole ones.

    `r = q - penalty * (d / d_max)^2`, with `d` of `sizes` and the quality
    `q = min(metric / metric_full, 1)`, where `metric` and `metric_full` measure
    an id's recommendations with short vectors and with whole ones.

    Where `metric_full` is 0 there is nothing to lose, and `q = 1`: so also for an
    id without examples, whose metrics are both 0. Such an id is best at the least
    size. (The published code divides by at least 1e-5: `q = 0` there.)

    Args:
        d_max: Largest size.
        penalty: lambda, from 0. The paper tuned 0.4 on ML-1M and 0.2 on Yelp2018
            (both with LightGCN). Defaults to 0.4.
        quality: `"ratio"` for `q` (paper), or `"metric"` for the metric as it is
            (published code). Defaults to `"ratio"`.
        free: Sizes that cost nothing: the memory is `((d - free) / d_max)^2`.
            Defaults to 0 (paper); the published code has its least size, 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> reward = Reward(d_max=128, penalty=0.4)
    >>> reward(metric=[0.1, 0.3], metric_full=[0.2, 0.2], sizes=[64, 128])
    array([0.4, 0.6])

    Reference:
        Qu et al., Continuous Input Embedding Size Search for Recommender Systems,
        SIGIR 2023, arXiv 2304.03501, section 3.2.
    """

    d_max: int
    penalty: float = 0.4
    quality: Literal["ratio", "metric"] = "ratio"
    free: int = 0

    def __post_init__(self) -> None:
        check_integer("d_max", self.d_max)
        check_number("penalty", self.penalty, least=0)
        check_choice("quality", self.quality, ("ratio", "metric"))
        check_integer("free", self.free, 0)

    def __call__(self, metric: Any, metric_full: Any, sizes: Any) -> Floats:
        """Rewards of shape `(ids,)`.

        Args:
            metric: Shape `(ids,)`, at least 0, higher is better.
            metric_full: The same of the full-size model.
            sizes: Shape `(ids,)`.

        Raises:
            DataError: If a metric is not finite or below 0, or shapes differ.
        """
        gained = self.gains(metric, metric_full)
        return gained - self.costs(check_rows("sizes", sizes, rows=len(gained)))

    def gains(self, metric: Any, metric_full: Any) -> Floats:
        """What the reward is without the memory."""
        gained = quality_of(metric, metric_full)
        return gained if self.quality == "ratio" else np.asarray(metric, np.float64)

    def costs(self, sizes: Any) -> Floats:
        """What the memory of sizes takes off."""
        share = (np.asarray(sizes, np.float64) - self.free) / self.d_max
        return np.asarray(self.penalty * share**2)
