"""Adam that reads and writes only the rows in the batch."""

from __future__ import annotations

from typing import Any

import keras

from keras_eds.optimizers.row_optimizer import RowOptimizer


@keras.saving.register_keras_serializable(package="keras_eds")
class LazyAdam(RowOptimizer, keras.optimizers.Adam):  # type: ignore[misc]
    """Adam whose step on an embedding table costs the batch's rows only.

    For each row `r` in the batch, with `g` the sum of all its gradients and `t`
    the number of the step:

        m[r] += (1 - beta_1) * (g - m[r])
        v[r] += (1 - beta_2) * (g**2 - v[r])
        alpha = learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)
        variable[r] -= alpha * m[r] / (sqrt(v[r]) + epsilon)

    With `amsgrad`, the largest `v[r]` so far stands in the last line.

    **This is not dense Adam.** There, a row that is not in the batch has a zero
    gradient: its moments decay, and it still moves by its momentum. Here its
    moments and its values stay as they are. `t` counts all steps, not a row's
    own, so the first step of a row that comes late is corrected as if its
    moments were old. If every row is in every batch the two are equal.

    On TensorFlow a gradient that is a `tf.IndexedSlices` is applied in this way;
    any other gradient goes to `keras.optimizers.Adam`. **On JAX and PyTorch this
    is `keras.optimizers.Adam`**: every gradient is dense there, and does not say
    which rows were touched.

    Of the other arguments and features, on TensorFlow:

    - `weight_decay` shrinks the rows in the batch, and dense variables whole.
    - `clipnorm`, `clipvalue` and `global_clipnorm` see a row's summed gradient.
      As always in Keras, each replica clips its own gradients.
    - `loss_scale_factor` works. `keras.optimizers.LossScaleOptimizer` (which
      `compile` puts around any optimizer under `"mixed_float16"`) gives the right
      result, but looks for infinities in a whole V x D array in each step. To
      avoid it: `compile(..., auto_scale_loss=False)` and `loss_scale_factor`.
    - a constraint on the table is applied to all of it, and a regularizer on it
      makes its gradient dense.
    - schedules, `jit_compile=True` and `tf.distribute.MirroredStrategy` work.

    The table must also be *read* by rows for a step to cost the batch alone:
    `keras.layers.Embedding` outside XLA copies its whole table in each call once
    the table has been updated by rows.

    Args:
        learning_rate: float, schedule, or callable without arguments.
        beta_1: float in [0, 1), decay of the mean of gradients `m`.
        beta_2: float in [0, 1), decay of the mean of squared gradients `v`.
        epsilon: float, added to the root.
        amsgrad: whether to divide by the largest `v` so far.
        **kwargs: the other arguments of `keras.optimizers.Adam`.

    Raises:
        ValueError: if `use_ema` or `gradient_accumulation_steps` is set.

    Example:

    >>> import keras
    >>> from keras_eds.optimizers import LazyAdam
    >>> model = keras.Sequential([keras.layers.Embedding(1000, 8)])
    >>> model.compile(optimizer=LazyAdam(learning_rate=0.01), loss="mse")

    Reference: Kingma and Ba, 2015, "Adam", arXiv:1412.6980, section 2 (the
    reordered form at its end); the rows left alone are a departure from it.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
            **kwargs,
        )

    def row_step(
        self, rows: Any, gradient: Any, variable: Any, learning_rate: Any
    ) -> Any:
        """Moves the moments of `rows`; returns what to subtract."""
        index = self._get_variable_index(variable)
        m = self._approach(self._momentums[index], rows, gradient, self.beta_1)
        v = self._approach(
            self._velocities[index], rows, keras.ops.square(gradient), self.beta_2
        )
        if self.amsgrad:
            largest = self._velocity_hats[index]
            v = keras.ops.maximum(self.read_rows(largest, rows), v)
            self.write_rows(largest, rows, v)
        alpha = learning_rate * self._bias_correction(variable.dtype)
        return alpha * m / (keras.ops.sqrt(v) + self.epsilon)

    def _approach(self, slot: Any, rows: Any, target: Any, beta: float) -> Any:
        old = self.read_rows(slot, rows)
        new = old + (target - old) * (1 - beta)
        self.write_rows(slot, rows, new)
        return new

    def _bias_correction(self, dtype: Any) -> Any:
        step = keras.ops.cast(self.iterations + 1, dtype)
        beta_1_power = keras.ops.power(keras.ops.cast(self.beta_1, dtype), step)
        beta_2_power = keras.ops.power(keras.ops.cast(self.beta_2, dtype), step)
        return keras.ops.sqrt(1 - beta_2_power) / (1 - beta_1_power)
