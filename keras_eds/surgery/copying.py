"""Copies of a user's model, compiled as it is."""

from __future__ import annotations

import inspect
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import keras

from keras_eds.errors import FieldError
from keras_eds.surgery import keras_private, keras_training
from keras_eds.surgery.measure import strategy_scope


def copy_model(model: keras.Model) -> keras.Model:
    """A second model with the same layers, weights and compile settings.

    The copy goes through a `.keras` file in a temporary folder, so that weights,
    vocabularies and build state come along for every kind of layer. Optimizer
    and metric state start anew.

    Raises:
        FieldError: If the model cannot be saved and loaded, or not all of it.
    """
    objects = custom_objects(model)
    try:
        with tempfile.TemporaryDirectory() as folder, strategy_scope(model):
            path = Path(folder) / "model.keras"
            model.save(path)
            copy = keras.saving.load_model(
                path, custom_objects=objects, compile=False, safe_mode=False
            )
    except Exception as error:
        raise FieldError(
            "`model` must be a model that Keras can save and load, since a search "
            "trains copies of it. Received: "
            f"model {model.name!r} of type {type(model).__name__}, which raised "
            f"{type(error).__name__}: {error}. Give it a complete `get_config`, or "
            "pass a function that builds and compiles the model."
        ) from error
    _check_whole(model, copy)
    if getattr(model, "compiled", False):
        compile_like(model, copy)
    _freeze_like(model, copy)
    return copy


def _check_whole(model: keras.Model, copy: keras.Model) -> None:
    """Keras warns, and draws layers anew, where it cannot call a model on symbols."""
    lacking = Counter(tuple(v.shape) for v in model.weights)
    lacking.subtract(tuple(v.shape) for v in copy.weights)
    if any(lacking.values()):
        raise FieldError(
            "`model` must be whole when it is saved and loaded, since a search trains "
            f"copies of it. Received: model {model.name!r} of type "
            f"{type(model).__name__}, of whose {len(model.weights)} weights "
            f"{len(copy.weights)} came back. Give it a `build` that builds all its "
            "layers, or pass a function that builds and compiles the model."
        )


def _freeze_like(model: keras.Model, copy: keras.Model) -> None:
    """A file does not say which layers within a subclassed model or layer train."""
    layers, copies = keras_private.all_layers(model), keras_private.all_layers(copy)
    if [type(layer) for layer in layers] == [type(layer) for layer in copies]:
        # Outer layers come first: what they say of inner ones is then set right.
        for layer, other in zip(layers, copies, strict=True):
            if other.trainable != layer.trainable:
                other.trainable = layer.trainable
        return
    frozen = [layer.name for layer in layers if not layer.trainable]
    if frozen:
        raise FieldError(
            "`model` must have the same layers when it is saved and loaded, where some "
            f"of them are frozen. Received: model {model.name!r} with {frozen} frozen. "
            "Make all layers in its `__init__`, or pass a function that builds it."
        )


def custom_objects(model: keras.Model) -> dict[str, Any]:
    """The classes of all layers that are not Keras's own, by the names in a file."""
    found: dict[str, Any] = {}
    for layer in keras_private.all_layers(model):
        cls = type(layer)
        if not cls.__module__.startswith("keras."):
            found[cls.__name__] = cls
            found[keras.saving.get_registered_name(cls)] = cls
    return found


def compile_like(source: keras.Model, target: keras.Model) -> None:
    """Compiles `target` with the settings of `source`, and state of its own."""
    arguments = keras_training.compile_arguments(source)
    with (
        keras.saving.custom_object_scope(custom_objects(source)),
        strategy_scope(source),
    ):
        if arguments is None:
            target.compile_from_config(source.get_compile_config())
            return
        arguments = {key: renewed(value) for key, value in arguments.items()}
        for name, value in keras_training.compiled_attributes(source).items():
            if source is not target or isinstance(value, keras.optimizers.Optimizer):
                keras_private.set_attribute(target, name, renewed(value))
        keras.Model.compile(target, **arguments)


def compile_result(source: keras.Model, target: keras.Model) -> None:
    """Compiles a model that is handed out, and gives its optimizer its state.

    Keras does so when it loads a model; saved without, a file gives a warning.
    """
    compile_like(source, target)
    if target.built and target.optimizer is not None:
        with strategy_scope(source):
            target.optimizer.build(target.trainable_variables)


def check_renewable(model: keras.Model) -> None:
    """Refuses a model whose optimizer, losses or metrics cannot be made anew.

    Raises:
        FieldError: If one cannot, most likely for want of a `get_config`.
    """
    for name, value in (keras_training.compile_arguments(model) or {}).items():
        try:
            renewed(value)
        except Exception as error:
            raise FieldError(
                f"`model` must be compiled with `{name}` that can be made anew for "
                f"every stage. Received: {value!r}, whose copy raised "
                f"{type(error).__name__}: {error}. Give its class a complete "
                "`get_config`."
            ) from error


def renewed(value: Any) -> Any:
    """A copy without state of optimizers and metrics; anything else as it is."""
    if isinstance(value, dict):
        return {key: renewed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(renewed(item) for item in value)
    if isinstance(value, keras.optimizers.Optimizer | keras.metrics.Metric):
        scope: dict[str, Any] = {type(value).__name__: type(value)}
        for argument in vars(value).values():
            if inspect.isfunction(argument):
                scope[argument.__name__] = argument
            elif hasattr(argument, "get_config"):  # such as a schedule
                scope[type(argument).__name__] = type(argument)
        with keras.saving.custom_object_scope(scope):
            return type(value).from_config(value.get_config())
    return value
