"""The subspace of a field that is worth keeping, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_eds.field import Field
from keras_eds.field_plan import FieldPlan
from keras_eds.measurements import FieldMeasurement

# Share of the mean curvature that is added to every direction: a direction in
# which a few batches saw no gradient is not worth exactly nothing.
SHRINKAGE = 0.01
_CHUNK = 65536


@dataclass(frozen=True, eq=False)
class PrincipalBasis:
    """The directions of a field's vectors, ordered by what they are worth.

    With C the covariance of the looked-up vectors e and H the second moment of
    their gradients, replacing e by e' costs about `E[(e - e')^T H (e - e')] / 2`.
    Let `H^(1/2) C H^(1/2) = U diag(gains) U^T`, `gains` falling. Keeping the
    first d directions costs half the sum of the other gains, and no other
    d-dimensional choice costs less.

    Args:
        gains: Shape `(output_dim,)`, not increasing.
        encoder: Shape `(output_dim, output_dim)`: `H^(1/2) U`.
        decoder: Shape `(output_dim, output_dim)`: `U^T H^(-1/2)`.
        mean: Shape `(output_dim,)`: what the vectors are replaced by where
            nothing is kept.
    """

    gains: np.ndarray
    encoder: np.ndarray
    decoder: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, measured: FieldMeasurement, fill: str) -> PrincipalBasis:
        """The basis for one field; `fill` is `"mean"` or `"zero"`."""
        centred = fill == "mean"
        spread = measured.covariance() if centred else measured.second_moment
        mean = measured.mean if centred else np.zeros_like(measured.mean)
        curvature = measured.gradient_moment
        width = len(mean)
        level = max(np.trace(curvature) / width, 1e-30)
        curvature = curvature + SHRINKAGE * level * np.eye(width)
        root, inverse = _roots(curvature)
        values, vectors = np.linalg.eigh(root @ spread @ root)
        order = np.argsort(values)[::-1]
        gains, vectors = np.maximum(values[order], 0.0), vectors[:, order]
        return cls(gains, root @ vectors, vectors.T @ inverse, mean)

    def plan(self, field: Field, kept_dim: int, constant: bool) -> FieldPlan:
        """Keeps the first `kept_dim` directions."""
        if kept_dim == field.output_dim:
            return FieldPlan.full(field)
        encoder, decoder = self.encoder[:, :kept_dim], self.decoder[:kept_dim]
        # The same subspace in an orthonormal frame: narrow vectors then have the
        # scale of the full ones, and an optimizer's step means the same to both.
        frame, mix = np.linalg.qr(decoder.T)
        encoder, decoder = encoder @ mix.T, frame.T
        rest = self.mean - self.mean @ encoder @ decoder
        return FieldPlan(
            field,
            encoder.astype("float32"),
            decoder.astype("float32"),
            rest.astype("float32") if constant else None,
        )


def second_moment(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`sum_i n_i e_i e_i^T`, of shape `(output_dim, output_dim)`.

    Args:
        table: `e`, of shape `(input_dim, output_dim)`.
        counts: `n`, of shape `(input_dim,)`: how often each id comes, or its share.
    """
    moment = np.zeros((table.shape[1],) * 2)
    for start in range(0, len(table), _CHUNK):
        rows = table[start : start + _CHUNK].astype("float64")
        moment += (rows * counts[start : start + _CHUNK, None]).T @ rows
    return moment


def principal_directions(moment: np.ndarray) -> np.ndarray:
    """The eigenvectors of a second moment as columns, by falling eigenvalue."""
    vectors: np.ndarray = np.linalg.eigh(moment)[1][:, ::-1]
    return vectors


def _roots(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric square root and its inverse."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, 1e-12 * max(values.max(), 1e-300)))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
