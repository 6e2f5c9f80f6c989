"""Every use of the private API of Keras's layers in this room, in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

# A Functional graph finds its layers through these: they stay with the object.
_GRAPH_ATTRIBUTES = ("_inbound_nodes", "_outbound_nodes")
_COMPILED_FUNCTIONS = ("train_function", "test_function", "predict_function")


def become(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Turns `old` into `new` and keeps its identity.

    A built layer is referred to from graphs, attributes, lists and dicts that
    no walk can reach alike; changing the object itself reaches them all.
    """
    kept = {k: old.__dict__[k] for k in _GRAPH_ATTRIBUTES if k in old.__dict__}
    old.__dict__.clear()
    old.__dict__.update(new.__dict__)
    old.__dict__.update(kept)
    # `Layer.__new__` binds these to the object that is given up here.
    for name in ("build", "quantize"):
        old.__dict__.pop(name, None)
    object.__setattr__(old, "__class__", new.__class__)


def child_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that `layer` holds itself, in the order they were added."""
    return list(layer._layers)


def own_trainable_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """What `layer` can learn by itself, without the layers in it."""
    return list(layer._trainable_variables)


def call_sites(layer: keras.layers.Layer) -> int:
    """At how many places of a graph the layer is called; 0 outside of graphs."""
    return len(layer._inbound_nodes)


def all_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """`model` and every layer inside, each once."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def add_variable(
    layer: keras.layers.Layer, name: str, shape: Sequence[int], **kwargs: Any
) -> keras.Variable:
    """Adds a float32 variable of zeros to a built layer."""
    kwargs = {"initializer": "zeros", "autocast": False, **kwargs}
    variable = keras.Variable(shape=tuple(shape), dtype="float32", name=name, **kwargs)
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        layer._track_variable(variable)
    finally:
        if locked:
            layer._tracker.lock()
    return variable


def restore_call(layer: keras.layers.Layer, call: Any) -> None:
    """Gives a layer the `call` of its own that it had, or that of its class."""
    vars(layer).pop("call", None)
    if call is not None:
        layer.call = call


def remove_variable(layer: keras.layers.Layer, variable: keras.Variable) -> None:
    """Takes off what `add_variable` added."""
    layer._untrack_variable(variable)


def add_layer(layer: keras.layers.Layer, name: str, inside: keras.layers.Layer) -> None:
    """Puts a layer into a built one, as its attribute `name`."""
    set_attribute(layer, name, inside)


def remove_layer(layer: keras.layers.Layer, name: str) -> None:
    """Takes off what `add_layer` added."""
    inside = getattr(layer, name)
    delattr(layer, name)
    layer._tracker.untrack(inside)


def sync(model: keras.Model) -> None:
    """Lets a callback of `fit` read and write variables, on any backend."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def table_variable(layer: keras.layers.Embedding) -> keras.Variable:
    """The variable behind `layer.embeddings`."""
    return layer._embeddings


def refresh(model: keras.Model) -> None:
    """Makes a changed model forget what was derived from its old variables."""
    for name in _COMPILED_FUNCTIONS:
        if hasattr(model, name):
            setattr(model, name, None)
    if keras.backend.backend() == "torch":
        # Sequential hides a Functional model that `all_layers` does not know.
        for layer in model.modules():
            if "_torch_params" in layer._modules:
                layer._track_variables()


def set_attribute(model: keras.Model, name: str, value: Any) -> None:
    """Sets an attribute of a built model."""
    locked = model._tracker.locked
    model._tracker.unlock()
    try:
        setattr(model, name, value)
    finally:
        if locked:
            model._tracker.lock()


@contextmanager
def unfrozen(
    model: keras.Model, layers: Sequence[keras.layers.Layer]
) -> Iterator[None]:
    """Lets variables train in `layers` and what holds them, frozen or not."""
    wanted = {id(layer) for layer in layers}
    holders = [h for h in all_layers(model) if wanted & {id(x) for x in all_layers(h)}]
    flags = [(holder, holder._trainable) for holder in holders]
    try:
        # Past the setter, which would reach into every other layer inside.
        for holder in holders:
            holder._trainable = True
        yield
    finally:
        for holder, flag in flags:
            holder._trainable = flag


def num_replicas() -> int:
    """How many replicas of `tf.distribute` run this."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)
