"""Drives any method as KerasTuner trials."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from keras_eds import methods
from keras_eds.budget import Budget, parse_budgets
from keras_eds.errors import BudgetError, PlanError, ProjectError
from keras_eds.field import Field
from keras_eds.id_quality import Qualities
from keras_eds.learned_sizes import LearnedSizes
from keras_eds.measurements import Measurements
from keras_eds.methods import Method, Outcome, Proposal, SearchState
from keras_eds.methods.room import check_room
from keras_eds.plan import DimensionPlan
from keras_eds.tuners.saved_oracle import SavedOracle
from keras_eds.tuners.trial_files import TrialFiles, proposal_values, read_proposal

# How long a worker that has to wait is held back, so that it does not ask at once.
IDLE_SECONDS = 0.1

Budgets = Budget | float | str | Sequence[Budget | float | str]


class EDSOracle(SavedOracle):
    """Turns a method's proposals into trials, and trials into observations.

    The state of the method is not stored: it follows from the trials that have
    ended, in their order, so a search resumes wherever it was stopped.

    Args:
        fields: The tables to search, as from `keras_eds.find_fields`.
        budget: A budget or a list of them, as in `keras_eds.EDSSearch`.
        method: A name or a `Method`. Defaults to `"principal_rows"`.
        objective: A metric's name or a `keras_tuner.Objective`. Defaults to
            `"val_loss"`.
        trained: Whether the model is trained already. Defaults to False.
        seed: Seed of the search. Defaults to a random one.
        **kwargs: `max_retries_per_trial`, `max_consecutive_failed_trials` of
            `keras_tuner.Oracle`.

    Raises:
        BudgetError: If a budget is smaller than the least possible, or has room for
            nothing.

    Example:

    >>> oracle = EDSOracle(keras_eds.find_fields(model), budget=[0.1, 0.05])
    >>> hypermodel = EDSHyperModel(model)
    >>> tuner = keras_tuner.Tuner(oracle=oracle, hypermodel=hypermodel)
    """

    def __init__(
        self,
        fields: Sequence[Field],
        budget: Budgets,
        method: str | Method = "principal_rows",
        objective: Any = None,
        trained: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        # Failures of different budgets say nothing about each other.
        kwargs.setdefault("max_consecutive_failed_trials", None)
        check_seed(seed)
        if isinstance(objective, list | tuple):
            raise ValueError(
                "`objective` must be one metric. Received: "
                f"objective={objective!r}. Choose the one that decides."
            )
        super().__init__(
            objective="val_loss" if objective is None else objective,
            seed=seed,
            **kwargs,
        )
        if seed is not None:
            # KerasTuner takes a seed of 0 for none.
            self.seed = seed
        self._chosen_seed = seed
        self.fields = list(fields)
        self.budgets = parse_budgets(budget)
        self.method = methods.get(method)
        for known in self.budgets:
            check_room(self.fields, known, self.method)
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
            answer = self._next_trial(trial_id)
        except Exception as error:
            self.error = error
            return {"status": "STOPPED"}
        if answer["status"] == "IDLE":
            time.sleep(IDLE_SECONDS)
        return answer

    def _next_trial(self, trial_id: str) -> dict[str, Any]:
        self.observe_ended()
        pending = [read_proposal(t.hyperparameters, self.files(t.trial_id).folder)
                   for t in self.ongoing_trials.values()]  # fmt: skip
        proposal = self.method.propose(self.state, pending)
        if proposal is None and not pending:
            return {"status": "STOPPED"}
        if proposal is None or proposal == "wait":
            # Until all have ended: one that fails may be run again here.
            return {"status": "IDLE"}
        assert isinstance(proposal, Proposal)
        if proposal.plan is not None and proposal.budget is not None:
            _check_fits(proposal.plan, proposal.budget)
        values = proposal_values(proposal, self.files(trial_id))
        values["eds/seed"] = self.seed + len(self.trials)
        objective = [self.objective.name, self.objective.direction]
        # As text: workers can be sent plain values only.
        values["eds/objective"] = json.dumps(objective)
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
                outcome = Outcome(
                    trial.score,
                    self._measurements(files),
                    self._learned(files),
                    self._qualities(files),
                )
            self.state = self.method.observe(self.state, proposal, outcome)
            self._observed += 1
        return self.state

    def _measurements(self, files: TrialFiles) -> Measurements | None:
        measured = files.read_measurements()
        return None if measured is None else Measurements(self._by_field(measured))

    def _learned(self, files: TrialFiles) -> LearnedSizes | None:
        learned = files.read_learned()
        return None if learned is None else LearnedSizes(self._by_field(learned))

    def _qualities(self, files: TrialFiles) -> Qualities | None:
        found = files.read_qualities()
        return None if found is None else Qualities(self._by_field(found))

    def _by_field(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # By order: in another process, unnamed layers may be numbered otherwise.
        names = [field.name for field in self.fields]
        return dict(zip(names, values.values(), strict=True))

    def create_trial(self, tuner_id: str) -> Any:
        """The next trial; raises what kept the method from proposing one."""
        self.error = None
        trial = super().create_trial(tuner_id)
        # Here KerasTuner holds no lock. A chief tells when its workers have ended.
        if self.error is not None and "KERASTUNER_ORACLE_IP" not in os.environ:
            raise self.error
        return trial

    def plan_for(self, budget: Budget | float | str) -> DimensionPlan:
        """The plan for any budget, from what was measured already.

        Of several draws, such as sizes for ids and widths of fields, that which was
        best at the budget searched that is nearest.

        Raises:
            BudgetError: If nothing of any table fits in.
        """
        parsed = Budget.parse(budget)
        check_room(self.fields, parsed, self.method)
        self.method.start(self.fields, [parsed], self.seed, self.trained)
        draw = self._best_draw(parsed)
        return _check_fits(self.method.plan(self.observe_ended(), parsed, draw), parsed)

    def _best_draw(self, budget: Budget) -> int:
        best = [
            read_proposal(trial.hyperparameters)
            for trial in self.get_best_trials(len(self.trials))
        ]
        if not best:
            return 0
        share = math.log(budget.share(self.fields))

        def distance(proposal: Proposal) -> float:
            assert proposal.budget is not None
            return abs(math.log(proposal.budget.share(self.fields)) - share)

        return int(min(best, key=distance).settings["draw"])

    def get_best_trials(
        self, num_trials: int = 1, budget: Budget | float | str | None = None
    ) -> list[Any]:
        """The best trials among those that trained a model within a budget.

        Best first; of equals, the smallest.

        Args:
            num_trials: How many at most.
            budget: Only those for this one. Defaults to None: for any.

        Raises:
            BudgetError: If `budget` was not searched.
        """
        labels = [known.label for known in self.budgets]
        wanted = labels if budget is None else [Budget.parse(budget).label]
        if not set(wanted) <= set(labels):
            raise BudgetError(
                f"`budget` must be one that was searched, of {labels}. Received: "
                f"budget={budget!r}. Choose one of these, or search it."
            )
        done = [
            trial
            for trial in self.trials.values()
            if trial.status == "COMPLETED"
            and trial.hyperparameters.values.get("eds/stage") == "retrain"
            and trial.hyperparameters.values["eds/budget"] in wanted
            and trial.score is not None
        ]
        sign = -1 if self.objective.direction == "max" else 1
        done.sort(
            key=lambda trial: (
                sign * trial.score,
                trial.hyperparameters.values["eds/bytes"],
            )
        )
        return done[:num_trials]

    def reload(self) -> None:
        """Reads what was saved; the method sees all trials anew.

        Raises:
            ProjectError: If a file is missing or damaged.
        """
        super().reload()
        self._start()

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()
        return {**state, "eds_seed": self.seed, "eds_trained": self.trained}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.seed, self.trained = state["eds_seed"], state["eds_trained"]
        if self._chosen_seed not in (None, self.seed):
            raise ProjectError(
                "`seed` must be None or that of the search that goes on, "
                f"{self.seed}. Received: seed={self._chosen_seed}. Choose another "
                "project_name, or start anew with overwrite=True."
            )


def _check_fits(plan: DimensionPlan, budget: Budget) -> DimensionPlan:
    """Holds every method to the budget, whatever it plans."""
    if not plan.fits(budget):
        raise PlanError(
            f"A plan for {budget.label} must fit it. Received: one of "
            f"{plan.amount(budget)} {budget.unit}. This is an error of the method: "
            "report it, and take another one."
        )
    return plan


def check_seed(seed: object) -> None:
    """Refuses what cannot seed Keras's generators."""
    if seed is None or (isinstance(seed, int) and not isinstance(seed, bool)):
        if seed is None or 0 <= seed < 2**31:
            return
    raise ValueError(
        "`seed` must be None or an integer from 0 to 2**31 - 1. "
        f"Received: seed={seed!r}. Give such a number."
    )
