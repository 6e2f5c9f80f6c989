"""The inner product of two towers, as a logit."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_eds.argument_checks import check_number

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="keras_eds")
class ScaledDot(keras.layers.Layer):
    """Score pairs of vectors: inner product over a temperature, plus a bias.

    `y = <q, c> / temperature + b`, with `[q, c]` the inputs and `b` trained.

    Args:
        temperature: Divisor of the inner product, above 0. Defaults to 1.

    Input shape: a list of two `(batch, dim)` tensors.
    Output shape: `(batch, 1)`.

    Raises:
        ValueError: If `temperature` is not above 0.

    Example:

    >>> q = keras.ops.ones((1, 4))
    >>> y = ScaledDot(temperature=0.5)([q, q])
    >>> keras.ops.convert_to_numpy(y)
    array([[8.]], dtype=float32)
    """

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature, above=0)

    def build(self, input_shape: list[Shape]) -> None:
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")

    def call(self, inputs: list[Any]) -> Any:
        query, candidate = inputs
        dot = ops.sum(query * candidate, axis=-1, keepdims=True)
        return dot / self.temperature + self.bias

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        return (input_shape[0][0], 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
