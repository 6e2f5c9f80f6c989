"""Mean of the vectors of a multi-hot field."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_eds.models.half_precision import dtype_of, widened


@keras.saving.register_keras_serializable(package="keras_eds")
class MaskedMean(keras.layers.Layer):
    """Average the vectors of one example over the ids that are not padding.

    `y = sum_i m_i x_i / max(1, sum_i m_i)`, with `x` the inputs and `m` the
    Keras mask (all ones without a mask). An example that has no id at all
    gets zeros, where `GlobalAveragePooling1D` would divide zero by zero.

    Input shape: `(batch, n, dim)`, mask `(batch, n)`.
    Output shape: `(batch, dim)`.

    Example:

    >>> x = keras.ops.ones((1, 2, 3))
    >>> mask = keras.ops.convert_to_tensor([[True, False]])
    >>> MaskedMean()(x, mask=mask).shape == (1, 3)
    True
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return ops.mean(inputs, axis=1)
        # Half precision loses count of thousands.
        values = widened(inputs)
        # (batch, n, 1)
        weights = ops.expand_dims(ops.cast(mask, dtype_of(values)), axis=-1)
        total = ops.sum(values * weights, axis=1)
        mean = total / ops.maximum(ops.sum(weights, axis=1), 1)
        return ops.cast(mean, dtype_of(inputs))

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (input_shape[0], *input_shape[2:])
