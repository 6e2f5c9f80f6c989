"""Two networks, mixed by how often an id occurs."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import activations, initializers, ops


class TwinMLPs(keras.layers.Layer):
    """Maps features of ids to one logit for each size.

    `o = alpha * h(s) + (1 - alpha) * l(s)`, with `h` and `l` two MLPs of the same
    shape and separate weights; or `o = h(s)` without `twins`. The weights of both
    stand in one array: `kernel_n` has the shape `(twins, inputs + 1, units)`, but
    `kernel_0` `(inputs + 1, twins, units)`. The last row of the inputs is the bias.

    The last kernel starts at zero, so that at first the logits are its bias, the
    same for all ids: `first_logits`.

    Args:
        hidden_units: Widths of the hidden layers, at least one.
        first_logits: The logits at first, one for each size.
        activation: Activation of the hidden layers.
        twins: Whether there are two networks.
        seed: Seed of the kernels. `None` draws one.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(
        self,
        hidden_units: tuple[int, ...],
        first_logits: npt.NDArray[np.float64],
        activation: Any,
        twins: bool,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = (*hidden_units, len(first_logits))
        self.activation = activations.get(activation)
        self.first_logits = first_logits
        self.twins = 2 if twins else 1
        self.seed = seed

    def build(self, input_shape: Any, alpha_shape: Any = None) -> None:
        widths = (input_shape[-1], *self.units)
        self.kernels: list[keras.Variable] = []
        for number, units in enumerate(self.units):
            last = number == len(self.units) - 1
            shape = (self.twins, widths[number] + 1, units)
            # An optimizer's step costs as much for a bias as for a kernel.
            kernel = self.add_weight(
                name=f"kernel_{number}",
                shape=shape if number else (shape[1], shape[0], shape[2]),
                # A model that is not built yet may draw all weights after the last.
                initializer=self._only_bias
                if last
                else partial(self._he_uniform, number),
            )
            self.kernels.append(kernel)

    def _only_bias(self, shape: Any, dtype: Any = None) -> Any:
        kernel = np.zeros(shape)
        kernel[:, -1] = self.first_logits
        return ops.convert_to_tensor(kernel, dtype)

    def _he_uniform(self, number: int, shape: Any, dtype: Any = None) -> Any:
        inputs, units = shape[1 if number else 0] - 1, shape[2]
        seed = None if self.seed is None else self.seed + number
        # Each twin for itself: by the shape of all, Keras would count more inputs.
        drawn = initializers.HeUniform(seed)((inputs, self.twins * units), dtype)
        drawn = ops.reshape(drawn, (inputs, self.twins, units))
        kernel = ops.pad(drawn, ((0, 1), (0, 0), (0, 0)))
        return ops.transpose(kernel, (1, 0, 2)) if number else kernel

    def call(self, features: Any, alpha: Any) -> Any:
        """Logits of shape `(rows, choices)`.

        Args:
            features: Shape `(rows, features)`.
            alpha: Shape `(rows, 1)`, from 0 to 1.
        """
        first = ops.reshape(self.kernels[0], (-1, self.twins * self.units[0]))
        values = ops.matmul(_with_one(features), first)
        values = ops.reshape(values, (-1, self.twins, self.units[0]))
        for kernel in self.kernels[1:-1]:
            values = _with_one(self.activation(values))
            values = ops.einsum("gti,tiu->gtu", values, kernel)
        values = _with_one(self.activation(values))
        if self.twins == 2:
            # The last layer is linear: mixing what goes in mixes what comes out.
            mix = ops.concatenate([alpha, 1 - alpha], axis=-1)
            values = values * ops.expand_dims(mix, -1)
        last = ops.reshape(self.kernels[-1], (-1, self.units[-1]))
        return ops.matmul(ops.reshape(values, (-1, last.shape[0])), last)


def _with_one(values: Any) -> Any:
    ones = ops.ones((*ops.shape(values)[:-1], 1), values.dtype)
    return ops.concatenate([values, ones], axis=-1)
