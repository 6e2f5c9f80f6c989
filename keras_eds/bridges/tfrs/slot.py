"""The place of a table in a TFRS model while it is searched."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_eds.bridges.tfrs.tfrs_layer import TFRSLayer
from keras_eds.field import Field
from keras_eds.surgery.count import check_ids


class Slot(TFRSLayer):
    """A `TFRSLayer` whose layer Keras 3 trains: it may change, and get gates and masks.

    Its variables and the penalties on them are those of the Keras 3 model around.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        self.used = False
        super().__init__(layer, **kwargs)

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if tf.executing_eagerly():
            _check_range(self.layer, inputs)
        self.used = True
        return super().call(inputs, *args, **kwargs)


def _check_range(layer: keras.layers.Layer, inputs: Any) -> None:
    """Refuses ids without a row before TensorFlow does, which names no table."""
    if isinstance(inputs, tf.Tensor):
        field = Field(layer.name, layer.input_dim, layer.output_dim, 4)
        check_ids(np.asarray(inputs).ravel(), field)
