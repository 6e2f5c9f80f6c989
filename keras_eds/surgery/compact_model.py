"""Saving of models that their own code rebuilds at full width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.surgery import keras_private
from keras_eds.surgery.sites import Site


class CompactModel(keras.Model):
    """Loads a model whose code creates wide tables, with its narrow ones.

    A subclassed model creates its layers in `__init__`, with the widths it was
    written with, and so does a layer of the user's that holds a table. After
    surgery the model's class becomes a subclass of both this one and its own:
    `isinstance` and every method stay, and a saved file also names the narrow
    layers, which are put in place again before the weights are read.
    """

    _compact_layers: dict[str, Any]

    def get_config(self) -> dict[str, Any]:
        """The original model's description and its narrow layers."""
        original: Any = type(self).__mro__[2]
        return {
            "model": {
                "module": original.__module__,
                "class_name": original.__name__,
                "registered_name": keras.saving.get_registered_name(original),
                "config": original.get_config(self),
                "build_config": self.get_build_config(),
            },
            "layers": self._compact_layers,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> keras.Model:
        """Rebuilds the original model and narrows its tables."""
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        layers, tables = config["layers"], _tables(model)
        for place, narrow in layers.items():
            layer = keras.saving.deserialize_keras_object(narrow)
            if not layer.built:
                layer.build(None)
            keras_private.become(tables[int(place)], layer)
        return make_compact(model, layers)


def _tables(model: keras.Model) -> list[keras.layers.Layer]:
    """Every table of the model, wide or narrow, in the order of its layers."""
    kinds = (keras.layers.Embedding, PrunedFieldEmbedding, RowSizedEmbedding)
    return [t for t in keras_private.all_layers(model) if isinstance(t, kinds)]


_register = keras.saving.register_keras_serializable("keras_eds", "CompactModel")
_register(CompactModel)


def make_compact(model: keras.Model, layers: dict[str, Any]) -> keras.Model:
    """Makes `model` a `CompactModel` that remembers `layers`, by their place."""
    if isinstance(model, CompactModel):
        model._compact_layers = {**model._compact_layers, **layers}
        return model
    original = type(model)
    compact = type(original.__name__, (CompactModel, original), {})
    compact.__module__ = original.__module__
    _register(compact)
    object.__setattr__(model, "__class__", compact)
    object.__setattr__(model, "_compact_layers", dict(layers))
    return model


def remember_layers(model: keras.Model, sites: Sequence[Site]) -> None:
    """Makes a saved file name the changed layers that no graph names."""
    # By place: unnamed layers have other names whenever a model is rebuilt.
    places = {id(table): str(place) for place, table in enumerate(_tables(model))}
    layers = {
        places[id(site.layer)]: keras.saving.serialize_keras_object(site.layer)
        for site in sites
        if not site.rebuilt_by_graph
    }
    if layers:
        make_compact(model, layers)
