"""The second-order term of a factorisation machine."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_eds")
class FactorizationInteraction(keras.layers.Layer):
    """Add up the inner products of the factors of all pairs of fields.

    `y = sum_{f<g} <v_f, v_g> = 1/2 sum_k ((sum_f v_fk)^2 - sum_f v_fk^2)`,
    with `v_f` the inputs: linear, not quadratic, in the number of fields.

    Input shape: `(batch, fields, dim)`. Output shape: `(batch, 1)`.

    Example:

    >>> y = FactorizationInteraction()(keras.ops.ones((1, 3, 2)))
    >>> float(y[0, 0])  # three pairs, each with inner product 2
    6.0

    Reference: Rendle, Factorization Machines, ICDM 2010, lemma 3.1.
    """

    def call(self, inputs: Any) -> Any:
        square_of_sum = ops.square(ops.sum(inputs, axis=1))  # (batch, dim)
        sum_of_squares = ops.sum(ops.square(inputs), axis=1)
        pairs = square_of_sum - sum_of_squares
        return 0.5 * ops.sum(pairs, axis=-1, keepdims=True)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (input_shape[0], 1)
