"""What goes into an exported model."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from keras import tree
from keras.src.export.export_utils import get_input_signature, make_tf_tensor_spec

Signature = list[Any]


def signature_of(model: keras.Model, inputs: Any) -> Signature:
    """The arguments of a model's call, as structures of `tf.TensorSpec`.

    Args:
        model: A built model.
        inputs: A batch, or a structure of `keras.InputSpec`; None where the model
            is a graph, which knows its inputs.

    Raises:
        ValueError: If nobody knows the inputs, or one is ragged or sparse.
    """
    if inputs is not None:
        return [_named(_specs(inputs))]
    if getattr(model, "inputs", None) is None:
        raise ValueError(
            "`inputs` must be given for a model that is not Functional or "
            f"Sequential. Received: {type(model).__name__} with inputs=None. Give a "
            "batch of what the model is called on: no file of it says whether ids "
            "are integers."
        )
    for tensor in model.inputs:
        ragged = getattr(tensor, "ragged", False)
        _check_dense("model", tensor.name, ragged, tensor.sparse)
    specs = tree.map_structure(make_tf_tensor_spec, get_input_signature(model))
    return [_named(spec) for spec in specs]


def check_built(model: Any) -> None:
    """Refuses what is no model, or has no weights yet."""
    if not isinstance(model, keras.Model) or not model.built:
        state = "not built" if isinstance(model, keras.Model) else "no keras.Model"
        raise ValueError(
            f"`model` must be a built Keras model. Received: {model!r}, which is "
            f"{state}. Call it on one batch first."
        )


def weight_bytes(model: keras.Model) -> int:
    """Bytes of all weights, as they are stored."""
    weights = {id(v): v for v in model.variables}.values()
    return sum(
        math.prod(v.shape) * tf.as_dtype(keras.backend.standardize_dtype(v.dtype)).size
        for v in weights
    )


def holds_strings(signature: Signature) -> bool:
    """Whether an input is text."""
    return any(spec.dtype == tf.string for spec in tree.flatten(signature))


def _specs(inputs: Any) -> Any:
    def spec(value: Any) -> Any:
        if isinstance(value, keras.InputSpec):
            return make_tf_tensor_spec(value)
        ragged = isinstance(value, tf.RaggedTensor)
        sparse = isinstance(value, tf.SparseTensor)
        _check_dense("inputs", type(value).__name__, ragged, sparse)
        tensor = tf.convert_to_tensor(keras.ops.convert_to_numpy(value))
        return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype)

    if isinstance(inputs, dict):
        return {name: _specs(value) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [_specs(value) for value in inputs]
    return spec(inputs)


def _check_dense(argument: str, name: str, ragged: bool, sparse: bool) -> None:
    if ragged or sparse:
        raise ValueError(
            f"`{argument}` must have dense inputs, which all formats take. Received: "
            f"{name!r}, which is {'ragged' if ragged else 'sparse'}. Export a model "
            "that takes padded arrays, or weights beside the ids."
        )


def _named(spec: Any, name: str = "") -> Any:
    """The same specs, called by their names in dicts and their places in lists."""
    if isinstance(spec, dict):
        below = f"{name}_" if name else ""
        return {key: _named(value, f"{below}{key}") for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        below = name or "input"
        return [_named(v, f"{below}_{place}") for place, v in enumerate(spec)]
    return tf.TensorSpec(spec.shape, spec.dtype, name or "inputs")
