"""Every use of Keras's private API in this room, in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.trainer import Trainer

from keras_eds.errors import DataError

# A Functional graph finds its layers through these: they stay with the object.
_GRAPH_ATTRIBUTES = ("_inbound_nodes", "_outbound_nodes")
_FIT_RESULTS = ("history", "stop_training")
_COMPILED_FUNCTIONS = ("train_function", "test_function", "predict_function")
_OPTIMIZED = ("_trainable_variables", "_trainable_variables_indices")


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


def compile_arguments(model: keras.Model) -> dict[str, Any] | None:
    """The arguments of the last `compile`, as objects.

    None where the class has a `compile_from_config` of its own.
    """
    if type(model).compile_from_config != Trainer.compile_from_config:
        return None
    arguments = dict(model._compile_config.config)
    arguments["auto_scale_loss"] = model.optimizer is not arguments["optimizer"]
    return arguments


def exchange_optimizer(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    """Compiles anew with another optimizer, which takes over the old one's state."""
    old, arguments = model.optimizer, compile_arguments(model)
    assert arguments is not None
    keras.Model.compile(model, **{**arguments, "optimizer": optimizer})
    if old.built:
        model.optimizer.build(model.trainable_variables)
        for source, target in zip(
            old.variables, model.optimizer.variables, strict=True
        ):
            target.assign(source)


def compiled_attributes(model: keras.Model) -> dict[str, Any]:
    """The attributes that a class's own `compile` sets, which Keras cannot tell."""
    own = type(model).compile
    if own == Trainer.compile:
        return {}
    names = inspect.unwrap(own).__code__.co_names
    return {name: vars(model)[name] for name in names if name in vars(model)}


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
def training_with(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, eager: bool
) -> Iterator[None]:
    """Lets `model.fit` use another optimizer for a while, without recompiling."""
    old_optimizer = model.optimizer
    old_settings = (model.run_eagerly, model.jit_compile, model.steps_per_execution)
    # Set by `fit`; a model that was never trained has no history.
    old = {name: vars(model)[name] for name in _FIT_RESULTS if name in vars(model)}
    try:
        _set_optimizer(model, optimizer)
        if eager:
            model.run_eagerly, model.jit_compile = True, False
            model.steps_per_execution = 1
        refresh(model)
        yield
    finally:
        _set_optimizer(model, old_optimizer)
        model.run_eagerly, model.jit_compile, model.steps_per_execution = old_settings
        for name in _FIT_RESULTS:
            vars(model).pop(name, None)
        vars(model).update(old)
        refresh(model)


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


def narrow_optimizer(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> Callable[[], None]:
    """Lets a built optimizer know only some of its variables, until undone.

    What it remembers of the others stays as it is.

    Returns:
        A function that undoes it.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    parts = [optimizer] if inner is None else [optimizer, inner]
    # Past the attributes' tracker, which would take the variables for its own.
    states = [vars(part) for part in parts]
    before = [{name: state[name] for name in _OPTIMIZED} for state in states]
    keys = {optimizer._var_key(variable) for variable in variables}
    for part, state in zip(parts, states, strict=True):
        known, places = (state[name] for name in _OPTIMIZED)
        kept = [variable for variable in known if part._var_key(variable) in keys]
        state["_trainable_variables"] = kept
        state["_trainable_variables_indices"] = {
            key: place for key, place in places.items() if key in keys
        }

    def undo() -> None:
        for state, known in zip(states, before, strict=True):
            state.update(known)

    return undo


@contextmanager
def without_optimizer(model: keras.Model) -> Iterator[None]:
    """Leaves the optimizer's state out of what is saved or loaded."""
    optimizer = model.optimizer
    _set_optimizer(model, None)
    try:
        yield
    finally:
        _set_optimizer(model, optimizer)


def _set_optimizer(model: keras.Model, optimizer: Any) -> None:
    # Past the tracker: the optimizer is no part of the model's saved state here.
    set_attribute(model, "optimizer", optimizer)


def compiled_loss_exists(model: keras.Model) -> bool:
    """Whether `compile` was given a loss."""
    return getattr(model, "_compile_loss", None) is not None


class _ByExample:
    """A loss that is not averaged over the examples."""

    def __init__(self, loss: keras.losses.Loss) -> None:
        self._loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        reduction = self._loss.reduction
        self._loss.reduction = "none"
        try:
            values = self._loss(y_true, y_pred, sample_weight)
        finally:
            self._loss.reduction = reduction
        examples = keras.tree.flatten(y_pred)[0].shape[0]
        if tuple(values.shape)[:1] != (examples,):
            raise DataError(
                "`loss` must be one number for each example. Received: "
                f"{type(self._loss).__name__}, which gave shape {tuple(values.shape)} "
                f"for {examples} examples. Average in its `reduction`, not in `call`."
            )
        return keras.ops.mean(keras.ops.reshape(values, (examples, -1)), axis=1)


def losses_by_example(model: keras.Model, y: Any, y_pred: Any) -> Any:
    """The compiled loss of every example, without what layers add to it.

    Args:
        model: A compiled model.
        y: Labels of a batch.
        y_pred: What the model gave for it.

    Returns:
        Shape `(batch,)`.

    Raises:
        DataError: If there is no compiled loss, or it is not one of each example.
    """
    if not compiled_loss_exists(model):
        raise DataError(
            "`model` must be compiled with a loss. Received: a model without, whose "
            "loss is not known of each example. Call compile(loss=...), or choose "
            "another method."
        )
    loss = model._compile_loss
    if not loss.built:
        loss.build(y, y_pred)
    flat = loss._flat_losses
    with metrics_unchanged(model):
        try:
            loss._flat_losses = [f._replace(loss=_ByExample(f.loss)) for f in flat]
            return loss(y, y_pred, None)
        finally:
            loss._flat_losses = flat


def batches(data: dict[str, Any]) -> tuple[Iterator[Any], int | None]:
    """The batches that `fit(**data)` would see, as NumPy, and how many there are.

    Args:
        data: `x`, `y`, `sample_weight`, `batch_size`, `steps_per_epoch`.
    """
    adapter = get_data_adapter(
        x=data.get("x"),
        y=data.get("y"),
        sample_weight=data.get("sample_weight"),
        batch_size=data.get("batch_size"),
        steps_per_epoch=data.get("steps_per_epoch"),
        shuffle=False,
    )
    number = data.get("steps_per_epoch") or adapter.num_batches
    return iter(adapter.get_numpy_iterator()), number


@contextmanager
def metrics_unchanged(model: keras.Model) -> Iterator[None]:
    """Restores the state of the model's metrics."""
    values = {
        id(v): np.array(keras.ops.convert_to_numpy(v)) for v in model.metrics_variables
    }
    try:
        yield
    finally:
        for variable in model.metrics_variables:
            if id(variable) in values:
                variable.assign(values[id(variable)])
