"""Runs one stage of a search: builds its model, trains or measures it, scores it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import ops

from keras_eds.errors import DataError, StageError
from keras_eds.measurements import Measurements
from keras_eds.methods import Proposal
from keras_eds.plan import DimensionPlan
from keras_eds.surgery import find_fields, keras_private
from keras_eds.surgery.apply import Alignment, Values, apply_plan
from keras_eds.surgery.measure import measure
from keras_eds.surgery.sites import Filters
from keras_eds.tuners.fit_data import FitData
from keras_eds.tuners.model_source import Builder, ModelSource
from keras_eds.tuners.trial_files import TrialFiles, read_proposal


class EDSHyperModel(keras_tuner.HyperModel):
    """The user's model as a `keras_tuner.HyperModel` whose trials are stages.

    Args:
        model: A compiled Keras model, or a function that builds one.
        filters: Which tables, as in `keras_eds.find_fields`.

    Example:

    >>> tuner = keras_tuner.Tuner(
    ...     hypermodel=keras_eds.tuners.EDSHyperModel(model),
    ...     oracle=keras_eds.tuners.SSEDSOracle(find_fields(model), budget=0.1),
    ... )
    """

    def __init__(self, model: keras.Model | Builder, filters: Filters = None) -> None:
        super().__init__()
        self.source = ModelSource(model)
        self.filters = filters
        self.sample: Any = None

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The model of a stage: full, or small under the trial's plan."""
        if "eds/stage" not in hp.values:
            return self.source.new(self.sample)
        keras.utils.set_random_seed(hp.values["eds/seed"])
        proposal, files = read_proposal(hp), TrialFiles(hp.values["eds/folder"])
        if proposal.stage == "pretrain":
            return self.source.new(self.sample)
        if proposal.stage == "probe":
            return self._full_model(files)
        return self._small_model(proposal, files)

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kw: Any
    ) -> dict[str, float]:
        """Runs the trial's stage on its model and writes the outcome down."""
        data = FitData.bind(args, kw)
        proposal, files = read_proposal(hp), TrialFiles(hp.values["eds/folder"])
        objective = keras_tuner.Objective(**hp.values["eds/objective"])
        stage = _Stage(model, data, objective, files)
        keras.utils.set_random_seed(hp.values["eds/seed"])
        began = time.monotonic()
        if proposal.stage == "pretrain":
            metrics = stage.pretrain(proposal)
        elif proposal.stage == "probe":
            fields = find_fields(self.source.example, self.filters)
            names = self.source.names_in(model)
            metrics = stage.probe(proposal, {f.name: names[f.name] for f in fields})
        else:
            metrics = stage.retrain()
        files.write_outcome(metrics, seconds=time.monotonic() - began)
        return dict(metrics["after"])

    def _full_model(self, files: TrialFiles) -> keras.Model:
        model = self.source.new(self.sample)
        if files.full_weights.exists():
            load_weights(model, files.full_weights)
        return model

    def _small_model(self, proposal: Proposal, files: TrialFiles) -> keras.Model:
        plan, settings = proposal.plan, proposal.settings
        assert plan is not None
        start, alignment = settings["warm_start"], settings["alignment"]
        if start in ("fresh", "tables"):
            fresh = self.source.fresh(self.sample)
            small = self._apply(fresh, plan, "fresh", alignment)
            if start == "tables":
                full = self._full_model(files)
                _copy_tables(self._apply(full, plan, "kept", alignment), small)
            return small
        model = self._full_model(files)
        if start == "initial" and files.initial_weights.exists():
            load_weights(model, files.initial_weights)
        return self._apply(model, plan, "kept", alignment)

    def _apply(
        self, model: keras.Model, plan: DimensionPlan, values: Values, start: Alignment
    ) -> keras.Model:
        names = self.source.names_in(model)
        theirs = plan.renamed(lambda name: names[name])
        return apply_plan(model, theirs, values, start, in_place=True)


def _copy_tables(source: keras.Model, target: keras.Model) -> None:
    for layer, other in zip(
        keras_private.all_layers(source), keras_private.all_layers(target), strict=True
    ):
        table = getattr(layer, "embeddings", None)
        if table is not None:
            other.embeddings.assign(table)


