"""What a search has found, as it is asked for and printed."""

from __future__ import annotations

import json
from typing import Any

import keras
from keras_tuner.engine.base_tuner import BaseTuner

from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.methods import Method
from keras_eds.plan import DimensionPlan
from keras_eds.reporting import tables
from keras_eds.reporting.steps import cost_line
from keras_eds.results import StageResult
from keras_eds.tuners.oracle import EDSOracle
from keras_eds.tuners.trial_files import TrialFiles, read_proposal


class SearchResults(BaseTuner):
    """The part of a search that reads finished trials and starts nothing."""

    fields: list[Field]
    budgets: list[Budget]
    method: Method
    _eds_oracle: EDSOracle

    def get_best_models(
        self, num_models: int = 1, budget: Budget | float | str | None = None
    ) -> list[keras.Model]:
        """The best small models, best first, compiled and ready to use.

        Args:
            num_models: How many at most.
            budget: One of the budgets searched: only models for that one. Defaults
                to None: the best of all.

        Raises:
            BudgetError: If `budget` was not searched.
        """
        trials = self._known().get_best_trials(num_models, budget)
        return [self.load_model(trial) for trial in trials]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[Any]:
        """The values of the best trials, best first."""
        return [t.hyperparameters for t in self._known().get_best_trials(num_trials)]

    def get_best_plans(
        self, num_plans: int = 1, budget: Budget | float | str | None = None
    ) -> list[DimensionPlan]:
        """The plans of the best models, best first; see `get_best_models`."""
        trials = self._known().get_best_trials(num_plans, budget)
        return [DimensionPlan.load(self._files(t).plan) for t in trials]

    def plan_for(self, budget: Budget | float | str) -> DimensionPlan:
        """The plan for any budget, from what was measured already.

        Of sizes for ids and widths of fields, what was best at the budget searched
        that is nearest.
        """
        plan: DimensionPlan = self._known().plan_for(budget)
        return plan

    def results(self) -> list[StageResult]:
        """What every ended stage found, in order."""
        known = self._known()
        trials = [known.get_trial(name) for name in known.end_order]
        return [self._result(known, t) for t in trials if t.status == "COMPLETED"]

    def load_model(self, trial: Any) -> keras.Model:
        """Loads the model of a trial."""
        folder = self.get_trial_dir(trial.trial_id)
        return self.hypermodel.load(trial.hyperparameters, folder)

    def search_space_summary(self, extended: bool = False) -> None:
        """Prints the tables and the budgets."""
        print(tables.to_text(tables.space_table(self.fields, self.budgets)))

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints the best budgets' results and the plan of the best one."""
        known = self._known()
        best = [int(trial.trial_id) for trial in known.get_best_trials(num_trials)]
        shown = [
            result
            for result in self.results()
            if result.stage not in ("retrain", "step") or result.index in best
        ]
        print(tables.to_text(tables.results_table(shown)))
        cost = cost_line(self.results())
        if cost:
            print(cost)
        for trial in known.failed_trials():
            print(self._files(trial).read_failure())
        if best:
            result = next(r for r in shown if r.index == best[0])
            assert result.plan is not None
            print(tables.to_text(tables.plan_table(result.plan, result.saliency)))

    @property
    def remaining_trials(self) -> int:
        """How many stages are still to be run."""
        return max(0, self._num_stages() - len(self._known().end_order))

    def _known(self) -> EDSOracle:
        """The oracle with all that is known; a worker reads what the chief wrote."""
        if self._is_worker():
            self._eds_oracle.follow()
        return self._eds_oracle

    def _files(self, trial: Any) -> TrialFiles:
        return TrialFiles(self.get_trial_dir(trial.trial_id))

    def _stage_index(self, trial: Any) -> int:
        return int(trial.trial_id)

    def _num_stages(self) -> int:
        return self.method.num_stages(self._eds_oracle.state)

    def _result(self, known: EDSOracle, trial: Any) -> StageResult:
        files = self._files(trial)
        proposal = read_proposal(trial.hyperparameters, files.folder)
        outcome = files.read_outcome()
        objective = known.objective
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
            plan=proposal.plan if proposal.stage == "retrain" else None,
            score_before=None if before is None else objective.get_value(before),
            full_score=_full_score(known),
            saliency=self._saliency(known),
            metrics={**outcome["after"], **self._figures(known, trial)},
            settings=proposal.settings,
        )

    def _figures(self, known: EDSOracle, trial: Any) -> dict[str, float]:
        """What the method knows of a step, besides what the step measured."""
        figures = getattr(self.method, "figures", None)
        steps = [
            name
            for name in known.end_order
            if known.trials[name].status == "COMPLETED"
            and known.trials[name].hyperparameters.values["eds/stage"] == "step"
        ]
        if figures is None or trial.trial_id not in steps:
            return {}
        return dict(figures(known.observe_ended())[steps.index(trial.trial_id)])

    def _saliency(self, known: EDSOracle) -> dict[str, float] | None:
        saliency = getattr(self.method, "saliency", None)
        state = known.observe_ended()
        if saliency is None or not any(o for _, o in state.done("probe")):
            return None
        return dict(saliency(state))


def _full_score(known: EDSOracle) -> float | None:
    for trial in known.trials.values():
        values = trial.hyperparameters.values
        stage = values.get("eds/stage")
        if stage not in ("pretrain", "probe") or trial.status != "COMPLETED":
            continue
        # Ids can be counted before anything is trained.
        counted = stage == "probe" and json.loads(values["eds/settings"]).get("counts")
        if known.trained or not counted:
            return float(trial.score)
    return None
