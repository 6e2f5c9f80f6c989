"""Every use of the private API of Keras's training in this room, in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.trainers.trainer import Trainer

from keras_eds.errors import DataError
from keras_eds.surgery.keras_private import refresh, set_attribute

_FIT_RESULTS = ("history", "stop_training")
_OPTIMIZED = ("_trainable_variables", "_trainable_variables_indices")


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


def averages_weights(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether it keeps a moving average of the weights."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    parts = getattr(inner, "optimizers", [inner])
    return any(getattr(part, "use_ema", False) for part in parts)


def compiled_loss_exists(model: keras.Model) -> bool:
    """Whether `compile` was given a loss."""
    return getattr(model, "_compile_loss", None) is not None


def has_own_loss(model: keras.Model) -> bool:
    """Whether the model's class has a `compute_loss` of its own."""
    return type(model).compute_loss is not Trainer.compute_loss


@contextmanager
def without_regularizers(model: keras.Model) -> Iterator[None]:
    """Lets no variable have a regularizer for a while."""
    old = [(variable, variable.regularizer) for variable in model.variables]
    try:
        for variable, _ in old:
            variable.regularizer = None
        yield
    finally:
        for variable, regularizer in old:
            variable.regularizer = regularizer


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