class _Stage:
    """One stage on one model."""

    def __init__(
        self,
        model: keras.Model,
        data: FitData,
        objective: Any,
        files: TrialFiles,
    ) -> None:
        self.model = model
        self.data = data
        self.objective = objective
        self.files = files

    def pretrain(self, proposal: Proposal) -> dict[str, Any]:
        if proposal.settings.get("keep_initial"):
            save_weights(self.model, self.files.initial_weights)
        self._train(best=None)
        after = self.score()
        save_weights(self.model, self.files.full_weights)
        return {"after": after}

    def probe(self, proposal: Proposal, names: dict[str, str]) -> dict[str, Any]:
        settings = proposal.settings
        measured = measure(
            self.model,
            self.data.measured_on(settings["data"]),
            batches=settings["batches"],
            filters=list(names.values()),
            verbose=self.data.options.get("verbose", "auto"),
        )
        ours = Measurements({name: measured[there] for name, there in names.items()})
        ours.save(self.files.measurements)
        return {"after": self.score()}

    def retrain(self) -> dict[str, Any]:
        before = self.score()
        save_weights(self.model, self.files.checkpoint)
        self._train(best=self.objective.get_value(before))
        after = self.score()
        worse = self.objective.better_than(
            *map(self.objective.get_value, (before, after))
        )
        if worse:
            load_weights(self.model, self.files.checkpoint)
            after = before
        save_weights(self.model, self.files.checkpoint)
        with keras_private.without_optimizer(self.model):
            self.model.save(self.files.model)
        return {"before": before, "after": after}

    def score(self) -> dict[str, float]:
        """Every metric of the model as it is, named as in `fit`."""
        return evaluate(self.model, self.data, self.objective)

    def _train(self, best: float | None) -> None:
        """Trains with the user's arguments and goes back to the best epoch."""
        path = self.files.folder / "best_epoch.weights.h5"
        path.unlink(missing_ok=True)
        checkpoint = keras.callbacks.ModelCheckpoint(
            str(path),
            monitor=self.objective.name,
            mode=self.objective.direction,
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=best,
        )
        options = dict(self.data.options)
        options["callbacks"] = [
            *self.data.callbacks(),
            keras.callbacks.TerminateOnNaN(),
            checkpoint,
        ]
        if self.data.validation is not None:
            options.update(_as_validation(self.data.validation))
        history = self.model.fit(**self.data.training, **options)
        self._check_finite(history)
        if path.exists():
            self.model.load_weights(path)
            path.unlink()

    @staticmethod
    def _check_finite(history: keras.callbacks.History) -> None:
        losses = history.history.get("loss", [])
        if not np.all(np.isfinite(np.asarray(losses, dtype="float64"))):
            raise StageError(
                "The loss must stay finite. Received: "
                f"loss={[float(loss) for loss in losses]}. Check the data, or train "
                "with a smaller learning rate."
            )


def save_weights(model: keras.Model, path: Path) -> None:
    """Saves weights alone, whole or not at all: a search may be killed."""
    part = path.with_name("part-" + path.name)
    with keras_private.without_optimizer(model):
        model.save_weights(part)
    part.replace(path)


def load_weights(model: keras.Model, path: Path) -> None:
    """Loads what `save_weights` saved."""
    with keras_private.without_optimizer(model):
        model.load_weights(path)


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


def evaluate(model: keras.Model, data: FitData, objective: Any) -> dict[str, float]:
    """Every metric, named as in the logs of `fit`.

    Raises:
        DataError: If the objective is not among them.
        StageError: If the objective is not finite.
    """
    validation = objective_on_validation(objective)
    arguments = data.scored_on(validation)
    values = model.evaluate(**arguments, verbose=0, return_dict=True)
    prefix = "val_" if validation else ""
    scores = {
        prefix + name: float(ops.convert_to_numpy(v)) for name, v in values.items()
    }
    check_objective(objective, scores)
    if not np.isfinite(objective.get_value(scores)):
        raise StageError(
            f"The objective {objective.name!r} must be finite. Received: {scores}. "
            "Check the data, or train with a smaller learning rate."
        )
    return scores


def objective_on_validation(objective: Any) -> bool:
    """Whether the objective is measured on validation data."""
    return str(objective.name).startswith("val_")


def check_objective(objective: Any, scores: dict[str, float]) -> None:
    """Refuses an objective that the model does not measure."""
    if not objective.has_value(scores):
        raise DataError(
            "`objective` must be one of the model's metrics. "
            f"Received: objective={objective.name!r}, but there are {sorted(scores)}. "
            "Choose one of these, or compile the model with that metric."
        )
