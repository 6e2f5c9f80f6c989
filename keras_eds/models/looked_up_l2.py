"""L2 penalty on the embedding rows that a batch has used."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_eds.argument_checks import check_number


@keras.saving.register_keras_serializable(package="keras_eds")
class LookedUpL2(keras.layers.Layer):
    """Pass vectors on unchanged and add their mean squared norm to the loss.

    `loss += l2 * mean_b sum_i m_bi |x_bi|^2`, with `x` the inputs, `b` the
    example, `i` the id within it and `m` the Keras mask (padding is free).

    A `embeddings_regularizer` on the table would read, and update, the whole
    vocabulary in every step. This one costs as much as the lookup, and
    shrinks a row in proportion to how often it is used. It is added in
    training only, so that a validation loss stays comparable between models.

    Args:
        l2: Strength, at least 0.

    Input shape: `(batch, dim)` or `(batch, n, dim)`. Output shape: the same.

    Raises:
        ValueError: If `l2` is negative.

    Example:

    >>> layer = LookedUpL2(0.5)
    >>> y = layer(keras.ops.ones((2, 3)), training=True)
    >>> float(layer.losses[0])
    1.5
    """

    def __init__(self, l2: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.l2 = check_number("l2", l2, least=0, remedy="0 is no penalty.")

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        if training:
            # float32: squares of small weights vanish in half precision.
            squares = ops.sum(ops.square(ops.cast(inputs, "float32")), axis=-1)
            if mask is not None:
                squares = squares * ops.cast(mask, squares.dtype)
            if len(squares.shape) > 1:
                squares = ops.sum(squares, axis=1)
            self.add_loss(self.l2 * ops.mean(squares))
        return inputs

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}
