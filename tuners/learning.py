"""Trains tables and masks together, and takes down what was learned about sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.budget import Budget
from keras_eds.learned_sizes import FieldSizes, LearnedSizes
from keras_eds.surgery import keras_training
from keras_eds.surgery.copying import renewed
from keras_eds.surgery.masking import Masking, masks_on
from keras_eds.surgery.measure import strategy_scope
from keras_eds.surgery.sites import sites_named
from keras_eds.tuners.size_schedule import SizeSchedule
from keras_eds.tuners.stage import Stage
from keras_eds.tuners.trial_files import TrialFiles
from keras_eds.tuners.weights import save_weights


class Learning:
    """The moments at which sizes are taken down while a model trains with masks.

    Args:
        model: The model, with the masks on.
        maskings: The masks, by what the search calls their fields.
        files: Where the weights of each moment are written.
    """

    def __init__(
        self, model: keras.Model, maskings: Mapping[str, Masking], files: TrialFiles
    ) -> None:
        self._model = model
        self._maskings = maskings
        self._files = files
        self._logits: dict[int, list[np.ndarray]] = {}

    def take_down(self, moment: int) -> None:
        """Keeps the sizes as they are now, and saves the weights."""
        maskings = self._maskings.values()
        self._logits[moment] = [m.masks.group_logits() for m in maskings]
        with ExitStack() as stack:
            for masking in maskings:
                stack.enter_context(masking.hidden())
            save_weights(self._model, self._files.learned_weights(moment))

    def result(self) -> LearnedSizes:
        """What was taken down."""
        by_field = {}
        for place, (name, masking) in enumerate(self._maskings.items()):
            moments = [self._logits[m][place] for m in sorted(self._logits)]
            groups = ops.convert_to_numpy(masking.masks.group_of_id)
            logits = np.stack(moments).astype("float32")
            counts = masking.masks.group_counts()
            by_field[name] = FieldSizes(groups, logits, counts)
        return LearnedSizes(by_field)


def learn(
    stage: Stage,
    names: Mapping[str, str],
    budgets: Sequence[Budget],
    epochs: int | None,
    options: Mapping[str, Any],
    quantized: bool,
) -> dict[str, Any]:
    """Trains a stage's model with masks on its tables, which are taken off again.

    Args:
        stage: The stage.
        names: The model's names of the fields, by those of the search.
        budgets: What the sizes come down to.
        epochs: How long to train. Defaults to what `fit` was given.
        options: Those of `TwinMasks`.
        quantized: Whether values are kept as 8-bit integers.

    Returns:
        The scores of the masked model at the end.
    """
    model = stage.model
    chosen = [
        replace(site, field=replace(site.field, quantized=quantized))
        for site in sites_named(model, names.values())
    ]
    counts = stage.counts(names.values())
    with masks_on(chosen, counts, size_penalty=0.0, **options) as maskings:
        learning = Learning(model, dict(zip(names, maskings, strict=True)), stage.files)
        schedule = SizeSchedule(
            maskings, budgets, learning.take_down, stage.batches_of_an_epoch
        )
        with strategy_scope(model), _new_optimizer(model):
            stage.fit_once([schedule], epochs)
        after = stage.score()
        learning.result().save(stage.files.learned)
    return {"after": after}


def _new_optimizer(model: keras.Model) -> Any:
    """One like the model's own, which does not know of the masks' variables."""
    new = renewed(model.optimizer)
    return keras_training.training_with(model, new, eager=model.run_eagerly)
