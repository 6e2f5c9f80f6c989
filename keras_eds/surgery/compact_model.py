"""Saving of models that their own code rebuilds at full width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_eds.layers.int8_tables import Int8Tables
from keras_eds.surgery import keras_private
from keras_eds.surgery.sites import is_graph


class CompactModel(keras.Model):
    """Loads a model whose code creates wide tables, with its narrow ones.

    A subclassed model creates its layers in `__init__`, with the widths and types
    it was written with, and so does a layer of the user's that holds a table. After
    surgery the model's class becomes a subclass of both this one and its own:
    `isinstance` and every method stay, and a saved file also names the narrow and
    the quantized tables, which are put in place again before the weights are read.
    """

    def __reduce__(self) -> Any:
        # As Keras does, but its class cannot be found by name.
        return CompactModel._unpickle_model, super().__reduce__()[1]

    def get_config(self) -> dict[str, Any]:
        """The original model's description and the tables that it does not name."""
        original: Any = type(self).__mro__[2]
        return {
            "model": {
                "module": original.__module__,
                "class_name": original.__name__,
                "registered_name": keras.saving.get_registered_name(original),
                "config": original.get_config(self),
                "build_config": self.get_build_config(),
            },
            "layers": {
                str(place): keras.saving.serialize_keras_object(table)
                for place, table in _unnamed_tables(self).items()
            },
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> keras.Model:
        """Rebuilds the original model and puts its tables in place."""
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        tables = _tables(model)
        for place, description in config["layers"].items():
            layer = keras.saving.deserialize_keras_object(description)
            if not layer.built:
                layer.build(None)
            keras_private.become(tables[int(place)], layer)
        return make_compact(model)


_register = keras.saving.register_keras_serializable("keras_eds", "CompactModel")
_register(CompactModel)


def make_compact(model: keras.Model) -> keras.Model:
    """Makes `model` a `CompactModel`, if its own description is not enough."""
    if isinstance(model, CompactModel) or not _unnamed_tables(model):
        return model
    original = type(model)
    compact = type(original.__name__, (CompactModel, original), {})
    compact.__module__ = original.__module__
    _register(compact)
    object.__setattr__(model, "__class__", compact)
    return model


def _tables(model: keras.Model) -> list[keras.layers.Layer]:
    """Every table of the model, wide or narrow, in the order of its layers."""
    kinds = (keras.layers.Embedding, Int8Tables)
    return [t for t in keras_private.all_layers(model) if isinstance(t, kinds)]


def _unnamed_tables(model: keras.Model) -> dict[int, keras.layers.Layer]:
    """The changed tables that no graph names, by their place among all.

    By place: unnamed layers have other names whenever a model is rebuilt.
    """
    unnamed = {id(layer) for layer in _outside_graphs(model)}
    return {
        place: table
        for place, table in enumerate(_tables(model))
        if id(table) in unnamed and table.built and _is_changed(table)
    }


def _is_changed(table: keras.layers.Layer) -> bool:
    return isinstance(table, Int8Tables) or table.quantization_mode is not None


def _outside_graphs(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers inside `layer` that are not restored from a graph of layers."""
    # A Functional subclass with an `__init__` of its own is rebuilt by that.
    if not is_graph(layer) or not type(layer).__module__.startswith("keras."):
        yield from keras_private.all_layers(layer)
        return
    for child in keras_private.child_layers(layer):
        if keras_private.child_layers(child):
            yield from _outside_graphs(child)
