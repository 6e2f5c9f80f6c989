"""Vectors of length 1."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_eds.models.half_precision import dtype_of, widened

# Below this square of the length a vector is taken for zero.
_LEAST = 1e-12


def unit_vector(vectors: Any) -> Any:
    """`v / |v|` along the last axis; a vector of zeros stays zero.

    `keras.layers.UnitNormalization` and `keras.ops.normalize` have no finite gradient
    at zero, and no finite value there in half precision.
    """
    values = widened(vectors)
    squared = ops.sum(ops.square(values), axis=-1, keepdims=True)
    long = squared > _LEAST
    # Not only the result: a gradient flows through what is not chosen, too.
    inverse = ops.rsqrt(ops.where(long, squared, 1.0))
    units = values * ops.where(long, inverse, 1.0)
    return ops.cast(units, dtype_of(vectors))


@keras.saving.register_keras_serializable(package="keras_eds")
class UnitVector(keras.layers.Layer):
    """Scales vectors to length 1: `y = x / |x|`, and 0 for a vector of zeros.

    The last axis holds a vector. An example without ids has a vector of zeros, which
    has a gradient here where `keras.layers.UnitNormalization` has none.

    Args:
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.

    Example:

    >>> units = UnitVector()(ops.convert_to_tensor([[3.0, 4.0], [0.0, 0.0]]))
    >>> ops.convert_to_numpy(units).round(1).astype(str).tolist()
    [['0.6', '0.8'], ['0.0', '0.0']]
    """

    def call(self, inputs: Any) -> Any:
        return unit_vector(inputs)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return input_shape
