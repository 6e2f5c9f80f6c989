"""The saliency pass: one short `fit` in which nothing but gates is trainable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.errors import DataError, FieldError, StageError
from keras_eds.measurements import Measurements
from keras_eds.surgery import keras_private, keras_training
from keras_eds.surgery.batches import examples_in_a_batch, read_batches
from keras_eds.surgery.gate import SaliencyRecorder, gates_on
from keras_eds.surgery.sites import Filters, Site, find_sites

# Moments of a few thousand vectors are as good as those of an epoch. A pass
# costs by the batch, hardly by the example: arrays are cut in one large batch, in
# several where examples are long, which takes memory.
ENOUGH_EXAMPLES = 4096
EPOCH_SHARE = 50
BATCHES_OF_UNKNOWN_SIZE = 16


def measure(
    model: keras.Model,
    data: Mapping[str, Any],
    batches: int | None = None,
    filters: Filters = None,
    verbose: Any = 0,
) -> Measurements:
    """Measures every field's saliency and moments in one short `model.fit`.

    The loss, metrics, weights and `train_step` are the model's own. Afterwards
    the model is as it was: weights, `trainable` flags, optimizer and compile
    state; also when the pass fails.

    Args:
        model: A built and compiled model.
        data: What `fit` is given: `x`, `y`, `sample_weight`, `batch_size`,
            `class_weight`, `shuffle`.
        batches: How many batches. Defaults to what holds 4,096 examples, at
            most a fiftieth of an epoch, in one batch where the data are arrays, or
            in several where an example is of many values.
        filters: Which tables, as in `find_fields`.
        verbose: As in `fit`.

    Returns:
        The measurements by field name.

    Raises:
        FieldError: If no table can be measured.
        StageError: If the loss or a gradient was not finite.

    Example:

    >>> measured = measure(model, {"x": x, "y": y}, batches=8)
    >>> measured["user"].gate_abs.shape
    (32,)

    Reference:
        Qu et al., Single-shot Embedding Dimension Search in Recommender System,
        SIGIR 2022.
    """
    sites = find_sites(model, filters)
    _check_built(model, sites)
    data, steps = _schedule(data, batches)
    with _unchanged(model, sites), strategy_scope(model):
        with gates_on(sites) as gates:
            recorder = _recorder_for(model)
            # Tracing or compiling a graph costs more than a few steps do.
            with keras_training.training_with(model, recorder, eager=True):
                history = model.fit(
                    **data, epochs=1, steps_per_epoch=steps, verbose=verbose
                )
                inner = getattr(recorder, "inner_optimizer", recorder)
                measured = {g.site.field.name: g.read(inner) for g in gates}
    measurements = Measurements(measured)
    losses = [v for values in history.history.values() for v in np.ravel(values)]
    if not measurements.is_finite() or not np.all(np.isfinite(losses)):
        raise StageError(
            "The loss and its gradients must be finite while saliency is measured. "
            f"Received: {history.history}. Check the data, or train with a smaller "
            "learning rate."
        )
    return measurements


def _check_built(model: keras.Model, sites: Sequence[Site]) -> None:
    unbuilt = [site.field.name for site in sites if not site.layer.built]
    if unbuilt:
        raise FieldError(
            f"`model` must be built. Received: unbuilt tables {unbuilt}. "
            "Call the model on one batch first."
        )
    if not getattr(model, "compiled", False):
        raise FieldError(
            "`model` must be compiled. Received: model without `compile`. "
            "Call model.compile(optimizer=..., loss=...) first."
        )


def _schedule(
    data: Mapping[str, Any], batches: int | None
) -> tuple[dict[str, Any], int]:
    """The data, possibly in larger batches, and how many batches to take."""
    data = dict(data)
    leaves = keras.tree.flatten(data.get("x"))
    arrays = bool(leaves) and all(isinstance(leaf, np.ndarray) for leaf in leaves)
    if batches is None and arrays and len(leaves[0]):
        wanted = min(ENOUGH_EXAMPLES, len(leaves[0]) // EPOCH_SHARE)
        size = max(
            data.get("batch_size") or 32,
            min(wanted, examples_in_a_batch(leaves)),
        )
        data["batch_size"] = size
        return data, max(1, wanted // size)
    iterator, number = read_batches(data)
    if number == 0:
        raise DataError("`x` must hold at least one batch. Received: no batch.")
    if batches is None:
        size = keras.tree.flatten(next(iterator))[0].shape[0]
        batches = -(-ENOUGH_EXAMPLES // max(1, size))
        if number is None:
            return data, min(batches, BATCHES_OF_UNKNOWN_SIZE)
        batches = min(batches, -(-int(number) // EPOCH_SHARE))
    return data, batches if number is None else min(batches, int(number))


def _recorder_for(model: keras.Model) -> keras.optimizers.Optimizer:
    recorder = SaliencyRecorder()
    scaled = keras.optimizers.LossScaleOptimizer
    if isinstance(model.optimizer, scaled):
        # The scale that training has found does not overflow on the first batch.
        scale = model.optimizer.scale_loss(1.0) if model.optimizer.built else 2.0**10
        return scaled(recorder, initial_scale=float(scale))
    return recorder


def strategy_scope(model: keras.Model) -> AbstractContextManager[Any]:
    """The scope of the `tf.distribute` strategy that the model lives in."""
    strategy = getattr(model, "distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


@contextmanager
def _unchanged(model: keras.Model, sites: Sequence[Site]) -> Iterator[None]:
    """Restores flags, and the values of variables that move."""
    variables = model.variables
    flags = [(variable, variable.trainable) for variable in variables]
    # A `fit` that fails under JAX leaves all variables of the model empty.
    everything = keras.backend.backend() == "jax"
    moving = [v for v, trainable in flags if everything or not trainable]
    moving += list(model.metrics_variables)
    values = [(variable, _copy(variable)) for variable in moving]
    try:
        for variable, _ in flags:
            variable.trainable = False
        with keras_private.unfrozen(model, [site.layer for site in sites]):
            yield
    finally:
        for variable, trainable in flags:
            variable.trainable = trainable
        for variable, value in values:
            variable.assign(value)


def _copy(variable: keras.Variable) -> Any:
    if keras.backend.backend() == "jax":
        # Arrays never change there: to hold one is to have a copy.
        return variable.value
    return np.array(ops.convert_to_numpy(variable), copy=True)
