"""Reads and writes only the rows a sparse gradient touches. TensorFlow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def sum_at_every_slice(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Gives every slice the sum of all slices of its row.

    Args:
        gradient: slices `values` of shape `(n, ...)` for the rows `indices` of
            shape `(n,)`; a row may come more than once.

    Returns:
        Slices of the same shapes and rows. Whatever is computed from them and
        then written is the same for every slice of a row.
    """
    position, sums = _sum_by_row(gradient)
    return _with_values(gradient, tf.gather(sums, position))


def sum_at_first_slice(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Moves the sum of all slices of a row to its first slice, zero to the rest.

    The slices stand for the same dense gradient as before, and now have its norm
    and its entries.

    Args:
        gradient: as for `sum_at_every_slice`.

    Returns:
        Slices of the same shapes and rows.
    """
    position, sums = _sum_by_row(gradient)
    slices = tf.range(tf.size(position))
    first = tf.math.unsorted_segment_min(slices, position, tf.size(position))
    is_first = tf.equal(tf.gather(first, position), slices)
    is_first = tf.reshape(is_first, [-1] + [1] * (len(sums.shape) - 1))
    values = tf.gather(sums, position)
    return _with_values(gradient, tf.where(is_first, values, tf.zeros_like(values)))


def _sum_by_row(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    # As many segments as slices, some of them empty. The number of distinct rows
    # is not known to XLA, and a second `tf.unique` on rows so shortened counts
    # their padding as rows.
    _, position = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(position))
    return position, sums


def _with_values(gradient: tf.IndexedSlices, values: tf.Tensor) -> tf.IndexedSlices:
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


class SparseRowUpdates:
    """Lets a Keras optimizer update only the rows in a `tf.IndexedSlices`.

    Mix in before the optimizer and define `row_step`. Any other gradient goes
    to the optimizer's own `update_step`.
    """

    def row_step(
        self, rows: Any, gradient: Any, variable: Any, learning_rate: Any
    ) -> Any:
        """Updates the slots of `rows`; returns what to subtract from the rows.

        Args:
            rows: row numbers, shape `(n,)`. One may come more than once.
            gradient: their gradients, shape `(n, ...)`, equal for equal rows.
            variable: the `tf.Variable` being trained.
            learning_rate: scalar in the variable's dtype.
        """
        raise NotImplementedError

    def read_rows(self, variable: Any, rows: Any) -> Any:
        """Gathers rows without first reading the whole variable."""
        return tf.gather(_native(variable), rows)

    def write_rows(self, variable: Any, rows: Any, values: Any) -> None:
        """Overwrites rows of a variable; equal `rows` need equal `values`."""
        _native(variable).scatter_update(tf.IndexedSlices(values, rows))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable, row by row if its gradient is sparse."""
        if not _is_sparse(gradient):
            super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
            return
        # Here, after the slices of all replicas have been joined.
        gradient = sum_at_every_slice(tf.cast(gradient, variable.dtype))
        rows = gradient.indices
        rate = keras.ops.cast(learning_rate, variable.dtype)
        step = self.row_step(rows, gradient.values, variable, rate)
        old = self.read_rows(variable, rows)
        optimizer: Any = self
        if optimizer.weight_decay is not None and optimizer._use_weight_decay(variable):
            step += old * keras.ops.cast(optimizer.weight_decay, variable.dtype) * rate
        self.write_rows(variable, rows, old - step)

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Applies gradients, dense or sparse, one for each variable."""
        if self.loss_scale_factor is not None:  # type: ignore[attr-defined]
            grads = [_DivisibleSlices.of(g) if _is_sparse(g) else g for g in grads]
        super().apply(grads, trainable_variables)  # type: ignore[misc]

    def _backend_apply_gradients(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> None:
        optimizer: Any = self
        grads = self._clip_gradients(grads)
        optimizer._apply_weight_decay(
            [
                variable
                for grad, variable in zip(grads, trainable_variables, strict=True)
                if not _is_sparse(grad)
            ]
        )
        optimizer._backend_update_step(
            grads, trainable_variables, optimizer.learning_rate
        )

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        optimizer: Any = self
        if not (optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm):
            return grads
        grads = [sum_at_first_slice(g) if _is_sparse(g) else g for g in grads]
        if optimizer.global_clipnorm and optimizer.global_clipnorm > 0:
            return list(tf.clip_by_global_norm(grads, optimizer.global_clipnorm)[0])
        return super()._clip_gradients(grads)  # type: ignore[misc, no-any-return]


class _DivisibleSlices(tf.IndexedSlices):  # type: ignore[misc]
    """Slices that Keras can divide by `loss_scale_factor`."""

    @classmethod
    def of(cls, gradient: tf.IndexedSlices) -> _DivisibleSlices:
        return cls(gradient.values, gradient.indices, gradient.dense_shape)

    def __truediv__(self, divisor: Any) -> tf.IndexedSlices:
        return _with_values(self, self.values / divisor)


def _is_sparse(gradient: Any) -> bool:
    return isinstance(gradient, tf.IndexedSlices)


def _native(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable
