"""Gives every stage a model of its own, from the one the user has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_eds.errors import FieldError
from keras_eds.surgery import keras_private
from keras_eds.surgery.copying import copy_model, custom_objects
from keras_eds.surgery.sites import all_sites

Builder = Callable[[], keras.Model]


class ModelSource:
    """A compiled model, or a function that builds one.

    Args:
        model: A compiled Keras model, which is never changed, or a function
            without arguments that returns one.

    Raises:
        FieldError: If there is no compiled Keras model.
    """

    def __init__(self, model: keras.Model | Builder) -> None:
        self._builder: Builder | None = None
        if isinstance(model, keras.Model):
            self.example = model
        elif callable(model):
            self._builder = model
            self.example = model()
        else:
            raise FieldError(
                "`model` must be a compiled Keras model or a function that builds one. "
                f"Received: model={model!r}. Pass a keras.Model."
            )
        self._check(self.example)

    @property
    def trained(self) -> bool:
        """Whether the user's model has been trained already."""
        if self._builder is not None or self.example.optimizer is None:
            return False
        return int(self.example.optimizer.iterations) > 0

    def new(self, sample: Any = None) -> keras.Model:
        """A model like the user's, built on `sample` where it is not built.

        A copy with the values of the user's model, or what the function builds.
        """
        if self._builder is None:
            return copy_model(self.example)
        model = self._builder()
        self._check(model)
        if not model.built and sample is not None:
            model(sample, training=False)
        return model

    def fresh(self, sample: Any = None) -> keras.Model:
        """A model like the user's with weights drawn anew."""
        model = self.new(sample)
        if self._builder is None:
            _redraw(model)
        return model

    def names_in(self, model: keras.Model) -> dict[str, str]:
        """What `model` calls the fields of the user's model.

        Keras numbers unnamed layers anew whenever a function builds them.
        """
        theirs = [site.field.name for site in all_sites(model)]
        ours = [site.field.name for site in all_sites(self.example)]
        return dict(zip(ours, theirs, strict=True))

    def load(self, path: str) -> keras.Model:
        """Loads a saved result, compiled."""
        objects = custom_objects(self.example)
        return keras.saving.load_model(path, custom_objects=objects, compile=False)

    @staticmethod
    def _check(model: Any) -> None:
        if not isinstance(model, keras.Model):
            raise FieldError(
                "`model` must build a Keras model. Received: a function that returned "
                f"{type(model).__name__}. Return the compiled model."
            )
        if not getattr(model, "compiled", False):
            raise FieldError(
                f"`model` must be compiled. Received: model {model.name!r} without "
                "`compile`. Call model.compile(optimizer=..., loss=...) first."
            )


def _redraw(model: keras.Model) -> None:
    """Draws the weights of every trainable layer anew.

    Layers without trainable weights keep their state: vocabularies and
    statistics of preprocessing layers are not learned by training.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    with keras.saving.custom_object_scope(custom_objects(model)):
        drawn = keras.saving.deserialize_keras_object(config, safe_mode=False)
    pairs = zip(
        keras_private.all_layers(model), keras_private.all_layers(drawn), strict=True
    )
    for layer, other in pairs:
        if keras_private.child_layers(layer) or not layer.trainable_variables:
            continue
        for variable, value in zip(layer.weights, other.weights, strict=True):
            variable.assign(value)
