"""Finds the tables of a tf_keras model, and puts other layers in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import tf_keras

from keras_eds.errors import FieldError

# What a layer holds besides its attributes: its nodes in graphs of layers.
_GRAPH_ATTRIBUTES = ("_inbound_nodes_value", "_outbound_nodes_value")


def find_tables(model: tf_keras.Model) -> dict[str, tf_keras.layers.Embedding]:
    """Every `tf.keras.layers.Embedding` of a model, by where it stands.

    A table in a tower is named after the tower, as in `user_model`; a table with a
    name of its own keeps that, as in `user_model.city`.

    Raises:
        FieldError: If there is none.
    """
    tables = dict(_walk(model, (), set(), set()))
    if not tables:
        towers = {name: _kinds(child) for name, child in _children(model)}
        raise FieldError(
            "`model` must have a table: a tf.keras.layers.Embedding in one of its "
            f"towers. Received: {type(model).__name__!r} with {towers}. Put a "
            "tf.keras.layers.Embedding into a tower, and hold the tower in an "
            "attribute, list or dict of the model."
        )
    return tables


def become(old: tf_keras.layers.Layer, new: tf_keras.layers.Layer) -> None:
    """Turns `old` into `new` and keeps its identity, and so its place everywhere."""
    kept = {k: vars(old)[k] for k in _GRAPH_ATTRIBUTES if k in vars(old)}
    state = {**vars(new), **kept}
    vars(old).clear()
    vars(old).update(state)
    object.__setattr__(old, "__class__", type(new))


def layers_of(model: tf_keras.layers.Layer) -> list[tf_keras.layers.Layer]:
    """`model` and every layer inside, each once."""
    found: dict[int, tf_keras.layers.Layer] = {}

    def visit(layer: tf_keras.layers.Layer) -> None:
        if id(layer) not in found:
            found[id(layer)] = layer
            for _, child in _children(layer):
                visit(child)

    visit(model)
    return list(found.values())


def _walk(
    parent: tf_keras.layers.Layer,
    path: tuple[str, ...],
    seen: set[int],
    taken: set[str],
) -> Iterator[tuple[str, tf_keras.layers.Embedding]]:
    for name, child in _children(parent):
        if id(child) in seen:
            continue
        seen.add(id(child))
        if _is_table(child):
            unnamed = path and re.fullmatch(r"embedding(_\d+)?", name)
            yield _distinct(".".join(path if unnamed else (*path, name)), taken), child
        else:
            yield from _walk(child, (*path, name), seen, taken)


def _is_table(layer: Any) -> bool:
    embedding = tf_keras.layers.Embedding
    return isinstance(layer, embedding) and type(layer).call is embedding.call


def _children(layer: tf_keras.layers.Layer) -> list[tuple[str, tf_keras.layers.Layer]]:
    # A graph of layers has no attributes of the user's.
    graph = isinstance(layer, tf_keras.Sequential) or (
        getattr(layer, "_is_graph_network", False)
    )
    names = {} if graph else _attribute_names(layer)
    flat = layer._flatten_layers(include_self=False, recursive=False)
    return [(names.get(id(child), _unnumbered(child.name)), child) for child in flat]


def _attribute_names(layer: tf_keras.layers.Layer) -> dict[int, str]:
    names: dict[int, str] = {}

    def visit(value: Any, name: str) -> None:
        if isinstance(value, tf_keras.layers.Layer):
            names.setdefault(id(value), name)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                visit(item, f"{name}_{key}")
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                visit(item, f"{name}_{index}")

    for name, value in vars(layer).items():
        # These are the lists in which tf_keras itself keeps layers.
        if not name.startswith("_self_") and name != "_metrics":
            visit(value, name.strip("_"))
    return names


def _unnumbered(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _distinct(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate


def _kinds(layer: tf_keras.layers.Layer) -> list[str]:
    return [type(child).__name__ for _, child in _children(layer)] or [
        type(layer).__name__
    ]
