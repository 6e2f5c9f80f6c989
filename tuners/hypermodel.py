"""Builds and runs the stages of a search."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_eds.budget import Budget
from keras_eds.errors import ProjectError
from keras_eds.methods import Proposal
from keras_eds.plan import DimensionPlan
from keras_eds.serving import quantize_tables
from keras_eds.surgery import find_fields, keras_private, use_sparse_lookups
from keras_eds.surgery.sites import Filters
from keras_eds.surgery.small_layer import Alignment, Values
from keras_eds.tuners.fit_data import FitData, by_name
from keras_eds.tuners.learning import learn
from keras_eds.tuners.model_source import Builder, source_of
from keras_eds.tuners.size_step import (
    Quality,
    refuse_unmeasured,
    take_step,
    write_quality,
)
from keras_eds.tuners.stage import Stage
from keras_eds.tuners.trial_files import TrialFiles, read_proposal
from keras_eds.tuners.weights import load_weights, save_model, save_weights


class EDSHyperModel(keras_tuner.HyperModel):
    """The user's model as a `keras_tuner.HyperModel` whose trials are stages.

    Args:
        model: A compiled Keras model, or a function that builds one.
        filters: Which tables, as in `keras_eds.find_fields`.
        quality: The `quality` of the method, for one that has it. Defaults to None.

    Example:

    >>> tuner = keras_tuner.Tuner(
    ...     hypermodel=keras_eds.tuners.EDSHyperModel(model),
    ...     oracle=keras_eds.tuners.SSEDSOracle(find_fields(model), budget=0.1),
    ... )
    """

    def __init__(
        self,
        model: keras.Model | Builder,
        filters: Filters = None,
        quality: Quality = None,
    ) -> None:
        super().__init__()
        self.source = source_of(model)
        self.filters = filters
        self.quality = quality
        self.sample: Any = None

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The model of a stage: full, or small under the trial's plan."""
        return use_sparse_lookups(self._stage_model(hp))

    def _stage_model(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        if "eds/stage" not in hp.values:
            return self.source.new(self.sample)
        keras.utils.set_random_seed(hp.values["eds/seed"])
        proposal, files = read_proposal(hp), TrialFiles(hp.values["eds/folder"])
        if proposal.stage == "pretrain":
            return self.source.new(self.sample)
        if proposal.stage == "step" and proposal.settings["fresh"]:
            return self.source.fresh(self.sample)
        if proposal.stage in ("probe", "learn", "step"):
            return self._full_model(files)
        return self._small_model(proposal, files)

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kw: Any
    ) -> dict[str, float]:
        """Runs the trial's stage on its model and writes the outcome down."""
        data = FitData.of(self.source.fit_arguments(by_name(args, kw)))
        proposal, files = read_proposal(hp), TrialFiles(hp.values["eds/folder"])
        name, direction = json.loads(hp.values["eds/objective"])
        objective = keras_tuner.Objective(name, direction)
        quantized = proposal.stage == "retrain" and _is_quantized(proposal)
        stage = Stage(model, data, objective, files, quantized)
        keras.utils.set_random_seed(hp.values["eds/seed"])
        began = time.monotonic()
        if proposal.stage == "pretrain":
            metrics = stage.pretrain(proposal)
        elif proposal.stage == "probe":
            metrics = stage.probe(proposal, self._names_in(model))
            if proposal.settings.get("quality"):
                write_quality(stage, self._names_in(model), self.quality)
                refuse_unmeasured(files)
        elif proposal.stage == "learn":
            metrics = self._learn(stage, proposal, hp.values["eds/seed"])
        elif proposal.stage == "step":
            names = self._names_in(model)
            metrics = take_step(stage, proposal, names, self.quality)
        else:
            metrics = stage.retrain()
            if self.source.loads_from_file:
                save_model(model, files.model)
        files.write_outcome(metrics, seconds=time.monotonic() - began)
        return dict(metrics["after"])

    def _learn(self, stage: Stage, proposal: Proposal, seed: int) -> dict[str, Any]:
        settings = proposal.settings
        budgets = [Budget(**budget) for budget in settings["budgets"]]
        options = {**settings["masks"], "seed": seed}
        names = self._names_in(stage.model)
        epochs: int | None = settings["epochs"]
        quantized: bool = settings["quantized"]
        return dict(learn(stage, names, budgets, epochs, options, quantized))

    def _names_in(self, model: keras.Model) -> dict[str, str]:
        """What `model` calls the fields that are searched."""
        fields = find_fields(self.source.example, self.filters)
        names = self.source.names_in(model)
        return {field.name: names[field.name] for field in fields}

    def load(self, hp: keras_tuner.HyperParameters, folder: str | Path) -> keras.Model:
        """The small model that a trial has left in its folder, compiled.

        Raises:
            ProjectError: If its file is missing or damaged, or it cannot be built
                again before a batch of data is known.
        """
        proposal, files = read_proposal(hp, folder), TrialFiles(folder)
        model = self._load(proposal, files)
        return quantize_tables(model) if _is_quantized(proposal) else model

    def _load(self, proposal: Proposal, files: TrialFiles) -> keras.Model:
        if self.source.loads_from_file:
            return self.source.load(files.model)
        if self.sample is None and self.source.needs_sample:
            raise ProjectError(
                "A small model must be built on a batch before its weights are loaded. "
                "Received: no data in this process. Call search(ds) with the data of "
                "this search first; what has ended is not run again."
            )
        model = self._small_model(proposal, files)
        load_weights(model, files.checkpoint)
        return self.source.result(model)

    def _full_model(self, files: TrialFiles) -> keras.Model:
        model = self.source.new(self.sample)
        if files.full_weights.exists():
            load_weights(model, files.full_weights)
        elif self.source.trained:
            # A search that goes on in another process goes on with these values.
            save_weights(model, files.full_weights)
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
        if start == "learned":
            load_weights(model, files.learned_weights(settings["moment"]))
        if start == "initial" and files.initial_weights.exists():
            load_weights(model, files.initial_weights)
        return self._apply(model, plan, "kept", alignment)

    def _apply(
        self, model: keras.Model, plan: DimensionPlan, values: Values, start: Alignment
    ) -> keras.Model:
        # By order: in another process, unnamed layers may be numbered otherwise.
        names = self._names_in(model).values()
        theirs = {p.name: name for p, name in zip(plan, names, strict=True)}
        return self.source.apply(model, plan.renamed(theirs.__getitem__), values, start)


def _is_quantized(proposal: Proposal) -> bool:
    return proposal.plan is not None and proposal.plan.quantized


def _copy_tables(source: keras.Model, target: keras.Model) -> None:
    layers = keras_private.all_layers(source), keras_private.all_layers(target)
    for layer, other in zip(*layers, strict=True):
        # A list where rows of several lengths are packed.
        table = getattr(layer, "embeddings", None)
        if isinstance(table, list):
            for part, copied in zip(table, other.embeddings, strict=True):
                copied.assign(part)
        elif table is not None:
            other.embeddings.assign(table)
