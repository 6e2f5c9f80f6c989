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
from keras_eds.surgery import keras_private
from keras_eds.surgery.gate import SaliencyRecorder, gates_on
from keras_eds.surgery.sites import Filters, Site, find_sites

# A twentieth of an epoch, and no more batches than the moments need. A pass
# costs by the batch, hardly by the example: arrays are cut in large batches.
EPOCH_SHARE = 20
MOST_BATCHES = 64
LARGE_BATCH = 4096
BATCHES_OF_UNKNOWN_LENGTH = 16


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
        batches: How many batches. Defaults to a twentieth of an epoch, in
            batches of up to 4,096 where the data are arrays, at most 64; or to 16
            where the number of batches is unknown.
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
    # Tracing a graph costs more than a few steps; under JAX it is the reverse.
    eager = keras.backend.backend() != "jax"
    recorder = None
    with _unchanged(model, everything=not eager), strategy_scope(model):
        with gates_on(sites) as gates:
            recorder = _recorder_for(model)
            with keras_private.training_with(model, recorder, eager):
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
    _, number = keras_private.batches(data)
    if number == 0:
        raise DataError("`x` must hold at least one batch. Received: no batch.")
    if batches is not None:
        return data, batches if number is None else min(batches, int(number))
    if number is None:
        return data, BATCHES_OF_UNKNOWN_LENGTH
    leaves = keras.tree.flatten(data.get("x"))
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        share = len(leaves[0]) // EPOCH_SHARE
        size = data.get("batch_size") or 32
        data["batch_size"] = max(size, min(LARGE_BATCH, share))
        _, number = keras_private.batches(data)
    return data, max(1, min(MOST_BATCHES, -(-int(number or 1) // EPOCH_SHARE)))


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
def _unchanged(model: keras.Model, everything: bool) -> Iterator[None]:
    """Restores flags and values, of all variables or of those that move."""
    variables = model.variables
    flags = [(variable, variable.trainable) for variable in variables]
    moving = [v for v, trainable in flags if everything or not trainable]
    moving += list(model.metrics_variables)
    values = [(variable, _copy(variable)) for variable in moving]
    root_flag = model._trainable
    try:
        for variable, _ in flags:
            variable.trainable = False
        model._trainable = True
        yield
    finally:
        model._trainable = root_flag
        for variable, trainable in flags:
            variable.trainable = trainable
        for variable, value in values:
            variable.assign(value)


def _copy(variable: keras.Variable) -> np.ndarray:
    # On the host: JAX gives the device's buffer away to the compiled step.
    return np.array(ops.convert_to_numpy(variable), copy=True)
