"""CIESS: agents try sizes for all ids, and the best that they came by are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_eds.budget import Budget
from keras_eds.errors import StageError
from keras_eds.field import total_parameters
from keras_eds.layers.masked_twin_checks import check_number
from keras_eds.methods.base import Outcome, Proposal, SearchState, Wait, WarmStart
from keras_eds.methods.ciess import noise as noises
from keras_eds.methods.ciess.agent import Agent
from keras_eds.methods.ciess.course import Course, sizes_in
from keras_eds.methods.ciess.field_agent import agent_options
from keras_eds.methods.ciess.reward import Reward
from keras_eds.methods.scaled_rows import scaled_rows
from keras_eds.methods.single_shot import SingleShot, check_choice, check_count
from keras_eds.methods.sseds import measurements_of
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment

# So much of all trainings is left to the steps, however many budgets there are.
LEAST_FOR_STEPS = 2.0
# Ids are counted, and the full model's quality is measured.
PROBE = {"data": "validation", "counts": True, "quality": True}


class CIESS(SingleShot):
    """Lets an agent for every field try sizes, and keeps the best that were seen.

    A step gives every id a size d, masks what lies beyond it, trains for a short
    while and measures each id's quality: the mean score of the validation examples
    that carry it, `1 / (1 + loss)`. The agents (TD3 with a random walk, see
    `ciess.Agent`) learn from

        r = q - penalty * (d / D)^2,    q = min(quality / quality_full, 1)

    with D the width of the table and `quality_full` that of the trained full-size
    model. A search has `episodes` of `iterations` steps; an episode begins at full
    width.

    **The plan.** Under each budget, the `top` steps of the largest mean q are
    retrained, of those whose sizes add up to no more than the budget's share of all
    table values. Where less than `top` do, the steps with the fewest values follow.
    The sizes of a step are multiplied by the one number at which all tables fit the
    budget, index included (`scaled_rows`). Ids that never come in the training data
    keep the least size, `low`.

    **Departures from the paper**, where a step trains a new model from scratch
    (`fresh=True`): here it starts from the trained full-size model and trains a
    share of a training. In the paper quality is a ranking metric of users, and for
    an item the mean over its users; here it is made of the compiled loss, for the
    ids of any field. A loss moves less than a ranking metric, so that `penalty`
    counts for more. A masked plan has any number of values in the paper; here it
    fits in bytes. Walk and noise are scaled by D / 128.

    **The cost**, in trainings of the full model, is 1 (a model that is not trained
    yet) + the steps + `top` for each budget; the steps are as long as brings that
    to `trainings`, but at least 2 together, and each at least one batch. Measuring
    costs two passes over the validation data a step.

    **Resuming.** Nothing of the agents is stored: they see all finished steps again,
    which takes seconds and gives the same sizes.

    Args:
        episodes: How often to begin anew at full width. Defaults to 3 (paper: 30).
        iterations: Steps of an episode. Defaults to 10.
        penalty: lambda, from 0. Defaults to 0.1 (paper: 0.4 and 0.2, by data).
        top: How many of the plans seen to retrain for each budget. Defaults to 2.
        low: Least size. Defaults to 1.
        updates: Steps of TD3 after each step. Defaults to 15 (paper: 1).
        trainings: What all of it may cost, see above. Defaults to 10.
        steps: Batches to train in a step. Defaults to None: what `trainings` says.
        fresh: Whether each step is a whole training from scratch.
        agent: Other options of `ciess.Agent`, as in `{"td3": {"gamma": 0.5}}`.
        warm_start: Where retraining starts; see `SingleShot`. Defaults to
            `"fresh"` (paper).
        alignment: `"plan"` or `"random"`, of tables whose ids all got one size.
            Defaults to `"random"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, [0.2, 0.1], method="ciess")

    Reference:
        Qu et al., Continuous Input Embedding Size Search for Recommender Systems,
        SIGIR 2023, arXiv 2304.03501.
    """

    name = "ciess"
    granularity = "row"

    def __init__(
        self,
        episodes: int = 3,
        iterations: int = 10,
        penalty: float = 0.1,
        top: int = 2,
        low: int = 1,
        updates: int = 15,
        trainings: float = 10.0,
        steps: int | None = None,
        fresh: bool = False,
        agent: Mapping[str, Any] | None = None,
        warm_start: WarmStart = "fresh",
        alignment: Alignment = "random",
    ) -> None:
        check_count("top", top, 1)
        super().__init__("auto", PROBE, warm_start, alignment, draws=top)
        for name, count in (("episodes", episodes), ("iterations", iterations)):
            check_count(name, count, 1)
        check_count("low", low, 0)
        if steps is not None:
            check_count("steps", steps, 1)
        check_choice("fresh", fresh, (True, False))
        if top > episodes * iterations:
            raise ValueError(
                "`top` must be at most episodes * iterations, the number of steps. "
                f"Received: top={top} of {episodes * iterations}. Lower it."
            )
        self.episodes = episodes
        self.iterations = iterations
        self.penalty = penalty
        self.top = top
        self.low = low
        self.updates = updates
        self.trainings = check_number("trainings", trainings, above=True)
        self.steps = steps
        self.fresh = fresh
        self.agent = dict(agent or {})
        if "noise" in self.agent:
            self.agent["noise"] = noises.to_config(noises.get(self.agent["noise"]))
        self._course: tuple[Any, list[Any], Course] | None = None
        # Refuse what they would refuse, before any work.
        Reward(1, penalty)
        check_count("updates", updates, 0)
        Agent(low, low + 1, **agent_options(1, self.agent))

    @property
    def num_steps(self) -> int:
        """How many sizes are tried."""
        return self.episodes * self.iterations

    def check(self, state: SearchState) -> None:
        nothing = [np.zeros(field.input_dim) for field in state.fields]
        for budget in state.budgets:
            scaled_rows(state.fields, lambda _: nothing, budget, self.low)

    def propose(
        self, state: SearchState, pending: Sequence[Proposal] = ()
    ) -> Proposal | Wait | None:
        probed = any(outcome is not None for _, outcome in state.done("probe"))
        seen = state.done("step")
        failed = any(outcome is None for _, outcome in seen)
        if not probed or (len(seen) == self.num_steps and not failed):
            return super().propose(state, pending)
        if pending:
            return "wait"
        if failed:
            return None
        settings = {
            "batches": None if self.fresh else self.steps,
            "share": 1.0 if self.fresh else self.share(state),
            "fresh": self.fresh,
        }
        return Proposal("step", self._followed(state).propose(), settings=settings)

    def share(self, state: SearchState) -> float:
        """How long a step trains, by a training of the full model."""
        others = len(state.budgets) * self.top + (not state.trained)
        left = max(self.trainings - others, LEAST_FOR_STEPS)
        return min(1.0, left / self.num_steps)

    def num_stages(self, state: SearchState) -> int:
        return super().num_stages(state) + self.num_steps

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        step = self._best(state, budget)[draw]
        sizes, counts = sizes_in(_seen(state)[step]), _counts(state).values()
        known = [s * (c > 0) for s, c in zip(sizes, counts, strict=True)]
        return scaled_rows(
            state.fields, lambda x: [np.exp(x) * k for k in known], budget, self.low
        )

    def _best(self, state: SearchState, budget: Budget) -> list[int]:
        """The steps in the order in which a budget wants them."""
        values = np.array(
            [sum(int(s.sum()) for s in sizes_in(plan)) for plan in _seen(state)]
        )
        quality = np.array(self._followed(state).qualities)
        fits = values <= budget.share(state.fields) * total_parameters(state.fields)
        order = np.lexsort((-quality, np.where(fits, 0, values)))
        return [int(step) for step in order]

    def _preparations(self, state: SearchState) -> list[Proposal]:
        keep_initial = self.warm_start == "initial"
        first = Proposal("pretrain", settings={"keep_initial": keep_initial})
        probe = Proposal("probe", settings=PROBE)
        return [probe] if state.trained else [first, probe]

    def _followed(self, state: SearchState) -> Course:
        """The course up to the last finished step."""
        steps = state.done("step")
        outcomes = [outcome for _, outcome in steps]
        begun = state.done("probe")[-1][1]
        known = self._course
        # As far as it is the very same course, it need not be gone again.
        if known is None or known[0] is not begun or not _begins(outcomes, known[1]):
            known = (begun, [], self._new_course(state))
        for proposal, outcome in steps[len(known[1]) :]:
            assert outcome is not None and outcome.qualities is not None
            assert proposal.plan is not None
            known[2].observe(proposal.plan, outcome.qualities)
            known[1].append(outcome)
        self._course = known
        return known[2]

    def _new_course(self, state: SearchState) -> Course:
        full = state.done("probe")[-1][1]
        assert full is not None and full.qualities is not None
        return Course(
            state.fields,
            _counts(state),
            full.qualities,
            self.iterations,
            state.seed,
            low=self.low,
            penalty=self.penalty,
            options={"updates": self.updates, **self.agent},
        )


def _counts(state: SearchState) -> dict[str, np.ndarray]:
    measured, counts = measurements_of(state), {}
    for field in state.fields:
        of_field = measured[field.name].counts
        assert of_field is not None
        counts[field.name] = of_field
    return counts


def _begins(outcomes: list[Outcome | None], known: list[Any]) -> bool:
    """Whether `outcomes` begins with the very outcomes that are known."""
    pairs = zip(outcomes, known, strict=False)
    return len(known) <= len(outcomes) and all(one is other for one, other in pairs)


def _seen(state: SearchState) -> list[DimensionPlan]:
    """The sizes of all steps.

    Raises:
        StageError: If there is none.
    """
    plans = [p.plan for p, outcome in state.done("step") if outcome and p.plan]
    if not plans:
        raise StageError(
            "A plan needs sizes that were tried. Received: a search whose steps have "
            "not begun. Call search(...) first."
        )
    return plans
