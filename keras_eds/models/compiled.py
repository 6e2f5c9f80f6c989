"""Functions compiled on their own, also where nothing around them is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that runs as one XLA program.

    On TensorFlow and JAX, inside a compiled step or out of it; unchanged on
    PyTorch. A new shape or dtype compiles once more.

    Args:
        function: Pure, from tensors to tensors.

    Example:

    >>> double = compiled(lambda x: x + x)
    >>> keras.ops.convert_to_numpy(double(keras.ops.ones(2))).tolist()
    [2.0, 2.0]
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        program: Callable[..., Any] = tf.function(function, jit_compile=True)
        return program
    if keras.backend.backend() == "jax":
        import jax

        program = jax.jit(function)
        return program
    return function
