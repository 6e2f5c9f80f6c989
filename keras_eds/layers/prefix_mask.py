"""Masks that keep the first values of a vector, and their relaxation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops


def prefix_matrix(output_dim: int, min_size: int) -> npt.NDArray[np.float32]:
    """The mask of each size that can be chosen, as rows.

    `M[k, j] = 1 if j < min_size + k else 0`, of shape `(choices, output_dim)`
    with `choices = output_dim - min_size + 1`. A distribution `t` over the
    choices has the mask `t @ M`.

    Args:
        output_dim: Width of the vectors to be masked.
        min_size: The smallest size, from 0 to `output_dim`.
    """
    sizes = np.arange(min_size, output_dim + 1)
    return (np.arange(output_dim) < sizes[:, None]).astype(np.float32)


def hard_sizes(logits: Any, min_size: int) -> Any:
    """The size with the largest logit, the smaller one of equals.

    `size_i = min_size + argmax_k logits[i, k]`.

    Args:
        logits: Floats of shape `(..., choices)`.
        min_size: The size that the first logit stands for.

    Returns:
        Integers of shape `(...)`.
    """
    return min_size + ops.argmax(logits, axis=-1)


def hard_mask(logits: Any, matrix: Any, min_size: int) -> Any:
    """The mask of the size with the largest logit.

    `m_ij = 1 if j < size_i else 0`, with `size_i` of `hard_sizes`.

    Args:
        logits: Floats of shape `(..., choices)`.
        matrix: What `prefix_matrix` gives.
        min_size: The size that the first logit stands for.

    Returns:
        Zeros and ones of the dtype of `logits`, shape `(..., output_dim)`.
    """
    sizes = ops.expand_dims(hard_sizes(logits, min_size), -1)
    positions = np.arange(matrix.shape[-1], dtype=np.int32)
    return ops.cast(ops.less(positions, ops.cast(sizes, "int32")), logits.dtype)


def soft_mask(logits: Any, matrix: Any) -> Any:
    """The expected mask of a size drawn with the probabilities of the logits.

    `t_i = softmax(logits_i)` and `m_i = t_i @ M`: `m_ij` is the probability that
    value `j` is kept. Its sum over `j` is the expected size,
    `sum_k t_ik * (min_size + k)`.

    Args:
        logits: Floats of shape `(..., choices)`, already divided by the
            temperature.
        matrix: `M`, what `prefix_matrix` gives.

    Returns:
        Floats from 0 to 1, shape `(..., output_dim)`.
    """
    if logits.shape[-1] == 1:
        # Keras warns of such a softmax. This is 1 too, with a gradient of 0.
        probabilities = ops.exp(logits - logits)
    else:
        probabilities = ops.softmax(logits, axis=-1)
    return ops.matmul(probabilities, ops.cast(matrix, logits.dtype))


def straight_through(hard: Any, soft: Any) -> Any:
    """The values of one tensor with the gradient of another.

    `hard + (soft - stop_gradient(soft))`, which is exactly `hard` in value. With
    `e'_i = m_i * e_i` and the gradient taken through `soft_mask`:

        dL/dt_ik = sum_{j < min_size + k} (dL/de'_ij) * e_ij

    Args:
        hard: The values.
        soft: What the gradient goes to, of the same shape.
    """
    return hard + (soft - ops.stop_gradient(soft))
