"""Fills the tables of a model with vectors that were learned elsewhere."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_eds.arrays import as_array
from keras_eds.errors import FieldError
from keras_eds.surgery import keras_private
from keras_eds.surgery.sites import all_tables

Tables = Mapping[str, keras.layers.Layer]


def load_tables(
    model: keras.Model,
    source: keras.Model | Mapping[str, Any],
    ids: Mapping[str, Mapping[Hashable, int]] | None = None,
    missing: Literal["error", "keep"] = "error",
) -> keras.Model:
    """Gives tables of a model the values of another model, arrays, or vectors.

    Everything is checked first: a model whose tables cannot all be loaded stays
    as it is. What is not named in `source` keeps its values.

    Args:
        model: A built Keras model, changed in place.
        source: By table name, as `find_fields` gives the names, an array of shape
            `(input_dim, output_dim)`, or vectors of width `output_dim` by token,
            as `keras_eds.pretraining.read_vectors` reads them; or a model, whose
            tables of equal names are taken.
        ids: For each table given by tokens, which token has which id. Rows of
            other ids keep their values; vectors of other tokens are left out.
        missing: What becomes of an id whose token has no vector: `"error"` or
            `"keep"`, which keeps its values. Defaults to `"error"`.

    Returns:
        `model`.

    Raises:
        FieldError: If a table is not there or not built, is cut or quantized or
            has LoRA, values have another shape or are not finite in the table's
            type, a token has no vector or no possible id, or no names are shared.

    Example:

    >>> keras_eds.load_tables(model, {"user": array})
    >>> vectors = keras_eds.pretraining.read_vectors("item2vec.txt")
    >>> vocabulary = {"movie": {"1193": 1, "661": 2}}
    >>> keras_eds.load_tables(model, {"movie": vectors}, ids=vocabulary)
    >>> search = keras_eds.EDSSearch(model, 0.1, method="amtl")  # a warm start
    """
    if missing not in ("error", "keep"):
        raise FieldError(
            "`missing` must be 'error' or 'keep'. "
            f"Received: missing={missing!r}. Choose one of these."
        )
    ours = all_tables(model)
    if isinstance(source, keras.Model):
        source = _shared_tables(source, ours)
    _check_mapping("source", source)
    _check_names(set(source), ours)
    ids, arrays = ids or {}, {}
    _check_mapping("ids", ids)
    by_token = {n for n, values in source.items() if isinstance(values, Mapping)}
    _check_given_ids(by_token, set(ids))
    for name, values in source.items():
        _check_plain("model", name, ours[name])
        if isinstance(values, Mapping):
            values = _by_id(name, ours[name], values, ids[name], missing)
        arrays[name] = as_array(values)
        _check(name, ours[name], arrays[name])
    for name, array in arrays.items():
        keras_private.table_variable(ours[name]).assign(array)
    return model


def _shared_tables(source: keras.Model, ours: Tables) -> dict[str, np.ndarray]:
    theirs = all_tables(source)
    shared = [name for name in theirs if name in ours]
    _check_names(set(shared or theirs), ours)
    return {name: _values("source", name, theirs[name]) for name in shared}


def _values(argument: str, name: str, layer: keras.layers.Layer) -> np.ndarray:
    _check_plain(argument, name, layer)
    # A copy, whatever becomes of the memory of the other model.
    return as_array(np.array(ops.convert_to_numpy(keras_private.table_variable(layer))))


def _by_id(
    name: str,
    layer: keras.layers.Layer,
    vectors: Mapping[Hashable, Any],
    ids: Mapping[Hashable, int],
    missing: str,
) -> np.ndarray:
    """The table's values, with the vectors in the rows of their tokens' ids."""
    _check_mapping(f"ids[{name!r}]", ids)
    _check_ids(name, layer, ids)
    without = [token for token in ids if token not in vectors]
    if len(without) == len(ids) or (without and missing == "error"):
        remedy = "Check that tokens are written alike in both (1193 is not '1193')"
        if len(without) < len(ids):
            remedy = "Leave these out of `ids`, or pass missing='keep'"
        raise FieldError(
            f"`source` must have a vector for every token of `ids[{name!r}]`. "
            f"Received: none for {len(without)} of {len(ids)}, such as "
            f"{without[:5]}. {remedy}."
        )
    found = {token: as_array(vectors[token]) for token in ids if token in vectors}
    for token, vector in found.items():
        if vector.shape != (layer.output_dim,) or vector.dtype.kind not in "fiu":
            raise FieldError(
                f"`source` must have vectors of {layer.output_dim} numbers for table "
                f"{name!r}. Received: shape {vector.shape}, dtype {vector.dtype} for "
                f"token {token!r}. Learn them as wide as the table, or pad or project "
                "them."
            )
    table = np.array(_values("model", name, layer), "float64")
    table[[ids[token] for token in found]] = np.stack(list(found.values()))
    return table


def _check_names(names: set[str], ours: Tables) -> None:
    unknown = sorted(names - set(ours))
    if unknown or not names:
        raise FieldError(
            "`source` must name tables of `model`. "
            f"Received: {unknown or 'nothing'}, but `model` has {sorted(ours)}. "
            "Rename them."
        )


def _check_given_ids(by_token: set[str], given: set[str]) -> None:
    if by_token != given:
        raise FieldError(
            "`ids` must name the tables that `source` gives by token, and no other. "
            f"Received: ids for {sorted(given)}, but tokens for {sorted(by_token)}. "
            "Give each of these tables a mapping from token to id."
        )


def _check_ids(
    name: str, layer: keras.layers.Layer, ids: Mapping[Hashable, int]
) -> None:
    values = np.asarray(list(ids.values()))
    possible = values.size and values.dtype.kind in "iu"
    if not possible or values.min() < 0 or values.max() >= layer.input_dim:
        raise FieldError(
            f"`ids[{name!r}]` must hold integers from 0 to {layer.input_dim - 1}. "
            f"Received: {len(values)} ids"
            f"{f' from {values.min()} to {values.max()}' if possible else ''} of dtype "
            f"{values.dtype}. Number the tokens as the model's data are numbered."
        )
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < len(values):
        raise FieldError(
            f"`ids[{name!r}]` must give every token an id of its own. Received: id "
            f"{distinct[counts > 1][0]} for {counts.max()} tokens. Keep one of them."
        )


def _check(name: str, layer: keras.layers.Layer, array: np.ndarray) -> None:
    wanted = (layer.input_dim, layer.output_dim)
    if array.shape != wanted or array.dtype.kind not in "fiu":
        raise FieldError(
            f"`source` must have numbers of shape {wanted} for table {name!r}. "
            f"Received: shape {array.shape}, dtype {array.dtype}. Give a row for "
            "every id, as wide as the table."
        )
    with np.errstate(over="ignore"):
        stored = ops.cast(array, layer.variable_dtype)
    finite = ops.convert_to_numpy(ops.isfinite(stored))
    if not finite.all():
        raise FieldError(
            f"`source` must be finite for table {name!r}. Received: "
            f"{int((~finite).sum())} values that are not, as {layer.variable_dtype}. "
            "Drop or repair their rows."
        )


def _check_mapping(argument: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        models = " or a model" if argument == "source" else ""
        raise FieldError(
            f"`{argument}` must be a mapping{models}. Received: {value!r} of type "
            f"{type(value).__name__}. Give a dict by name, as in the example."
        )


def _check_plain(argument: str, name: str, layer: keras.layers.Layer) -> None:
    if not layer.built:
        raise FieldError(
            f"`{argument}` must be built. Received: table {name!r} without values. "
            "Call the model on one batch first."
        )
    state = None
    if not isinstance(layer, keras.layers.Embedding):
        state = f"is cut ({type(layer).__name__})"
    elif layer.quantization_mode is not None:
        state = f"is quantized ({layer.quantization_mode})"
    elif layer.lora_enabled:
        state = "has LoRA enabled"
    if state is not None:
        raise FieldError(
            f"`{argument}` must have plain tables. Received: table {name!r}, which "
            f"{state}. Load tables before that change, or give the other ones as "
            "arrays by name."
        )
