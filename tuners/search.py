"""The main job: shrink the model that a user already has."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
from keras_tuner.errors import FatalError

from keras_eds import methods
from keras_eds.budget import parse_budgets
from keras_eds.errors import ProjectError, StageError
from keras_eds.methods import Method
from keras_eds.serving import quantize_tables
from keras_eds.surgery.batches import read_batches
from keras_eds.surgery.inspect import inspect_batches
from keras_eds.surgery.sites import Filters, find_sites
from keras_eds.tuners import project
from keras_eds.tuners.fit_data import FitData, by_name, callback_list, copies_of
from keras_eds.tuners.hypermodel import EDSHyperModel
from keras_eds.tuners.model_source import Builder
from keras_eds.tuners.oracle import Budgets, EDSOracle
from keras_eds.tuners.progress import Progress
from keras_eds.tuners.search_checks import (
    check_constraints,
    check_objective,
    check_quantize,
    check_warm_start,
)
from keras_eds.tuners.search_results import SearchResults
from keras_eds.tuners.size_step import check_quality
from keras_eds.tuners.stage_files import write_apart
from keras_eds.tuners.trial_files import forget_full_model, read_proposal


class FatalProjectError(ProjectError, FatalError):
    """A file of the project is damaged, so that no stage can go on."""


class EDSSearch(SearchResults):
    """Finds how wide every embedding table must be, and gives back a small model.

    The model is trained (unless it is already), its tables are measured in one
    short pass, and for every budget it is rebuilt with narrow tables, retrained
    and scored. A search that was stopped goes on when it is started again.

    Args:
        model: A compiled Keras model, or a function that builds one. A model is
            never changed: the search trains copies.
        budget: What the tables may keep: a fraction of today's bytes (`0.1`), a
            size (`"8MB"`), a count (`Budget(parameters=...)`), or a list of
            them. Alignment matrices, constants and the index of packed rows count.
        method: A name or an object of `keras_eds.methods`. Defaults to
            `"principal_rows"`.
        objective: The metric that decides, as in `"val_auc"`, or a
            `keras_tuner.Objective`. Defaults to `"val_loss"`.
        filters: Which tables: a regular expression, a list, or a function of a
            `Field`. Defaults to all.
        seed: Seed of the search. Every stage seeds Keras's global generators with
            it, so that a stage that is repeated gives the same. Defaults to a
            random one.
        directory: Where to keep the search. Defaults to the working directory.
        project_name: Folder inside `directory`.
        overwrite: Whether to start anew where a project exists.
        max_retries_per_trial: How often to repeat a stage that failed.
        quantize: `"int8"`: budgets count one byte a value, as `quantize_tables` stores
            the tables, and the models that come back are quantized, for inference;
            they are trained before. Scores are those of quantized models. A budget
            then has room for nearly four times as many values. Plans are priced so,
            too: their model is `quantize_tables(apply_plan(model, plan))`. Defaults
            to `None`: values stay as they are.

    Raises:
        FieldError: If the model is not compiled or has no table to search.
        ValueError: If `quantize` is neither None nor `"int8"`.
        BudgetError: If a budget cannot be read or met.
        ProjectError: If the project directory belongs to another search.

    Example:

    >>> search = keras_eds.EDSSearch(model, budget=0.1, objective="val_auc")
    >>> search.search(x, y, validation_data=(x_val, y_val), epochs=3)
    >>> small = search.get_best_models()[0]
    """

    def __init__(
        self,
        model: keras.Model | Builder,
        budget: Budgets,
        method: str | Method = "principal_rows",
        objective: Any = None,
        filters: Filters = None,
        seed: int | None = None,
        directory: str | Path | None = None,
        project_name: str | None = None,
        overwrite: bool = False,
        max_retries_per_trial: int = 0,
        quantize: Literal["int8"] | None = None,
    ) -> None:
        method = methods.get(method)
        quality = getattr(method, "quality", None)
        hypermodel = EDSHyperModel(model, filters, quality)
        sites = find_sites(hypermodel.source.example, filters)
        self.quantize = quantize
        check_quantize(quantize, hypermodel.source)
        self.fields = [
            replace(site.field, quantized=quantize is not None) for site in sites
        ]
        self.budgets = parse_budgets(budget)
        self.method = method
        check_warm_start(self.method, hypermodel.source.trained)
        check_constraints(self.method, sites)
        self._eds_oracle = EDSOracle(
            self.fields,
            self.budgets,
            self.method,
            objective=objective,
            trained=hypermodel.source.trained,
            seed=seed,
            max_retries_per_trial=max_retries_per_trial,
        )
        folder = Path(directory or ".") / (project_name or "untitled_project")
        purpose = project.purpose(hypermodel.source.example, self._eds_oracle)
        project.claim(folder, purpose, overwrite, self._is_worker())
        super().__init__(
            self._eds_oracle,
            hypermodel=hypermodel,
            directory=None if directory is None else str(directory),
            project_name=project_name,
            # A worker must not delete what the chief has begun.
            overwrite=overwrite and not self._is_worker(),
        )
        self._eds_oracle.verbose = 0
        if not self._is_worker():
            project.sign(folder, purpose)
        self._progress = Progress(0)
        self._callbacks: list[Any] = []
        self._error: Exception | None = None

    def _populate_initial_space(self) -> None:
        """A new search: nothing of one that died in its first stage may stay."""
        if self._is_worker():
            return
        folder = Path(self.project_dir)
        if project.has_ended_trials(folder):
            # Begun under another KERASTUNER_TUNER_ID: KerasTuner takes it for new.
            self.oracle.reload()
        else:
            forget_full_model(folder)

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Runs the search.

        Args:
            *fit_args: Everything that `keras.Model.fit` takes.
            **fit_kwargs: `validation_data`, `epochs`, `callbacks`, `verbose`, ...
                Every stage gets copies of the callbacks; `on_stage_end(result)`
                of the ones given here is called after each. What `TensorBoard`,
                `ModelCheckpoint`, `CSVLogger` and `BackupAndRestore` write stands in
                a folder of the stage's name, as `runs/0-pretrain/best.keras`.

        Raises:
            DataError: If the data is empty, unlabelled or read only once, an id
                is out of range, or the objective is not measured.
            FieldError: If a table is read past its layer, or cannot be quantized.
            StageError: If no stage gave a model.
        """
        given = self.hypermodel.source.fit_arguments(by_name(fit_args, fit_kwargs))
        self._check_data(FitData.of(given))
        self._progress = Progress(given.get("verbose", "auto"))
        self._callbacks = callback_list(given.get("callbacks"))
        # KerasTuner's own display would print every value of every trial.
        verbose = {"verbose": 0} if self._is_chief() else {}
        super().search(**{**given, **verbose})
        self._report_failures()

    def _check_data(self, data: FitData) -> None:
        model = self.hypermodel.source.example
        data.check(model)
        copies_of(data.options.get("callbacks"))
        probe = getattr(self.method, "probe", None)
        if probe is not None:
            data.measured_on(probe["data"])
        batches, _ = read_batches(data.inspected)
        batch = next(batches)
        first = batch[0] if isinstance(batch, tuple | list) else batch
        self.hypermodel.sample = first
        names = [f.name for f in self.fields]
        inspect_batches(model, data.inspected, names)
        if data.validation is not None:
            inspect_batches(model, data.inspected_validation, names, "validation_data")
        if self.quantize is not None:
            # What cannot be quantized is to be known before anything is trained.
            quantize_tables(model)
        check_objective(model, batch, data, self._eds_oracle.objective)
        if probe is not None and probe.get("quality"):
            measured = data.measured_on(probe["data"])
            check_quality(model, measured, names, self.hypermodel.quality)

    def on_search_begin(self) -> None:
        self.oracle.verbose = 0

    def run_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> Any:
        """Runs one stage."""
        hp = trial.hyperparameters
        hp.values["eds/folder"] = self.get_trial_dir(trial.trial_id)
        proposal = read_proposal(hp)
        self._progress.begin(proposal, self._stage_index(trial), self._num_stages())
        kwargs = dict(fit_kwargs)
        kwargs["callbacks"] = self._stage_callbacks(trial, kwargs.get("callbacks"))
        try:
            model = self.hypermodel.build(hp)
            return self.hypermodel.fit(hp, model, *fit_args, **kwargs)
        except ProjectError as error:
            raise FatalProjectError(str(error)) from error
        except Exception as error:
            self._error = error
            failure = _failure(proposal, error)
            self._files(trial).write_failure(failure)
            self._progress.fail(failure)
            raise StageError(failure) from error

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        if trial.status != "COMPLETED":
            return
        known = self._known()
        result = self._result(known, known.get_trial(trial.trial_id))
        self._progress.end(result)
        for callback in self._callbacks:
            if hasattr(callback, "on_stage_end"):
                callback.on_stage_end(result)

    def _report_failures(self) -> None:
        known = self._known()
        if known.error is not None:
            raise known.error
        failed = known.failed_trials()
        reasons = " ".join(self._files(trial).read_failure() for trial in failed)
        if not known.get_best_trials():
            raise StageError(
                "No stage of the search gave a model within the budget. Received: "
                f"{reasons or 'an end without a model.'} Correct that and search "
                "again: what is finished is not repeated."
            ) from self._error
        if failed:
            warnings.warn(
                f"{len(failed)} of {self._num_stages()} stages failed. {reasons} "
                "Search again to repeat them.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _is_chief(self) -> bool:
        distributed = "KERASTUNER_ORACLE_IP" in os.environ
        return distributed and not self._is_worker()

    def _stage_callbacks(self, trial: Any, callbacks: Any) -> list[Any]:
        values = trial.hyperparameters.values
        what = values.get("eds/budget", values["eds/stage"])
        name = f"{self._stage_index(trial)}-{what}"
        copies: list[Any] = copies_of(callbacks)
        for callback in copies:
            if hasattr(callback, "on_stage_end"):
                callback.stage_name = name
            write_apart(callback, name)
        return copies


def _failure(proposal: Any, error: Exception) -> str:
    budget = "" if proposal.budget is None else f" for {proposal.budget.label}"
    return f"Stage {proposal.stage!r}{budget} failed: {type(error).__name__}: {error}"
