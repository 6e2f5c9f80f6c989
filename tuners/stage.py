"""Trains, measures and scores the model of one stage."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.errors import StageError
from keras_eds.measurements import Measurements
from keras_eds.methods import Proposal
from keras_eds.methods.principal import second_moment
from keras_eds.serving import quantize_tables
from keras_eds.surgery import keras_private, keras_training
from keras_eds.surgery.batches import read_batches
from keras_eds.surgery.count import count_ids
from keras_eds.surgery.measure import measure
from keras_eds.surgery.sites import sites_named
from keras_eds.tuners.best_epoch import BestEpoch
from keras_eds.tuners.fit_data import FitData, callback_list
from keras_eds.tuners.scores import evaluate
from keras_eds.tuners.trial_files import TrialFiles
from keras_eds.tuners.weights import load_weights, save_weights

# Of an endless data set, measure this share of the steps that `fit` was given.
EPOCH_SHARE = 20
MOST_BATCHES = 16


class Stage:
    """One stage on one model.

    Args:
        model: The model, which is trained in place.
        data: What `fit` was given.
        objective: A `keras_tuner.Objective`.
        files: Where what the stage leaves is written.
        quantized: Whether the model is to be scored with its tables quantized.
    """

    def __init__(
        self,
        model: keras.Model,
        data: FitData,
        objective: Any,
        files: TrialFiles,
        quantized: bool = False,
    ) -> None:
        self.model = model
        self.data = data
        self.objective = objective
        self.files = files
        self.quantized = quantized

    def pretrain(self, proposal: Proposal) -> dict[str, Any]:
        """Trains the full model; its weights stay for the other stages."""
        if proposal.settings.get("keep_initial"):
            save_weights(self.model, self.files.initial_weights)
        self._train(best=None)
        after = self.score()
        self.files.write_full_scores(after)
        save_weights(self.model, self.files.full_weights)
        return {"after": after}

    def probe(self, proposal: Proposal, names: dict[str, str]) -> dict[str, Any]:
        """Measures the fields; `names` maps them to the model's names."""
        if proposal.settings.get("counts"):
            counts = self.counts(names.values())
            measured = Measurements.of_counts(counts)
            if proposal.settings.get("moments"):
                measured = self._with_moments(counts)
        else:
            measured = self._measure(proposal, names.values())
        ours = Measurements({name: measured[there] for name, there in names.items()})
        ours.save(self.files.measurements)
        if proposal.settings.get("quality"):
            # For the steps, which are trials of their own.
            ours.save(self.files.counted)
        known = self.files.read_full_scores()
        return {"after": self.score() if known is None else known}

    def _measure(self, proposal: Proposal, names: Collection[str]) -> Measurements:
        settings = proposal.settings
        measured = measure(
            self.model,
            self.data.measured_on(settings["data"]),
            batches=self._batches(settings["batches"], settings["data"]),
            filters=lambda field: field.name in names,
            verbose=self.data.options.get("verbose", "auto"),
        )
        return self._with_rows(measured) if settings.get("rows") else measured

    def counts(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """How often the ids of some tables come in the training data."""
        data = dict(self.data.inspected)
        data["steps_per_epoch"] = self.data.options.get("steps_per_epoch")
        return count_ids(self.model, data, lambda field: field.name in names)

    def _with_rows(self, measured: Measurements) -> Measurements:
        """Adds every table, and how often its ids come in the training data."""
        counts, tables = self.counts(list(measured)), self._tables(list(measured))
        return Measurements(
            {
                name: replace(measured[name], counts=counts[name], table=tables[name])
                for name in measured
            }
        )

    def _with_moments(self, counts: Mapping[str, np.ndarray]) -> Measurements:
        """Counts, and the second moment of every table, each row by its count."""
        counted, tables = Measurements.of_counts(counts), self._tables(list(counts))
        found = {}
        for name, of_ids in counts.items():
            moment = second_moment(tables[name], of_ids / max(of_ids.sum(), 1))
            found[name] = replace(counted[name], second_moment=moment)
        return Measurements(found)

    def _tables(self, names: Collection[str]) -> dict[str, np.ndarray]:
        return {
            site.field.name: ops.convert_to_numpy(
                keras_private.table_variable(site.layer)
            )
            for site in sites_named(self.model, names)
        }

    def retrain(self) -> dict[str, Any]:
        """Trains the small model; it stays as it was if that made it worse."""
        before = self.score()
        # Not the checkpoint: KerasTuner's own tuner writes that while it trains.
        save_weights(self.model, self.files.before)
        self._train(best=self.objective.get_value(before))
        after = self.score()
        if self.objective.better_than(self._value(before), self._value(after)):
            load_weights(self.model, self.files.before)
            after = before
        self.files.before.unlink()
        save_weights(self.model, self.files.checkpoint)
        return {"before": before, "after": after}

    def score(self) -> dict[str, float]:
        """Every metric of the model as it is, named as in `fit`.

        Raises:
            StageError: If the objective is not finite.
        """
        # A copy: integers are not trained.
        model = quantize_tables(self.model) if self.quantized else self.model
        scores: dict[str, float] = evaluate(model, self.data, self.objective)
        if not np.isfinite(self._value(scores)):
            raise StageError(
                f"The objective {self.objective.name!r} must be finite. "
                f"Received: {scores}. Check the data, or train with a smaller "
                "learning rate."
            )
        return scores

    def _value(self, scores: dict[str, float]) -> float:
        return float(self.objective.get_value(scores))

    def _batches(self, batches: int | None, which: str) -> int | None:
        """`batches`, or a share of an epoch where only its steps are known."""
        steps = self.data.options.get("steps_per_epoch")
        if batches is not None or steps is None or which != "train":
            return batches
        return max(1, min(MOST_BATCHES, -(-int(steps) // EPOCH_SHARE)))

    def batches_of_an_epoch(self) -> int:
        """How many batches `fit` takes from the data in an epoch, at least 1."""
        steps = self.data.options.get("steps_per_epoch")
        iterator, number = read_batches(
            {**self.data.inspected, "steps_per_epoch": steps}
        )
        if number is None:
            # A data set that does not know its length.
            number = sum(1 for _ in iterator)
        return max(1, int(number))

    def batches_of_a_training(self) -> int:
        """How many batches `fit` takes from the data in all, at least 1."""
        options = self.data.options
        epochs = options.get("epochs", 1) - options.get("initial_epoch", 0)
        return max(1, self.batches_of_an_epoch() * int(epochs))

    def _train(self, best: float | None) -> None:
        """Trains with the user's arguments and goes back to the best epoch."""
        path = self.files.best_epoch
        theirs = callback_list(self.data.options.get("callbacks"))
        goes_on = any(_has_backup(callback) for callback in theirs)
        checkpoint = BestEpoch(path, self.objective, best, goes_on)
        if keras_training.averages_weights(self.model.optimizer):
            theirs = _with_averages(theirs)
        self._fit([*theirs, keras.callbacks.TerminateOnNaN(), checkpoint])
        checkpoint.restore(self.model)

    def fit_once(
        self, first: list[keras.callbacks.Callback], epochs: int | None
    ) -> None:
        """Trains to the end, whatever the scores on the way.

        Args:
            first: Callbacks that come before the user's.
            epochs: How many epochs. Defaults to the user's.
        """
        theirs = callback_list(self.data.options.get("callbacks"))
        kept = [c for c in theirs if not isinstance(c, keras.callbacks.EarlyStopping)]
        options = {} if epochs is None else {"epochs": epochs, "initial_epoch": 0}
        self._fit([*first, *kept, keras.callbacks.TerminateOnNaN()], **options)

    def fit_briefly(self, callbacks: list[keras.callbacks.Callback]) -> None:
        """Trains without validation and without the user's callbacks."""
        options = {k: v for k, v in self.data.options.items() if k != "validation_freq"}
        options["callbacks"] = [*callbacks, keras.callbacks.TerminateOnNaN()]
        _check_finite(self.model.fit(**self.data.training, **options))

    def _fit(self, callbacks: list[keras.callbacks.Callback], **changed: Any) -> None:
        options = {**self.data.options, **changed, "callbacks": callbacks}
        if self.data.validation is not None:
            options.update(_as_validation(self.data.validation))
        _check_finite(self.model.fit(**self.data.training, **options))


def _with_averages(
    callbacks: list[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Lets epochs end with averaged weights, so that the best one keeps those."""
    swaps = [c for c in callbacks if isinstance(c, keras.callbacks.SwapEMAWeights)]
    for swap in swaps:
        swap.swap_on_epoch = True
    if swaps:
        return callbacks
    # A backup is of the weights that training goes on from.
    backup = keras.callbacks.BackupAndRestore
    first = [callback for callback in callbacks if isinstance(callback, backup)]
    others = [callback for callback in callbacks if not isinstance(callback, backup)]
    return [*first, keras.callbacks.SwapEMAWeights(swap_on_epoch=True), *others]


def _has_backup(callback: keras.callbacks.Callback) -> bool:
    """Whether training goes on from where it was stopped."""
    if not isinstance(callback, keras.callbacks.BackupAndRestore):
        return False
    return any(Path(callback.backup_dir).glob("*.weights.h5"))


def _check_finite(history: keras.callbacks.History) -> None:
    losses = history.history.get("loss", [])
    if not np.all(np.isfinite(np.asarray(losses, dtype="float64"))):
        raise StageError(
            "The loss must stay finite. Received: "
            f"loss={[float(loss) for loss in losses]}. Check the data, or train "
            "with a smaller learning rate."
        )


def _as_validation(validation: dict[str, Any]) -> dict[str, Any]:
    arrays = tuple(validation.get(key) for key in ("x", "y", "sample_weight"))
    options: dict[str, Any] = {"validation_data": validation["x"]}
    if validation.get("y") is not None:
        options["validation_data"] = arrays if arrays[2] is not None else arrays[:2]
    if "batch_size" in validation:
        options["validation_batch_size"] = validation["batch_size"]
    if "steps" in validation:
        options["validation_steps"] = validation["steps"]
    return options
