"""Take first-order weights and factors apart again."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="keras_eds")
class SplitFirstOrder(keras.layers.Layer):
    """Split each field's looked-up row into its weight and its factors.

    A row `x_f` of field `f` is `[w_f, v_f]`: column 0 is the first-order
    weight, the others are the factors. One table and one lookup serve both.

    Input shape: a list of one `(batch, dim + 1)` tensor a field.
    Output shape: `(batch, fields)` and `(batch, fields, dim)`.

    Example:

    >>> rows = [keras.ops.ones((2, 5)), keras.ops.ones((2, 5))]
    >>> weights, factors = SplitFirstOrder()(rows)
    >>> weights.shape == (2, 2), factors.shape == (2, 2, 4)
    (True, True)
    """

    def call(self, inputs: list[Any]) -> tuple[Any, Any]:
        rows = ops.stack(inputs, axis=1)  # (batch, fields, dim + 1)
        return rows[:, :, 0], rows[:, :, 1:]

    def compute_output_shape(self, input_shape: list[Shape]) -> tuple[Shape, Shape]:
        batch, width = input_shape[0]
        fields = len(input_shape)
        factors = None if width is None else width - 1
        return (batch, fields), (batch, fields, factors)
