"""Gives the tables of a model that exists lookups that cost the batch alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_eds.arrays import is_gappy
from keras_eds.backend.lookup import lookup
from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.layers.combining import reduce_rows, scale_of
from keras_eds.optimizers import LazyAdagrad, LazyAdam
from keras_eds.surgery import keras_private, keras_training
from keras_eds.surgery.sites import all_sites, is_reducing

_LAZY = {"Adam": LazyAdam, "Adagrad": LazyAdagrad}


def use_sparse_lookups(model: keras.Model, lazy_optimizer: bool = False) -> keras.Model:
    """Makes every `keras.layers.Embedding` of a model read only the batch's rows.

    On TensorFlow, `keras.layers.Embedding` reads its whole table in every step,
    and copies it once rows of it have been updated. After this call it gathers
    the rows alone: `output = table[ids]`, as before, in a time that does not
    grow with the table. Outputs, weights, layers and the saved file stay as they
    were; a model loaded from a file needs the call again. On JAX and PyTorch a
    lookup does not copy the table, and nothing is changed.

    A step costs the batch alone only if the optimizer does too: compile with
    `LazyAdam` or `LazyAdagrad`, or let this call put them in.

    Args:
        model: A Keras model, changed in place. Tables with LoRA, quantized
            tables and subclasses with a `call` of their own stay as they are.
        lazy_optimizer: Whether to put `LazyAdam` in the place of `Adam`, and
            `LazyAdagrad` in the place of `Adagrad`, with their settings and
            state. Defaults to False.

    Returns:
        The model, compiled as it was.

    Raises:
        FieldError: If there is no table.
        ValueError: If there is no lazy optimizer of the model's kind, or it
            cannot have the model's settings; the model is then unchanged.

    Example:

    >>> model.compile("adam", "binary_crossentropy")
    >>> model = keras_eds.use_sparse_lookups(model, lazy_optimizer=True)
    >>> model.fit(x, y)
    """
    tables = _tables(model)
    optimizer = lazy_twin(model) if lazy_optimizer else None
    look_up_by_rows(tables)
    if optimizer is not None:
        keras_training.exchange_optimizer(model, optimizer)
    keras_private.refresh(model)
    return model


def look_up_by_rows(layers: Sequence[keras.layers.Layer]) -> None:
    """Makes those of the layers that are plain tables read only the batch's rows."""
    if keras.backend.backend() != "tensorflow":
        return
    for layer in layers:
        table = isinstance(layer, keras.layers.Embedding)
        if table and _can_look_up_by_rows(layer) and "call" not in vars(layer):
            layer.call = _by_rows(layer)


def _tables(model: keras.Model) -> list[keras.layers.Embedding]:
    layers = keras_private.all_layers(model)
    ours = (PrunedFieldEmbedding, RowSizedEmbedding)
    if any(isinstance(layer, ours) for layer in layers):
        # These look up by rows already, and may be all there is.
        return [t for t in layers if isinstance(t, keras.layers.Embedding)]
    return [site.layer for site in all_sites(model)]


def _by_rows(layer: keras.layers.Embedding) -> Callable[..., Any]:
    whole_table = layer.call

    def call(inputs: Any, weights: Any = None, **kwargs: Any) -> Any:
        if not _can_look_up_by_rows(layer) or is_gappy(inputs) or kwargs:
            given = () if weights is None else (weights,)
            return whole_table(inputs, *given, **kwargs)
        if keras.backend.standardize_dtype(inputs.dtype) not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        dtype = layer.compute_dtype
        rows = lookup(keras_private.table_variable(layer), inputs, dtype)
        if not is_reducing(layer):
            return rows
        scale = scale_of(inputs, weights, layer.combiner, dtype, layer.name)
        return rows if scale is None else reduce_rows(rows, scale)

    return call


def _can_look_up_by_rows(layer: keras.layers.Embedding) -> bool:
    plain = layer.quantization_mode is None and not layer.lora_enabled
    own_call = type(layer).call is not keras.layers.Embedding.call
    return plain and (not own_call or is_reducing(layer))


def lazy_twin(model: keras.Model) -> keras.optimizers.Optimizer:
    """A lazy optimizer with the settings of the model's own.

    Raises:
        ValueError: If there is none of its kind, or it refuses the settings.
    """
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if isinstance(optimizer, LazyAdam | LazyAdagrad):
        return optimizer
    # By name: on PyTorch Keras makes an object of a class of that backend.
    ours = type(optimizer).__module__.startswith("keras.")
    twin: Any = _LAZY.get(type(optimizer).__name__) if ours else None
    if (
        optimizer is None
        or twin is None
        or keras_training.compile_arguments(model) is None
    ):
        kind = "no optimizer" if optimizer is None else type(optimizer).__name__
        raise ValueError(
            "`lazy_optimizer` needs a model compiled by `keras.Model.compile` with "
            f"Adam or Adagrad. Received: {type(model).__name__} with {kind}. Compile "
            "it with an optimizer of keras_eds.optimizers and leave the argument out."
        )
    return twin.from_config(optimizer.get_config())
