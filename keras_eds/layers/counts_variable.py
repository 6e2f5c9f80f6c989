"""A weight that can say, while a function is being traced, whether it is set."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops

if keras.backend.backend() == "tensorflow":
    from tensorflow import init_scope
else:
    from contextlib import nullcontext as init_scope

UNKNOWN = -1.0


class CountsVariable(keras.Variable):  # type: ignore[misc]
    """How often each id occurs, and -1 everywhere as long as nobody knows.

    Args:
        input_dim: Number of ids.
    """

    def __init__(self, input_dim: int) -> None:
        self._known = False
        super().__init__(
            initializers.Constant(UNKNOWN),
            shape=(input_dim,),
            dtype="float32",
            trainable=False,
            autocast=False,
            name="counts",
        )

    @property
    def known(self) -> bool:
        """Whether counts have been set, in whatever way."""
        # A restored checkpoint goes round `assign`.
        return self._known or self._look()

    def assign(self, value: Any) -> Any:
        """Sets the counts, as any variable."""
        assigned = super().assign(value)
        # Now: on JAX, `fit` takes the value away before it calls the layer.
        self._look()
        return assigned

    def _look(self) -> bool:
        if self._value is not None and _is_set(self._value):
            with init_scope():
                first = ops.convert_to_numpy(self._value[0])
            self._known = bool(first != UNKNOWN)
        return self._known


def _is_set(value: Any) -> bool:
    """TensorFlow gives a variable made in a function its first value afterwards."""
    if keras.backend.backend() != "tensorflow":
        return True
    with init_scope():
        return bool(value.is_initialized())
