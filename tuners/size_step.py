"""Tries sizes: trains for a short while under masks, and sees how ids fare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_eds.field import total_parameters
from keras_eds.id_quality import Qualities
from keras_eds.measurements import Measurements
from keras_eds.methods import Proposal
from keras_eds.methods.principal import principal_directions
from keras_eds.methods.quality_ratio import check_measured
from keras_eds.methods.tried_sizes import sizes_in
from keras_eds.surgery.batches import read_batches
from keras_eds.surgery.fixed_masks import sizes_on
from keras_eds.surgery.given_quality import given_quality
from keras_eds.surgery.measure import strategy_scope
from keras_eds.surgery.quality import measure_quality
from keras_eds.surgery.sites import Site, sites_named
from keras_eds.tuners.stage import Stage
from keras_eds.tuners.trial_files import TrialFiles

Quality = Callable[[Any], Any] | None


def take_step(
    stage: Stage, proposal: Proposal, names: Mapping[str, str], quality: Quality
) -> dict[str, Any]:
    """Trains a stage's model with masks of given sizes, which are taken off again.

    A short training sees neither the validation data nor the user's callbacks,
    which are made for a whole one.

    Args:
        stage: The stage.
        proposal: With the sizes as its plan. Settings: `batches` to train on, or
            else the `share` of a whole training; at 1 it is a whole one, with
            callbacks, but without early stopping. And the `basis` of the sizes.
        names: The model's names of the fields, by those of the search.
        quality: Measures how ids fare; None: by the loss.

    Returns:
        The scores of the masked model; see `StageResult.metrics`.
    """
    assert proposal.plan is not None
    model = stage.model
    # By order: in another process, unnamed layers may be numbered otherwise.
    sizes = dict(zip(names.values(), sizes_in(proposal.plan), strict=True))
    chosen = sites_named(model, names.values())
    principal = proposal.settings["basis"] == "principal"
    directions = _directions(stage, chosen) if principal else None
    with sizes_on(chosen, sizes, directions), strategy_scope(model):
        trainings = _train(stage, proposal.settings)
        after = stage.score()
        mean = write_quality(stage, names, quality)
    kept = float(sum(s.sum() for s in sizes.values()))
    after["kept"] = kept / total_parameters(site.field for site in chosen)
    after["quality"] = mean
    after["trainings"] = trainings
    for part in proposal.plan:
        after[f"size/{part.name}"] = part.mean_dim
        after[f"bytes/{part.name}"] = float(part.num_bytes())
    return {"after": after}


def _directions(stage: Stage, sites: Sequence[Site]) -> dict[str, np.ndarray]:
    measured = Measurements.load(stage.files.counted).values()
    return {
        site.field.name: principal_directions(found.second_moment)
        for site, found in zip(sites, measured, strict=True)
    }


def write_quality(
    stage: Stage, names: Mapping[str, str], quality: Quality = None
) -> float:
    """Writes down how well the model serves every id; returns the mean of all."""
    model = stage.model
    if quality is None:
        data, wanted = stage.data.scored_on(validation=True), set(names.values())
        found = measure_quality(model, data, lambda field: field.name in wanted)
    else:
        sites = sites_named(model, names.values())
        found = given_quality(quality(model), [site.field for site in sites])
    Qualities({name: found[there] for name, there in names.items()}).save(
        stage.files.qualities
    )
    scores = np.concatenate([q.score[q.examples > 0] for q in found.values()])
    return float(scores.mean()) if scores.size else 0.0


def refuse_unmeasured(files: TrialFiles) -> None:
    """Ends a probe that no size can be judged by: one that ended would be kept.

    Raises:
        DataError: If no id that comes in training was measured.
    """
    measured = files.read_measurements()
    assert measured is not None
    counts = {name: found.counts for name, found in measured.items()}
    known = {name: of_ids for name, of_ids in counts.items() if of_ids is not None}
    check_measured(Qualities.load(files.qualities), known)


def check_quality(
    model: keras.Model, data: Mapping[str, Any], names: Sequence[str], quality: Quality
) -> None:
    """Measures how ids fare once, on one batch, to see whether that can be done.

    Raises:
        DataError: If it cannot.
    """
    if quality is not None:
        sites = sites_named(model, names)
        given_quality(quality(model), [site.field for site in sites])
        return
    batches, _ = read_batches(dict(data))
    batch = next(batches)
    labels = batch[1] if isinstance(batch, tuple | list) and len(batch) > 1 else None
    first = batch[0] if isinstance(batch, tuple | list) else batch
    measure_quality(model, {"x": first, "y": labels}, lambda f: f.name in names)


def _train(stage: Stage, settings: Mapping[str, Any]) -> float:
    """Trains, and returns for what share of a whole training."""
    batches, share = settings["batches"], settings["share"]
    if batches is None and share == 1:
        stage.fit_once([], None)
        return 1.0
    whole = stage.batches_of_a_training()
    if batches is None:
        batches = max(1, int(share * whole + 1e-9))
    if batches == 0:
        return 0.0
    stop = _StopAfter(batches)
    stage.fit_briefly([stop])
    return float(stop.seen / whole)


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
