"""Drives any method as KerasTuner trials."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import keras_tuner

from keras_eds import methods
from keras_eds.budget import Budget, parse_budgets
from keras_eds.errors import ProjectError
from keras_eds.field import Field
from keras_eds.methods import Method, Outcome, Proposal, SearchState
from keras_eds.plan import DimensionPlan
from keras_eds.tuners.trial_files import TrialFiles, proposal_values, read_proposal

Budgets = Budget | float | str | Sequence[Budget | float | str]


class EDSOracle(keras_tuner.Oracle):
    """Turns a method's proposals into trials, and trials into observations.

    The state of the method is not stored: it follows from the trials that have
    ended, in their order, so a search resumes wherever it was stopped.

    Args:
        fields: The tables to search, as from `keras_eds.find_fields`.
        budget: A budget or a list of them, as in `keras_eds.EDSSearch`.
        method: A name or a `Method`. Defaults to `"sseds"`.
        objective: A metric's name or a `keras_tuner.Objective`. Defaults to
            `"val_loss"`.
        trained: Whether the model is trained already. Defaults to False.
        seed: Seed of the search. Defaults to a random one.
        **kwargs: `max_retries_per_trial`, `max_consecutive_failed_trials` of
            `keras_tuner.Oracle`.

    Raises:
        BudgetError: If a budget is smaller than the least possible.

    Example:

    >>> oracle = EDSOracle(keras_eds.find_fields(model), budget=[0.1, 0.05])
    >>> hypermodel = EDSHyperModel(model)
    >>> tuner = keras_tuner.Tuner(oracle=oracle, hypermodel=hypermodel)
    """

    def __init__(
        self,
        fields: Sequence[Field],
        budget: Budgets,
        method: str | Method = "sseds",
        objective: Any = None,
        trained: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        # Failures of different budgets say nothing about each other.
        kwargs.setdefault("max_consecutive_failed_trials", None)
        super().__init__(
            objective="val_loss" if objective is None else objective,
            seed=seed,
            **kwargs,
        )
        if seed is not None:
            self.seed = seed
        self.fields = list(fields)
        self.budgets = parse_budgets(budget)
        self.method = methods.get(method)
        self.trained = trained
        self.error: BaseException | None = None
        self._start()

    def _start(self) -> None:
        self.state: SearchState = self.method.start(
            self.fields, self.budgets, self.seed, self.trained
        )
        self._observed = 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next proposal as a trial."""
        # An exception here would leave KerasTuner's lock held for ever.
        try:
            return self._next_trial(trial_id)
        except Exception as error:
            self.error = error
            traceback.print_exc()
            return {"status": "STOPPED"}

    def _next_trial(self, trial_id: str) -> dict[str, Any]:
        self.observe_ended()
        pending = [read_proposal(t.hyperparameters, self.files(t.trial_id).folder)
                   for t in self.ongoing_trials.values()]  # fmt: skip
        proposal = self.method.propose(self.state, pending)
        if proposal is None:
            return {"status": "STOPPED"}
        if proposal == "wait":
            return {"status": "IDLE"}
        assert isinstance(proposal, Proposal)
        values = proposal_values(proposal, self.files(trial_id))
        values["eds/seed"] = self.seed + len(self.trials)
        values["eds/objective"] = {
            "name": self.objective.name,
            "direction": self.objective.direction,
        }
        return {"status": "RUNNING", "values": values}

    def files(self, trial_id: str) -> TrialFiles:
        """The files of a trial."""
        return TrialFiles(self._get_trial_dir(trial_id))

    def observe_ended(self) -> SearchState:
        """Lets the method see the trials that have ended since."""
        for trial_id in self.end_order[self._observed :]:
            trial, files = self.trials[trial_id], self.files(trial_id)
            proposal = read_proposal(trial.hyperparameters, files.folder)
            outcome = None
            if trial.status == "COMPLETED":
                outcome = Outcome(trial.score, files.read_measurements())
            self.state = self.method.observe(self.state, proposal, outcome)
            self._observed += 1
        return self.state

    def plan_for(self, budget: Budget | float | str) -> DimensionPlan:
        """The plan for any budget, from what was measured already."""
        parsed = Budget.parse(budget)
        self.method.start(self.fields, [parsed], self.seed, self.trained)
        return self.method.plan(self.observe_ended(), parsed)

    def get_best_trials(self, num_trials: int = 1) -> list[Any]:
        """The best trials among those that trained a model within a budget."""
        done = [
            trial
            for trial in self.trials.values()
            if trial.status == "COMPLETED"
            and trial.hyperparameters.values.get("eds/stage") == "retrain"
        ]
        best_first = self.objective.direction == "max"
        done.sort(key=lambda trial: trial.score, reverse=best_first)
        return done[:num_trials]

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()
        state["eds_seed"] = self.seed
        return dict(state)

    def set_state(self, state: dict[str, Any]) -> None:
        try:
            super().set_state(state)
            self.seed = state["eds_seed"]
        except (KeyError, TypeError, ValueError) as error:
            raise ProjectError(
                "`directory` must hold a project of this library. Received: an "
                f"oracle.json without {error}. Start again with overwrite=True."
            ) from error
        self._start()


class SSEDSOracle(EDSOracle):
    """`EDSOracle` with the method SSEDS.

    Args:
        fields: The tables to search.
        budget: A budget or a list of them.
        objective: A metric's name or a `keras_tuner.Objective`.
        trained: Whether the model is trained already.
        seed: Seed of the search.
        max_retries_per_trial: How often to repeat a stage that failed.
        **options: The arguments of `keras_eds.methods.SSEDS`.

    Example:

    >>> oracle = SSEDSOracle(fields, budget=0.1, basis="columns")
    """

    def __init__(
        self,
        fields: Sequence[Field],
        budget: Budgets,
        objective: Any = None,
        trained: bool = False,
        seed: int | None = None,
        max_retries_per_trial: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            fields,
            budget,
            methods.SSEDS(**options),
            objective,
            trained,
            seed,
            max_retries_per_trial=max_retries_per_trial,
        )
