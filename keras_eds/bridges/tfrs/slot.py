"""The place of a table in a TFRS model while it is searched."""

from __future__ import annotations

from typing import Any

import keras

from keras_eds.bridges.tfrs.tfrs_layer import TFRSLayer


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
        self.used = True
        return super().call(inputs, *args, **kwargs)
