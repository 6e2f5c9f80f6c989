"""Tries sizes: trains for a short while under masks, and sees how ids fare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_eds.field import total_parameters
from keras_eds.id_quality import Qualities
from keras_eds.methods import Proposal
from keras_eds.methods.ciess.course import sizes_in
from keras_eds.surgery import keras_private
from keras_eds.surgery.fixed_masks import sizes_on
from keras_eds.surgery.measure import strategy_scope
from keras_eds.surgery.quality import measure_quality
from keras_eds.surgery.sites import sites_named
from keras_eds.tuners.stage import Stage


def take_step(
    stage: Stage, proposal: Proposal, names: Mapping[str, str]
) -> dict[str, Any]:
    """Trains a stage's model with masks of given sizes, which are taken off again.

    A short training sees neither the validation data nor the user's callbacks,
    which are made for a whole one.

    Args:
        stage: The stage.
        proposal: With the sizes as its plan. Settings: `batches` to train on, or
            else the `share` of a whole training; at 1 it is a whole one, with
            callbacks, but without early stopping.
        names: The model's names of the fields, by those of the search.

    Returns:
        The scores of the masked model; see `StageResult.metrics`.
    """
    assert proposal.plan is not None
    model = stage.model
    # By order: in another process, unnamed layers may be numbered otherwise.
    sizes = dict(zip(names.values(), sizes_in(proposal.plan), strict=True))
    chosen = sites_named(model, names.values())
    with sizes_on(chosen, sizes), strategy_scope(model):
        trainings = _train(stage, proposal.settings)
        after = stage.score()
        quality = write_quality(stage, names)
    kept = float(sum(s.sum() for s in sizes.values()))
    after["kept"] = kept / total_parameters(site.field for site in chosen)
    after["quality"] = quality
    after["trainings"] = trainings
    return {"after": after}


def write_quality(stage: Stage, names: Mapping[str, str]) -> float:
    """Writes down how well the model serves every id; returns the mean of all."""
    data = stage.data.scored_on(validation=True)
    wanted = set(names.values())
    found = measure_quality(stage.model, data, lambda field: field.name in wanted)
    Qualities({name: found[there] for name, there in names.items()}).save(
        stage.files.qualities
    )
    scores = np.concatenate([q.score[q.examples > 0] for q in found.values()])
    return float(scores.mean()) if scores.size else 0.0


def _train(stage: Stage, settings: Mapping[str, Any]) -> float:
    """Trains, and returns for what share of a whole training."""
    batches, share = settings["batches"], settings["share"]
    if batches is None and share == 1:
        stage.fit_once([], None)
        return 1.0
    whole = _batches_of_a_training(stage)
    if batches is None:
        batches = max(1, round(share * whole))
    stop = _StopAfter(batches)
    stage.fit_briefly([stop])
    return stop.seen / whole


def _batches_of_a_training(stage: Stage) -> int:
    options = stage.data.options
    epochs = options.get("epochs", 1) - options.get("initial_epoch", 0)
    steps = options.get("steps_per_epoch")
    data = {**stage.data.inspected, "steps_per_epoch": steps}
    iterator, number = keras_private.batches(data)
    if number is None:
        # A data set that does not know its length.
        number = sum(1 for _ in iterator)
    return max(1, int(number) * int(epochs))


class _StopAfter(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, batches: int) -> None:
        super().__init__()
        self.seen = self._before = 0
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._before = self.seen

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # Several at once where `steps_per_execution` says so.
        self.seen = self._before + batch + 1
        if self.seen >= self._batches:
            self.model.stop_training = True
