"""Fills the tables of a model with vectors that were learned elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.errors import FieldError
from keras_eds.surgery import keras_private
from keras_eds.surgery.sites import all_sites


def load_tables(
    model: keras.Model, source: keras.Model | Mapping[str, Any]
) -> keras.Model:
    """Gives tables of a model the values of another model's tables, or of arrays.

    Everything is checked first: a model whose tables cannot all be loaded stays
    as it is. What is not named in `source` keeps its values.

    Args:
        model: A built Keras model, changed in place.
        source: Arrays of shape `(input_dim, output_dim)` by table name, as
            `find_fields` gives the names; or a model, whose tables of equal names
            are taken.

    Returns:
        `model`.

    Raises:
        FieldError: If a table is not there or not built, an array has another
            shape or values that are not finite, or no names are shared.

    Example:

    >>> keras_eds.load_tables(model, {"user": vectors})
    >>> search = keras_eds.EDSSearch(model, 0.1, method="amtl")  # a warm start
    """
    ours = {site.field.name: site.layer for site in all_sites(model)}
    if isinstance(source, keras.Model):
        theirs = {site.field.name: site.layer for site in all_sites(source)}
        values = {n: _values(n, layer) for n, layer in theirs.items() if n in ours}
        missing = [] if values else sorted(theirs)
    else:
        values = {name: np.asarray(array) for name, array in source.items()}
        missing = sorted(set(values) - set(ours))
    if missing or not values:
        raise FieldError(
            "`source` must name tables of `model`. "
            f"Received: {missing or 'nothing'}, but `model` has {sorted(ours)}. "
            "Rename them."
        )
    for name, array in values.items():
        _check(name, ours[name], array)
    for name, array in values.items():
        keras_private.table_variable(ours[name]).assign(array)
    return model


def _values(name: str, layer: keras.layers.Embedding) -> np.ndarray:
    _check_built("source", name, layer)
    return np.asarray(ops.convert_to_numpy(keras_private.table_variable(layer)))


def _check(name: str, layer: keras.layers.Embedding, array: np.ndarray) -> None:
    _check_built("model", name, layer)
    wanted = (layer.input_dim, layer.output_dim)
    if array.shape != wanted or array.dtype.kind not in "fiu":
        raise FieldError(
            f"`source` must have numbers of shape {wanted} for table {name!r}. "
            f"Received: shape {array.shape}, dtype {array.dtype}. Give a row for "
            "every id, as wide as the table."
        )
    if not np.isfinite(array).all():
        raise FieldError(
            f"`source` must be finite for table {name!r}. Received: "
            f"{int((~np.isfinite(array)).sum())} values that are not. Drop or repair "
            "their rows."
        )


def _check_built(argument: str, name: str, layer: keras.layers.Embedding) -> None:
    if not layer.built:
        raise FieldError(
            f"`{argument}` must be built. Received: table {name!r} without values. "
            "Call the model on one batch first."
        )
