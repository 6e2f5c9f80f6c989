"""The sizes that an id may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SizeRange:
    """Sizes from `low` to `high`, and what networks see of them: -1 to 1.

    Args:
        low: Least size.
        high: Largest size, above `low`.

    Raises:
        ValueError: If a size is not an integer or out of range.

    Example:

    >>> SizeRange(1, 128).to_units([1, 128])
    array([-1.,  1.])
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        check_integer("low", self.low, 0)
        check_integer("high", self.high, self.low + 1)

    def to_units(self, sizes: Any) -> Floats:
        """Sizes on a scale from -1, `low`, to 1, `high`."""
        share = (np.asarray(sizes, np.float64) - self.low) / (self.high - self.low)
        return 2 * share - 1

    def to_sizes(self, units: Any) -> Floats:
        """The reverse of `to_units`."""
        share = (np.asarray(units, np.float64) + 1) / 2
        return self.low + share * (self.high - self.low)

    def rounded(self, sizes: Any) -> npt.NDArray[np.int32]:
        """The nearest allowed integers."""
        near: Floats = np.clip(np.rint(sizes), self.low, self.high)
        return near.astype(np.int32)
