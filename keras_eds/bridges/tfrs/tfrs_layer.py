"""A Keras 3 layer inside a tf_keras model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from keras_eds.bridges.tfrs.autograph import unconverted
from keras_eds.surgery.sparse_lookups import look_up_by_rows


@tf_keras.saving.register_keras_serializable("keras_eds")
class TFRSLayer(tf_keras.layers.Layer):  # type: ignore[misc]
    """Lets a Keras 3 layer stand in a `tfrs.Model`, or in any tf_keras model.

    `output = layer(inputs)`. The variables of `layer` are this layer's weights: a
    model trains, saves, loads, clones and exports them as its own. A table gives
    gradients of the looked-up rows alone, and is never read as a whole.

    Args:
        layer: A Keras 3 layer, such as `RowSizedEmbedding`, `PrunedFieldEmbedding`
            or `keras.layers.Embedding`.
        **kwargs: `name`, `trainable` of a tf_keras layer. Default to those of
            `layer`.

    Raises:
        ValueError: If `layer` is no Keras 3 layer.

    Example:

    >>> table = keras_eds.layers.RowSizedEmbedding(1_000, 32, sizes=sizes)
    >>> tower = tf.keras.Sequential(
    ...     [tf.keras.layers.StringLookup(vocabulary=ids), TFRSLayer(table)]
    ... )
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                "`layer` must be a Keras 3 layer. Received: "
                f"{type(layer).__module__}.{type(layer).__name__}. Use one of "
                "keras_eds.layers or keras.layers; a tf_keras layer needs no bridge."
            )
        kwargs.setdefault("name", layer.name)
        kwargs.setdefault("trainable", layer.trainable)
        kwargs.setdefault("dtype", layer.dtype_policy.name)
        # Ids are no floats to be cast; `layer` casts what it must.
        super().__init__(autocast=False, **kwargs)
        # In a closure: tf_keras would take it for one of its own layers.
        self._held: Callable[[], Any] = lambda: layer
        self._takes = set(inspect.signature(layer.call).parameters)
        self.supports_masking = True
        look_up_by_rows([layer])
        if layer.built:
            self.build(None)

    @property
    def layer(self) -> keras.layers.Layer:
        """The Keras 3 layer."""
        return self._held()

    def build(self, input_shape: Any) -> None:
        layer = self.layer
        if not layer.built:
            with tf.init_scope():
                layer.build(_plain(input_shape))
        # Assigned as attributes, they are trained, saved and exported by tf_keras.
        self.trained = [v.value for v in layer.trainable_variables]
        self.state = [v.value for v in layer.non_trainable_variables]
        for variable in layer.trainable_variables:
            # An optimizer of tf_keras asks the bare variable.
            variable.value._constraint = variable.constraint
            if variable.regularizer is not None:
                self.add_loss(_penalty_of(variable))
        self.built = True

    def call(
        self,
        inputs: Any,
        *args: Any,
        training: Any = None,
        mask: Any = None,
        **kwargs: Any,
    ) -> Any:
        offered = {"training": training, "mask": mask}
        kwargs |= {name: v for name, v in offered.items() if name in self._takes}
        outputs = unconverted(self.layer, inputs, *args, **kwargs)
        for loss in _losses_of_call(self.layer):
            self.add_loss(loss)
        return outputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tf.TensorShape(self.layer.compute_output_shape(_plain(input_shape)))

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.pop("dtype", None)
        config["layer"] = keras.saving.serialize_keras_object(self.layer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TFRSLayer:
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


def _plain(shape: Any) -> Any:
    """A shape, or a structure of them, as Keras 3 writes it."""
    if isinstance(shape, dict):
        return {name: _plain(part) for name, part in shape.items()}
    if isinstance(shape, list):
        return [_plain(part) for part in shape]
    return tuple(shape) if isinstance(shape, tf.TensorShape) else shape


def _penalty_of(variable: keras.Variable) -> Any:
    return lambda: variable.regularizer(variable)


def _losses_of_call(layer: keras.layers.Layer) -> list[Any]:
    """What the last call added, without what Keras adds for the weights."""
    losses = layer.losses
    weights = sum(v.regularizer is not None for v in layer.trainable_variables)
    return list(losses[: len(losses) - weights])
