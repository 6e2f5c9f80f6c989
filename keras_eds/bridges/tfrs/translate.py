"""The same table or optimizer, in Keras 3 instead of tf_keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from keras_eds.errors import FieldError
from keras_eds.optimizers import LazyAdagrad

# What only tf_keras's optimizers are configured with.
_ONLY_THERE = ("jit_compile", "is_legacy_optimizer")


def keras_table(name: str, table: tf_keras.layers.Embedding) -> keras.layers.Embedding:
    """A built Keras 3 table with the settings and values of a tf_keras one."""
    # A call also gives it the values that it was constructed with.
    table(tf.zeros([0], tf.int32))
    layer = keras.layers.Embedding(
        table.input_dim,
        table.output_dim,
        embeddings_initializer=_translated(
            keras.initializers, tf_keras.initializers, table.embeddings_initializer
        ),
        embeddings_regularizer=_translated(
            keras.regularizers, tf_keras.regularizers, table.embeddings_regularizer
        ),
        activity_regularizer=_translated(
            keras.regularizers, tf_keras.regularizers, table.activity_regularizer
        ),
        embeddings_constraint=_translated(
            keras.constraints, tf_keras.constraints, table.embeddings_constraint
        ),
        mask_zero=table.mask_zero,
        trainable=table.trainable,
        dtype=table.dtype_policy.name,
        name=name,
    )
    layer.build()
    layer.embeddings.assign(table.embeddings)
    return layer


def keras_optimizer(optimizer: Any) -> keras.optimizers.Optimizer:
    """A Keras 3 optimizer of the same class and settings.

    Adagrad becomes `LazyAdagrad`, which is Adagrad and touches a batch's rows alone,
    unless it averages all rows.

    Raises:
        FieldError: If there is none of its kind.
    """
    name = type(optimizer).__name__
    ours = getattr(keras.optimizers, name, None)
    if name == "Adagrad" and not optimizer.get_config().get("use_ema"):
        ours = LazyAdagrad
    theirs = type(optimizer).__module__.startswith("tf_keras.")
    if ours is None or not theirs:
        raise FieldError(
            "`model` must be compiled with an optimizer that Keras 3 has too. "
            f"Received: {type(optimizer).__module__}.{name}. Compile it with one of "
            "tf.keras.optimizers, such as Adagrad or Adam."
        )
    config = {k: v for k, v in optimizer.get_config().items() if k not in _ONLY_THERE}
    if config.pop("decay", 0):
        raise FieldError(
            "`model` must be compiled with an optimizer without `decay`. Received: a "
            f"legacy {name} with decay. Give it a learning rate schedule instead."
        )
    rate = config.get("learning_rate")
    if isinstance(rate, np.generic):
        config["learning_rate"] = float(rate)
    if isinstance(rate, dict):
        config["learning_rate"] = _translated_schedule(rate)
    return ours.from_config(config)


def _translated_schedule(rate: dict[str, Any]) -> Any:
    schedule = getattr(keras.optimizers.schedules, rate["class_name"], None)
    if schedule is None:
        raise FieldError(
            "`model` must be compiled with a learning rate schedule that Keras 3 has "
            f"too. Received: {rate['class_name']}. Use one of "
            "tf.keras.optimizers.schedules, or a number."
        )
    return schedule.from_config(rate["config"])


def renewed(optimizer: Any) -> Any:
    """A tf_keras optimizer with the same settings and no state."""
    return type(optimizer).from_config(optimizer.get_config())


def _translated(ours: Any, theirs: Any, value: Any) -> Any:
    """An initializer, regularizer or constraint, by its name and settings."""
    if value is None:
        return None
    try:
        return ours.get(theirs.serialize(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise FieldError(
            "`model` must have tables whose initializers, regularizers and constraints "
            f"Keras 3 has too. Received: {value!r} ({error}). Use one of tf.keras's."
        ) from error
