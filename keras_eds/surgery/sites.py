"""Finds every embedding table of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_eds.errors import FieldError
from keras_eds.field import Field
from keras_eds.layers.lookup_layer import LookupLayer
from keras_eds.surgery import keras_private

Filters = str | Sequence[str] | Callable[[Field], bool] | None

_REVERSIBLE = getattr(keras.layers, "ReversibleEmbedding", ())


@dataclass(frozen=True, eq=False)
class Site:
    """A field and the layer that holds its table.

    Args:
        field: Name and shape of the table.
        layer: The embedding layer.
        called_once: Whether graphs show that a step looks up in it only once.
    """

    field: Field
    layer: keras.layers.Embedding
    called_once: bool


def find_fields(model: keras.Model, filters: Filters = None) -> list[Field]:
    """Finds every embedding table of a model.

    Tables are looked for in Functional, Sequential, nested and subclassed
    models, in attributes, lists and dicts; a table that several inputs share is
    one field.

    Args:
        model: A Keras model.
        filters: Which tables: a regular expression (searched for in the name),
            a list of names or of regular expressions, or a function of a
            `Field`. Defaults to `None`: all.

    Returns:
        The fields, in the order of the model's layers.

    Raises:
        FieldError: If there is no table, none passes `filters`, or one that
            passes cannot be searched.

    Example:

    >>> model = keras.Sequential([keras.layers.Embedding(100, 8, name="word")])
    >>> keras_eds.find_fields(model)
    [Field(name='word', input_dim=100, output_dim=8, itemsize=4)]
    """
    return [site.field for site in find_sites(model, filters)]


def find_sites(model: keras.Model, filters: Filters = None) -> list[Site]:
    """Like `find_fields`, with the layers."""
    chosen = _choose(all_sites(model), filters)
    for site in chosen:
        refuse_unsupported(site)
    _refuse_shared_variables(chosen)
    return chosen


def sites_named(model: keras.Model, names: Collection[str]) -> list[Site]:
    """The sites of these names, in their order; no name is taken for a pattern."""
    found = find_sites(model, lambda field: field.name in names)
    by_name = {site.field.name: site for site in found}
    return [by_name[name] for name in names]


def all_sites(model: keras.Model) -> list[Site]:
    """Every table of the model, also those that cannot be searched."""
    return _sites_of(model, (keras.layers.Embedding,))


def all_tables(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Every table of the model by name, also those that surgery has cut."""
    kinds = (keras.layers.Embedding, LookupLayer)
    return {site.field.name: site.layer for site in _sites_of(model, kinds)}


def _sites_of(model: keras.Model, kinds: tuple[type, ...]) -> list[Site]:
    if not isinstance(model, keras.Model):
        raise FieldError(
            "`model` must be a Keras model. "
            f"Received: model={model!r} of type {type(model).__name__}. "
            "Pass a keras.Model, or build one first."
        )
    found = list(_walk(model, kinds, "", True, set()))
    if not found:
        raise FieldError(
            "`model` must have an embedding table (keras.layers.Embedding or "
            f"keras_rs.layers.EmbedReduce). Received: model {model.name!r} with "
            f"layers {[layer.name for layer in model.layers][:10]}. "
            "If the model is not built yet, call it on one batch first."
        )
    return found


def _walk(
    parent: keras.layers.Layer,
    kinds: tuple[type, ...],
    prefix: str,
    once: bool,
    seen: set[int],
) -> Iterator[Site]:
    names = {} if is_graph(parent) else _attribute_names(parent)
    taken: set[str] = set()
    for child in keras_private.child_layers(parent):
        if id(child) in seen:
            continue
        seen.add(id(child))
        name = _distinct(names.get(id(child), child.name), taken)
        child_once = once and keras_private.call_sites(child) == 1
        if isinstance(child, kinds):
            yield Site(_field(child, prefix + name), child, child_once)
        else:
            yield from _walk(child, kinds, f"{prefix}{name}/", child_once, seen)


