"""Data sets of candidates that the towers of a model compute.

`FactorizedTopK(candidates=movies.batch(128).map(movie_model))` holds a data set whose
function was traced with the tables of that moment. A tower that has got another table
must be traced again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras

from keras_eds.bridges.tfrs.find_tables import layers_of
from keras_eds.bridges.tfrs.redirected import Copy, redirected
from keras_eds.errors import FieldError


def retrace(model: tf_keras.Model, copy: Copy = lambda value: value) -> None:
    """Traces every data set of candidates again, with the towers as they are.

    Args:
        model: A TFRS model, changed in place.
        copy: What stands in `model` for what a function of a data set refers to.
    """
    for holder, name, data in _data_sets(model):
        vars(holder)[name] = _rebuilt(data, copy)


@contextmanager
def retraced(model: tf_keras.Model) -> Iterator[None]:
    """Like `retrace`, for a while: also within the tracing of a step."""
    before = _data_sets(model)
    try:
        retrace(model)
        yield
    finally:
        for holder, name, data in before:
            vars(holder)[name] = data


def check_fresh(model: tf_keras.Model, old: list[tf.Variable]) -> None:
    """Refuses data sets that still read variables which are no longer the model's.

    Raises:
        FieldError: If there is one.
    """
    handles = {id(variable.handle) for variable in old}
    for holder, _, data in _data_sets(model):
        if any(id(captured) in handles for captured in _captured(data)):
            raise FieldError(
                "`model` must compute its candidates by towers that can be found. "
                f"Received: a {type(holder).__name__} over a data set whose function "
                "hides its tower. Map the tower itself, as in "
                "`items.batch(128).map(item_model)`, or pass a function that builds "
                "and compiles the model."
            )


def _data_sets(
    model: tf_keras.Model,
) -> list[tuple[tf_keras.layers.Layer, str, tf.data.Dataset]]:
    return [
        (layer, name, value)
        for layer in layers_of(model)
        for name, value in vars(layer).items()
        if isinstance(value, tf.data.Dataset) and _captured(value)
    ]


def _captured(data: tf.data.Dataset) -> list[Any]:
    """The variables and lookup tables that functions of a data set read."""
    own = [c for f in data._functions() for c in f.function.captured_inputs]
    inner = [c for source in data._inputs() for c in _captured(source)]
    return [c for c in own if c.dtype == tf.resource] + inner


def _rebuilt(data: tf.data.Dataset, copy: Copy) -> tf.data.Dataset:
    if not _captured(data):
        return data
    sources = [_rebuilt(source, copy) for source in data._inputs()]
    kind = type(data).__name__.strip("_")
    first: Any = sources[0] if sources else None
    if kind == "MapDataset":
        return first.map(_function(data, copy))
    if kind == "ParallelMapDataset":
        return first.map(_function(data, copy), num_parallel_calls=tf.data.AUTOTUNE)
    if kind in ("BatchDataset", "ParallelBatchDataset"):
        return first.batch(data._batch_size, drop_remainder=data._drop_remainder)
    if kind == "UnbatchDataset":
        return first.unbatch()
    if kind == "ZipDataset":
        return tf.data.Dataset.zip(tf.nest.pack_sequence_as(data._datasets, sources))
    if kind == "OptionsDataset":
        return first.with_options(data.options())
    if kind == "PrefetchDataset":
        return first.prefetch(tf.data.AUTOTUNE)
    if kind == "CacheDataset":
        # Vectors that were kept would be those of another table.
        return first
    raise FieldError(
        "`model` must compute its candidates by map, batch, zip and prefetch. "
        f"Received: a data set of {kind}. Apply that before the tower, as in "
        "`items.filter(...).batch(128).map(item_model)`."
    )


def _function(data: Any, copy: Copy) -> Any:
    return redirected(data._map_func._func, copy)
