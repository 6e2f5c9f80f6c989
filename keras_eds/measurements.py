"""What one pass over the data tells about every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_eds.by_field import ByField


@dataclass(frozen=True, eq=False)
class FieldMeasurement:
    """Moments of a field's looked-up vectors e and of their gradients g = dL/de.

    Args:
        gate_abs: Shape `(output_dim,)`: sum over batches of |dL/dgate|.
        gate_sum: Shape `(output_dim,)`: sum over batches of dL/dgate.
        mean: Shape `(output_dim,)`: E[e]; zeros where vectors are added up.
        second_moment: Shape `(output_dim, output_dim)`: E[e e^T].
        gradient_moment: Shape `(output_dim, output_dim)`: sum of g g^T.
        lookups: Number of vectors looked up.
        counts: Shape `(input_dim,)`: how often each id comes in all data, the
            padding id left out. None where no method asked.
        table: Shape `(input_dim, output_dim)`: the table. None likewise.
    """

    gate_abs: np.ndarray
    gate_sum: np.ndarray
    mean: np.ndarray
    second_moment: np.ndarray
    gradient_moment: np.ndarray
    lookups: float
    counts: np.ndarray | None = None
    table: np.ndarray | None = None

    @classmethod
    def of_counts(cls, counts: np.ndarray) -> FieldMeasurement:
        """Counts alone: no vector and no gradient was looked at."""
        none, square = np.zeros(0), np.zeros((0, 0))
        return cls(none, none, none, square, square, float(counts.sum()), counts)

    def covariance(self) -> np.ndarray:
        """E[(e - mean) (e - mean)^T], `(output_dim, output_dim)`."""
        return self.second_moment - np.outer(self.mean, self.mean)


class Measurements(ByField[FieldMeasurement]):
    """The measurements of every field, by name."""

    kind = "keras_eds.measurements"
    part = FieldMeasurement

    @classmethod
    def of_counts(cls, counts: Mapping[str, np.ndarray]) -> Measurements:
        """What a probe leaves that only counts ids."""
        return cls({n: FieldMeasurement.of_counts(c) for n, c in counts.items()})

    def is_finite(self) -> bool:
        """Whether no NaN and no infinity was measured."""
        return all(bool(np.all(np.isfinite(array))) for array in self.arrays().values())
