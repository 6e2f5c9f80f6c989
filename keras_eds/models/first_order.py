"""The linear term of a factorisation machine."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_eds")
class FirstOrder(keras.layers.Layer):
    """Add up the first-order weights of all fields, and the global bias.

    `y = w_0 + sum_f w_f`, with `w_f` the inputs and `w_0` the bias.

    Input shape: `(batch, fields)`. Output shape: `(batch, 1)`.

    Example:

    >>> FirstOrder()(keras.ops.ones((2, 3))).shape == (2, 1)
    True
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return ops.sum(inputs, axis=-1, keepdims=True) + self.bias

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (input_shape[0], 1)
