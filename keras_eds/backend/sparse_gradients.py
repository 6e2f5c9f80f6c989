"""Reads and writes only the rows a sparse gradient touches. TensorFlow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def deduplicate(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Adds up the slices of a gradient that belong to the same row.

    Args:
        gradient: slices `values` of shape `(n, ...)` for the rows `indices` of
            shape `(n,)`; a row may come more than once.

    Returns:
        The same gradient with every row at most once.
    """
    rows, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


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
            rows: distinct row numbers, shape `(n,)`.
            gradient: their gradients, shape `(n, ...)`.
            variable: the `tf.Variable` being trained.
            learning_rate: scalar in the variable's dtype.
        """
        raise NotImplementedError

    def read_rows(self, variable: Any, rows: Any) -> Any:
        """Gathers rows without first reading the whole variable."""
        return tf.gather(_native(variable), rows)

    def write_rows(self, variable: Any, rows: Any, values: Any) -> None:
        """Overwrites rows of a variable; `rows` must be distinct."""
        _native(variable).scatter_update(tf.IndexedSlices(values, rows))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable, row by row if its gradient is sparse."""
        if not _is_sparse(gradient):
            super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
            return
        # Replicas' slices are joined before this point, so rows repeat again
        # even where clipping has already added up the slices of one replica.
        gradient = deduplicate(tf.cast(gradient, variable.dtype))
        rows = gradient.indices
        rate = keras.ops.cast(learning_rate, variable.dtype)
        step = self.row_step(rows, gradient.values, variable, rate)
        optimizer: Any = self
        if optimizer.weight_decay is not None and optimizer._use_weight_decay(variable):
            decay = keras.ops.cast(optimizer.weight_decay, variable.dtype)
            step += self.read_rows(variable, rows) * decay * rate
        _native(variable).scatter_sub(tf.IndexedSlices(step, rows))

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
        if not (
            optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
        ):
            return grads
        grads = [deduplicate(g) if _is_sparse(g) else g for g in grads]
        if optimizer.global_clipnorm and optimizer.global_clipnorm > 0:
            return list(tf.clip_by_global_norm(grads, optimizer.global_clipnorm)[0])
        return super()._clip_gradients(grads)  # type: ignore[misc, no-any-return]


class _DivisibleSlices(tf.IndexedSlices):  # type: ignore[misc]
    """Slices that Keras can divide by `loss_scale_factor`."""

    @classmethod
    def of(cls, gradient: tf.IndexedSlices) -> _DivisibleSlices:
        return cls(gradient.values, gradient.indices, gradient.dense_shape)

    def __truediv__(self, divisor: Any) -> tf.IndexedSlices:
        return tf.IndexedSlices(self.values / divisor, self.indices, self.dense_shape)


def _is_sparse(gradient: Any) -> bool:
    return isinstance(gradient, tf.IndexedSlices)


def _native(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable
