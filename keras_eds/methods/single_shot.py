"""The course of every method that plans once: pre-train, probe, retrain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from keras_eds.argument_checks import check_choice, check_integer
from keras_eds.budget import Budget
from keras_eds.methods.base import Method, Proposal, SearchState, Wait, WarmStart
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import ALIGNMENTS, Alignment

Pretrain = bool | Literal["auto"]
# A probe that only counts ids: it needs no trained model.
COUNTS = {"data": "train", "counts": True}


class SingleShot(Method):
    """Pre-trains if needed, probes if needed, retrains once for every budget.

    Args:
        pretrain: Whether to train the full model first. `"auto"`: unless the
            model was trained already, and only if its values are needed.
        probe: Settings of the probe, or None for a method that needs none.
        warm_start: Where retraining starts. `"all"`: every trained value.
            `"tables"`: trained tables, other layers drawn anew. `"initial"`: the
            values before training. `"fresh"`: everything drawn anew.
        alignment: `"plan"` or `"random"` start of the alignment projections, or
            `"fixed"`: the plan's, which do not learn. Adam moves an alignment in
            every batch as far as it moves a row only when that comes; where two
            vectors meet in an inner product alone, that can undo what was kept.
        draws: How many plans to try for each budget. One that is the same as another
            is not trained again.
    """

    def __init__(
        self,
        pretrain: Pretrain,
        probe: dict[str, Any] | None,
        warm_start: WarmStart,
        alignment: Alignment,
        draws: int = 1,
    ) -> None:
        check_choice("pretrain", pretrain, (True, False, "auto"))
        check_choice("warm_start", warm_start, ("all", "tables", "initial", "fresh"))
        check_choice("alignment", alignment, ALIGNMENTS)
        draws = check_integer("draws", draws)
        self.pretrain = pretrain
        self.probe = probe
        self.warm_start = warm_start
        self.alignment = alignment
        self.draws = draws

    def propose(
        self, state: SearchState, pending: Sequence[Proposal] = ()
    ) -> Proposal | Wait | None:
        for proposal in self._preparations(state):
            finished = state.done(proposal.stage)
            if any(entry.stage == proposal.stage for entry in pending):
                return "wait"
            if not finished:
                return proposal
            if finished[-1][1] is None:
                return None
        begun = [proposal for proposal, _ in state.done("retrain")] + list(pending)
        for budget in state.budgets:
            mine = [p.settings for p in begun if p.budget == budget]
            draws = mine[0]["draws"] if mine else self._distinct_draws(state, budget)
            taken = {settings["draw"] for settings in mine}
            for draw in draws:
                if draw not in taken:
                    proposal = self._retrain(state, budget, draw)
                    settings = {**proposal.settings, "draw": draw, "draws": draws}
                    return replace(proposal, settings=settings)
        return None

    def num_stages(self, state: SearchState) -> int:
        """How many stages a search has in all; at most, before a budget's first."""
        number = {p.budget: len(p.settings["draws"]) for p, _ in state.done("retrain")}
        retrainings = sum(number.get(budget, self.draws) for budget in state.budgets)
        return len(self._preparations(state)) + retrainings

    def _distinct_draws(self, state: SearchState, budget: Budget) -> list[int]:
        """The draws whose plan is not that of an earlier one."""
        if self.draws == 1:
            return [0]
        first: dict[DimensionPlan, int] = {}
        for draw in range(self.draws):
            first.setdefault(self.plan(state, budget, draw), draw)
        return list(first.values())

    def _preparations(self, state: SearchState) -> list[Proposal]:
        wanted = self.pretrain
        if wanted == "auto":
            measured = self.probe is not None and not self.probe.get("counts")
            needed = measured or self.warm_start in ("all", "tables")
            wanted = needed and not state.trained
        keep_initial = self.warm_start == "initial"
        stages = []
        if wanted:
            stages.append(Proposal("pretrain", settings={"keep_initial": keep_initial}))
        if self.probe is not None:
            stages.append(Proposal("probe", settings=self.probe))
        return stages

    def _retrain(self, state: SearchState, budget: Budget, draw: int) -> Proposal:
        settings = {
            "warm_start": self.warm_start,
            "alignment": self.alignment,
        }
        plan = self.plan(state, budget, draw)
        return Proposal("retrain", plan, budget, settings)
