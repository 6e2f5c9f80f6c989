"""A model as one TensorFlow function and what it holds."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_eds.serving.signature import Signature
from keras_eds.surgery import keras_private


class TracedModel(tf.Module):  # type: ignore[misc]
    """Holds each variable that the forward pass reads, once.

    `keras.Model.export` tracks Keras's variables and TensorFlow's, and writes
    both (https://github.com/keras-team/keras/issues/23553).

    Args:
        model: A built Keras model.
        signature: The arguments of its call.

    Raises:
        ValueError: If the model cannot be called on them.
    """

    def __init__(self, model: keras.Model, signature: Signature) -> None:
        super().__init__(name="served")

        def forward(*inputs: Any) -> Any:
            return model(*inputs, training=False)

        self.serve = tf.function(forward, input_signature=signature, autograph=False)
        try:
            self.concrete = self.serve.get_concrete_function()
        except Exception as error:
            raise ValueError(
                "`inputs` must be what the model can be called on. Received: "
                f"{signature} for model {model.name!r}, whose call raised "
                f"{type(error).__name__}: {error}. Give a batch that "
                "model(inputs) takes."
            ) from error
        self.held = list(self.concrete.variables)
        self.resources = _resources(model)


def _resources(model: keras.Model) -> list[Any]:
    """The vocabularies of look-up layers, which are no variables."""
    kind = tf.saved_model.experimental.TrackableResource
    layers = keras_private.all_layers(model)
    return [v for layer in layers for v in vars(layer).values() if isinstance(v, kind)]
