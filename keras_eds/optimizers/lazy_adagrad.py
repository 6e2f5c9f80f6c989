"""Adagrad that reads and writes only the rows in the batch."""

from __future__ import annotations

from typing import Any

import keras

from keras_eds.optimizers.row_optimizer import RowOptimizer


@keras.saving.register_keras_serializable(package="keras_eds")
class LazyAdagrad(RowOptimizer, keras.optimizers.Adagrad):  # type: ignore[misc]
    """Adagrad whose step on an embedding table costs the batch's rows only.

    For each row `r` in the batch, with `g` the sum of all its gradients:

        accumulator[r] += g**2
        variable[r] -= learning_rate * g / sqrt(accumulator[r] + epsilon)

    A row whose gradient is zero does not move under Adagrad, so this is Adagrad
    exactly, ids that repeat in a batch included. (Keras 3.15's own Adagrad
    squares each repeated slice of a `tf.IndexedSlices` by itself.)

    On TensorFlow a gradient that is a `tf.IndexedSlices` is applied in this way;
    any other gradient goes to `keras.optimizers.Adagrad`. On JAX and PyTorch
    every gradient is dense, and this is `keras.optimizers.Adagrad`.

    What `LazyAdam` says of `weight_decay`, clipping, loss scaling and
    constraints, and of reading the table, holds here too.

    Args:
        learning_rate: float, schedule, or callable without arguments.
        initial_accumulator_value: float >= 0, where the accumulators start.
        epsilon: float, added under the root.
        **kwargs: the other arguments of `keras.optimizers.Adagrad`.

    Raises:
        ValueError: if `use_ema` or `gradient_accumulation_steps` is set.

    Example:

    >>> import keras
    >>> from keras_eds.optimizers import LazyAdagrad
    >>> model = keras.Sequential([keras.layers.Embedding(1000, 8)])
    >>> model.compile(optimizer=LazyAdagrad(learning_rate=0.1), loss="mse")

    Reference: Duchi et al., 2011, "Adaptive Subgradient Methods for Online
    Learning and Stochastic Optimization", JMLR 12, section 1.1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            initial_accumulator_value=initial_accumulator_value,
            epsilon=epsilon,
            **kwargs,
        )

    def row_step(
        self, rows: Any, gradient: Any, variable: Any, learning_rate: Any
    ) -> Any:
        """Adds to the accumulators of `rows`; returns what to subtract."""
        slot = self._accumulators[self._get_variable_index(variable)]
        accumulator = self.read_rows(slot, rows) + keras.ops.square(gradient)
        self.write_rows(slot, rows, accumulator)
        return learning_rate * gradient / keras.ops.sqrt(accumulator + self.epsilon)