def is_graph(layer: keras.layers.Layer) -> bool:
    """Whether the layer is a model made of a graph of layers."""
    functional = getattr(layer, "inputs", None) is not None
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and functional
    )


def _attribute_names(layer: keras.layers.Layer) -> dict[int, str]:
    names: dict[int, str] = {}

    def visit(value: Any, name: str) -> None:
        if isinstance(value, keras.layers.Layer):
            names.setdefault(id(value), name)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                visit(item, f"{name}_{key}")
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                visit(item, f"{name}_{index}")

    # PyTorch keeps submodules apart from the other attributes.
    attributes = {**vars(layer), **vars(layer).get("_modules", {})}
    for name, value in attributes.items():
        if not name.startswith("_") or isinstance(value, keras.layers.Layer):
            visit(value, name.lstrip("_"))
    return names


def _distinct(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate


def _field(layer: keras.layers.Embedding, name: str) -> Field:
    itemsize = {"float64": 8, "float16": 2, "bfloat16": 2}.get(layer.variable_dtype, 4)
    return Field(name, layer.input_dim, layer.output_dim, itemsize)


def _choose(sites: list[Site], filters: Filters) -> list[Site]:
    if filters is None:
        return sites
    if callable(filters):
        chosen = [site for site in sites if filters(site.field)]
    else:
        one = isinstance(filters, str) or not isinstance(filters, Iterable)
        patterns: list[Any] = [filters] if one else list(filters)
        if not all(isinstance(pattern, str) for pattern in patterns):
            raise FieldError(
                "`filters` must be a regular expression, a list of them or a function. "
                f"Received: filters={filters!r}. Give names, as in filters=['user']."
            )
        try:
            chosen = [
                s for s in sites if any(_matches(p, s.field.name) for p in patterns)
            ]
        except re.error as error:
            raise FieldError(
                "`filters` must be valid regular expressions. "
                f"Received: filters={filters!r} ({error}). Escape special characters."
            ) from error
    if not chosen:
        raise FieldError(
            "`filters` must pass at least one table. "
            f"Received: filters={filters!r}, which passes none of "
            f"{[site.field.name for site in sites]}. Widen it."
        )
    return chosen


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or re.search(pattern, name) is not None


def refuse_unsupported(site: Site) -> None:
    """Raises for tables that cannot be made narrow without being wrong."""
    layer, name = site.layer, site.field.name
    reason = None
    if isinstance(layer, _REVERSIBLE):
        reason = "is tied to an output layer (ReversibleEmbedding)"
    elif layer.quantization_mode is not None:
        reason = f"is quantized ({layer.quantization_mode})"
    elif layer.lora_enabled or layer.lora_rank:
        reason = "has LoRA enabled"
    elif type(layer).call is not keras.layers.Embedding.call and not is_reducing(layer):
        reason = f"is a {type(layer).__name__} with a `call` of its own"
    if reason is not None:
        raise FieldError(
            "`model` must have plain embedding tables. "
            f"Received: table {name!r}, which {reason}. "
            "Leave it out with `filters`, or search before that change."
        )


def is_reducing(layer: keras.layers.Layer) -> bool:
    """Whether the layer is `keras_rs.layers.EmbedReduce`."""
    module = type(layer).__module__
    return type(layer).__name__ == "EmbedReduce" and module.startswith("keras_rs.")


def _refuse_shared_variables(sites: Sequence[Site]) -> None:
    owners: dict[int, str] = {}
    for site in sites:
        if not site.layer.built:
            continue
        key = id(keras_private.table_variable(site.layer))
        if key in owners:
            raise FieldError(
                "`model` must have one layer a table. Received: layers "
                f"{owners[key]!r} and {site.field.name!r}, which hold the same "
                "variable. Call one layer on both inputs instead."
            )
        owners[key] = site.field.name
