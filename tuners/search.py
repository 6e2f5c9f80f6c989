"""The main job: shrink the model that a user already has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner

from keras_eds import methods
from keras_eds.budget import Budget, parse_budgets
from keras_eds.errors import StageError
from keras_eds.methods import Method
from keras_eds.plan import DimensionPlan
from keras_eds.reporting import tables
from keras_eds.results import StageResult
from keras_eds.surgery import keras_private
from keras_eds.surgery.copying import compile_like
from keras_eds.surgery.inspect import inspect_batches
from keras_eds.surgery.sites import Filters, find_fields
from keras_eds.tuners import project
from keras_eds.tuners.fit_data import FitData
from keras_eds.tuners.hypermodel import EDSHyperModel, evaluate
from keras_eds.tuners.model_source import Builder
from keras_eds.tuners.oracle import Budgets, EDSOracle
from keras_eds.tuners.progress import Progress
from keras_eds.tuners.trial_files import TrialFiles, read_proposal


class FatalStageError(StageError, keras_tuner.errors.FatalError):
    """A stage that failed and that no other stage can do without."""


class EDSSearch(BaseTuner):
    """Finds how wide every embedding table must be, and gives back a small model.

    The model is trained (unless it is already), its tables are measured in one
    short pass, and for every budget it is rebuilt with narrow tables, retrained
    and scored. A search that was stopped goes on when it is started again.

    Args:
        model: A compiled Keras model, or a function that builds one. A model is
            never changed: the search trains copies.
        budget: What the tables may keep: a fraction of today's bytes (`0.1`), a
            size (`"8MB"`), a count (`Budget(parameters=...)`), or a list of
            them. Alignment matrices and constants count.
        method: A name or an object of `keras_eds.methods`. Defaults to `"sseds"`.
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

    Raises:
        FieldError: If the model is not compiled or has no table to search.
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
        method: str | Method = "sseds",
        objective: Any = None,
        filters: Filters = None,
        seed: int | None = None,
        directory: str | Path | None = None,
        project_name: str | None = None,
        overwrite: bool = False,
        max_retries_per_trial: int = 0,
    ) -> None:
        hypermodel = EDSHyperModel(model, filters)
        self.fields = find_fields(hypermodel.source.example, filters)
        self.budgets = parse_budgets(budget)
        self.method = methods.get(method)
        oracle = EDSOracle(
            self.fields,
            self.budgets,
            self.method,
            objective=objective,
            trained=hypermodel.source.trained,
            seed=seed,
            max_retries_per_trial=max_retries_per_trial,
        )
        oracle.verbose = 0
        folder = Path(directory or ".") / (project_name or "untitled_project")
        purpose = (hypermodel.source.example, self.fields, self.budgets, self.method)
        project.claim(folder, *purpose, overwrite=overwrite)
        super().__init__(
            oracle,
            hypermodel=hypermodel,
            directory=None if directory is None else str(directory),
            project_name=project_name,
            overwrite=overwrite,
        )
        project.sign(folder, *purpose)
        self._progress = Progress(0)
        self._callbacks: list[Any] = []

    def _populate_initial_space(self) -> None:
        """Nothing to explore: a method proposes its own values."""

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Runs the search.

        Args:
            *fit_args: Everything that `keras.Model.fit` takes.
            **fit_kwargs: `validation_data`, `epochs`, `callbacks`, `verbose`, ...

        Raises:
            DataError: If the data is empty, unlabelled or read only once, an id
                is out of range, or the objective is not measured.
            FieldError: If a table is read past its layer.
            StageError: If no stage gave a model.
        """
        data = FitData.bind(fit_args, fit_kwargs)
        self._check_data(data)
        verbose = fit_kwargs.get("verbose", "auto")
        self._progress = Progress(verbose)
        self._callbacks = list(fit_kwargs.get("callbacks") or [])
        super().search(*fit_args, **fit_kwargs)

    def _check_data(self, data: FitData) -> None:
        model = self.hypermodel.source.example
        data.check(model)
        data.callbacks()
        batches, _ = keras_private.batches(data.inspected)
        batch = next(batches)
        first = batch[0] if isinstance(batch, tuple | list) else batch
        self.hypermodel.sample = first
        inspect_batches(model, data.inspected, [f.name for f in self.fields])
        self._check_objective(model, batch)

    def _check_objective(self, model: keras.Model, batch: Any) -> None:
        """Scores one batch, to see whether the objective is there at all."""
        objective = self.oracle.objective
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        names = dict(zip(("x", "y", "sample_weight"), parts, strict=False))
        data = FitData(names, dict(names), {})
        with keras_private.training_with(model, model.optimizer, eager=True):
            with keras_private.metrics_unchanged(model):
                evaluate(model, data, objective)

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
            score = self.hypermodel.fit(hp, model, *fit_args, **kwargs)
        except Exception as error:
            self._progress.fail(proposal, error)
            if proposal.stage != "retrain":
                raise FatalStageError(_failure(proposal, error)) from error
            raise keras_tuner.errors.FailedTrialError(
                _failure(proposal, error)
            ) from error
        return score

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        if trial.status != "COMPLETED":
            return
        result = self._result(self.oracle.get_trial(trial.trial_id))
        self._progress.end(result)
        for callback in self._callbacks:
            if hasattr(callback, "on_stage_end"):
                callback.on_stage_end(result)

    def on_search_end(self) -> None:
        error = getattr(self.oracle, "error", None)
        if error is not None:
            raise error
        failed = [t for t in self.oracle.trials.values() if t.status == "FAILED"]
        if failed and not self.oracle.get_best_trials():
            raise StageError(
                "No stage of the search gave a model within the budget. Received: "
                f"{failed[-1].message} Correct what it names and search again with "
                "overwrite=True."
            )

    # What was found.

    def get_best_models(self, num_models: int = 1) -> list[keras.Model]:
        """The best small models, best first, compiled and ready to use."""
        return list(super().get_best_models(num_models))

    def get_best_plans(self, num_plans: int = 1) -> list[DimensionPlan]:
        """The plans of the best models, best first."""
        trials = self.oracle.get_best_trials(num_plans)
        return [DimensionPlan.load(self._files(t).plan) for t in trials]

    def plan_for(self, budget: Budget | float | str) -> DimensionPlan:
        """The plan for any budget, from the saliency measured already."""
        plan: DimensionPlan = self.oracle.plan_for(budget)
        return plan

    def results(self) -> list[StageResult]:
        """What every ended stage found, in order."""
        trials = [self.oracle.get_trial(name) for name in self.oracle.end_order]
        return [self._result(t) for t in trials if t.status == "COMPLETED"]

    def load_model(self, trial: Any) -> keras.Model:
        """Loads the model of a trial."""
        source = self.hypermodel.source
        model = source.load(self._files(trial).model)
        compile_like(source.example, model)
        return model

    def search_space_summary(self, extended: bool = False) -> None:
        """Prints the tables and the budgets."""
        print(tables.to_text(tables.space_table(self.fields, self.budgets)))

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints every budget's result and the plan of the best one."""
        results = self.results()
        print(tables.to_text(tables.results_table(results[-num_trials - 2 :])))
        best = self.oracle.get_best_trials(1)
        if best:
            result = self._result(best[0])
            assert result.plan is not None
            print(tables.to_text(tables.plan_table(result.plan, result.saliency)))

    # How a stage is told of.

    def _files(self, trial: Any) -> TrialFiles:
        return TrialFiles(self.get_trial_dir(trial.trial_id))

    def _stage_index(self, trial: Any) -> int:
        return int(trial.trial_id)

    def _num_stages(self) -> int:
        return self.method.num_stages(self.oracle.state)

    def _stage_callbacks(self, trial: Any, callbacks: Any) -> list[Any]:
        values = trial.hyperparameters.values
        what = values.get("eds/budget", values["eds/stage"])
        name = f"{self._stage_index(trial)}-{what}"
        copies = FitData({}, None, {"callbacks": callbacks}).callbacks()
        for callback in copies:
            if hasattr(callback, "on_stage_end"):
                callback.stage_name = name
            if isinstance(callback, keras.callbacks.TensorBoard):
                # Stages that write to one folder would overwrite each other.
                callback.log_dir = str(Path(callback.log_dir) / name)
        return list(copies)

    def _result(self, trial: Any) -> StageResult:
        files = self._files(trial)
        proposal, outcome = read_proposal(trial.hyperparameters, files.folder), None
        outcome = files.read_outcome()
        objective = self.oracle.objective
        before = outcome.get("before")
        return StageResult(
            index=self._stage_index(trial),
            stage=proposal.stage,
            method=self.method.name,
            objective=objective.name,
            direction=objective.direction,
            score=float(trial.score),
            seconds=outcome["seconds"],
            budget=proposal.budget,
            plan=proposal.plan,
            score_before=None if before is None else objective.get_value(before),
            full_score=self._full_score(),
            saliency=self._saliency(),
            metrics=outcome["after"],
            settings=proposal.settings,
        )

    def _full_score(self) -> float | None:
        for trial in self.oracle.trials.values():
            stage = trial.hyperparameters.values.get("eds/stage")
            if stage != "retrain" and trial.status == "COMPLETED":
                return float(trial.score)
        return None

    def _saliency(self) -> dict[str, float] | None:
        saliency = getattr(self.method, "saliency", None)
        state = self.oracle.observe_ended()
        if saliency is None or not any(o for _, o in state.done("probe")):
            return None
        return dict(saliency(state))


def _failure(proposal: Any, error: Exception) -> str:
    budget = "" if proposal.budget is None else f" for {proposal.budget.label}"
    return f"Stage {proposal.stage!r}{budget} failed: {type(error).__name__}: {error}"
