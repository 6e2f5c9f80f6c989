"""What an agent sees of an id."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_choice
from keras_eds.layers.id_counts import check_counts
from keras_eds.methods.ciess.size_range import SizeRange
from keras_eds.methods.id_checks import check_metric, check_rows

Scale = Literal["paper", "code"]
Values = npt.NDArray[np.float32]


class SizeStates:
    """Makes a state of each id: how often it occurs, its size, its quality.

    `s = [(f - f_min) / (f_max - f_min), d / d_max, q]`, with `f` of
    `frequencies`, `f_min` and `f_max` the least and largest of the field, `d` of
    `sizes`, `d_max = high` and `q` of `quality`, from 0 to 1. Where all
    frequencies are equal the first number is 0.

    Args:
        frequencies: How often each id of the field occurs in the training data,
            of shape `(ids,)`. Leave out what is no id (padding, unused rows):
            it would be `f_min`.
        low: Least size.
        high: Largest size.
        scale: `"paper"`, or `"code"` for the published code's
            `2 x - 1`, with `(d - low) / (high - low)` for the size, and 0 for
            the quality of the first state. Defaults to `"paper"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> states = SizeStates([9, 1, 5], low=1, high=128)
    >>> states(sizes=[128, 64, 1], quality=[1.0, 0.9, 0.2]).shape
    (3, 3)

    Reference:
        Qu et al., Continuous Input Embedding Size Search for Recommender Systems,
        SIGIR 2023, arXiv 2304.03501, section 3.2.
    """

    def __init__(
        self, frequencies: Any, low: int, high: int, scale: Scale = "paper"
    ) -> None:
        check_choice("scale", scale, ("paper", "code"))
        self.frequencies = check_counts(frequencies, len(np.atleast_1d(frequencies)))
        self.range = SizeRange(low, high)
        self.scale = scale
        least, largest = self.frequencies.min(), self.frequencies.max()
        self._frequency = (self.frequencies - least) / max(largest - least, 1e-12)

    def __call__(self, sizes: Any, quality: Any) -> Values:
        """States of shape `(ids, 3)`.

        Args:
            sizes: Shape `(ids,)`.
            quality: Shape `(ids,)`, from 0; above 1 it is cut to 1.

        Raises:
            DataError: If a shape does not fit or a value is not finite.
        """
        ids = len(self.frequencies)
        sizes = check_rows("sizes", sizes, rows=ids)
        quality = np.minimum(check_metric("quality", quality), 1)
        check_rows("quality", quality, rows=ids)
        if self.scale == "code":
            quality = 2 * quality - 1
        return self._joined(sizes, quality)

    def first(self) -> Values:
        """The states before a search: all ids at `high`, with whole quality."""
        ids = len(self.frequencies)
        quality = np.full(ids, 0.0 if self.scale == "code" else 1.0)
        return self._joined(np.full(ids, float(self.range.high)), quality)

    def _joined(self, sizes: Any, quality: Any) -> Values:
        if self.scale == "code":
            columns = [2 * self._frequency - 1, self.range.to_units(sizes), quality]
        else:
            columns = [self._frequency, sizes / self.range.high, quality]
        return np.column_stack(columns).astype(np.float32)
