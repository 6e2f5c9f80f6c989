"""All ids of a vocabulary, to look a whole table up."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_eds")
class AllIds(keras.layers.Layer):
    """Gives `0 .. input_dim - 1`, whatever comes in.

    Behind it an embedding layer gives its whole table, and a search sees that.

    Args:
        input_dim: Number of ids.
        **kwargs: `name` of `keras.layers.Layer`.

    Input shape: any.
    Output shape: `(input_dim,)`, int32.

    Example:

    >>> keras.ops.convert_to_numpy(AllIds(3)(np.ones((2, 5)))).tolist()
    [0, 1, 2]
    """

    def __init__(self, input_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_dim = input_dim

    def call(self, inputs: Any) -> Any:
        return ops.arange(self.input_dim, dtype="int32")

    def compute_output_shape(self, input_shape: Any) -> tuple[int]:
        return (self.input_dim,)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((self.input_dim,), dtype="int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "input_dim": self.input_dim}
