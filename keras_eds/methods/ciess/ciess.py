"""CIESS: agents try sizes for all ids, and the best that they came by are kept."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from keras_eds.argument_checks import check_choice, check_integer, check_number
from keras_eds.budget import Budget
from keras_eds.id_quality import Qualities
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.ciess import noise as noises
from keras_eds.methods.ciess.agent import Agent
from keras_eds.methods.ciess.course import AgentCourse
from keras_eds.methods.ciess.field_agent import agent_options
from keras_eds.methods.ciess.reward import Reward
from keras_eds.methods.ciess.td3 import TD3
from keras_eds.methods.size_steps import Basis, SizeSteps, counts_of
from keras_eds.surgery.small_layer import Alignment


class CIESS(SizeSteps):
    """Lets an agent for every field try sizes, and keeps the best that were seen.

    A step gives every id a size d, masks what lies beyond it, trains for a short
    while and measures each id's quality: the mean score of the validation examples
    that carry it, `1 / (1 + loss)`, or what `quality` says. The agents (TD3 with a
    random walk, see `ciess.Agent`) learn from

        r = q - penalty * (d / D)^2,    q = min(quality / quality_full, 1)

    with D the width of the table and `quality_full` that of the trained full-size
    model. A search has `episodes` of `iterations` steps; an episode begins at full
    width and is for one of the budgets, in turn. Under each budget the `top` steps
    of the largest mean q are retrained, and one width a field; scores decide.

    **Departures from the paper**, each of which can be undone but the first two:

    - A step tries what fits the budget, index included: the sizes that the agents
      ask for, multiplied by one number (`scaled_rows`). In the paper sizes are of
      any sum, and those that happen to fit are kept.
    - What was learned under one price or for one budget counts for the next: costs
      are taken off remembered qualities anew.
    - `penalty=None` finds the price at which the agents ask for what fits; the
      paper tuned a number for each data set.
    - A step starts from the trained full-size model and trains a share of a
      training, masked along the principal directions of its tables; in the paper
      it trains a new model, masked along columns (`fresh=True`). Retraining goes on
      from what the full-size model knows along these directions, whose alignment
      counts and stays as it is (`alignment="plan"`: it learns); in the paper it
      begins anew (`warm_start="fresh"`, along columns).
    - Quality is made of the compiled loss, for the ids of any field; in the paper
      it is a ranking metric of users, and for an item the mean over its users
      (`quality=RankingQuality(...)`).
    - Agents see qualities less their mean in the step: what a step does to all ids
      says nothing of the size of one. Rewards have it taken off, too; what is left
      is multiplied by how many examples carry the id, by the mean number, as a
      quality made of a loss is a mean over examples. Then comes what the mean has
      gained since the first step for the same budget, the same for all ids of the
      table: without it the budget may drift to a table whose ids gain by it,
      whatever that does to all. (`relative=False` undoes this; there q is as it is,
      and every id counts alike.)
    - Between tables, mean sizes are asked for in a ratio at most `shift` times that
      of the best step for the same budget; before there is one, near the same share
      of each. An id's score says little of its own size where an example scores many
      ids of its table, as a ranking does items. (`shift=None` undoes this.)
    - For tens of steps in place of 300: `updates` steps of TD3 after each; the
      first three steps draw sizes evenly, as in TD3's paper; noise falls to nothing
      over an episode, so that its last step shows what was learned; networks of
      64 units see standardized states and learn what comes of a size at once
      (`gamma` 0: the next state says nothing of an id's needs that its next try
      does not). Walk and noise are scaled by D / 128. See `agent`.
    - Ids that never come in the training data keep the least size, `low`.

    **The cost** is at most `trainings`, unless steps of at least one batch, or 2
    trainings for all steps, exceed it; `steps` and `fresh=True`, where every step is
    a whole training, take no notice of it. Measuring costs two passes over the
    validation data a step.

    **Resuming.** Nothing of the agents is stored: they see all finished steps again,
    which takes seconds and gives the same sizes.

    Args:
        episodes: How often to begin anew at full width. Defaults to 3 (paper: 30).
        iterations: Steps of an episode. Defaults to 10.
        penalty: lambda, from 0. Defaults to None, see above (paper: 0.4 and 0.2).
        top: See `SizeSteps`. Defaults to 1.
        compare: See `SizeSteps`. Defaults to True (paper: False).
        low: Least size. Defaults to 1.
        updates: Steps of TD3 after each step. Defaults to 50 (paper: 1).
        trainings: What all of it may cost, see `SizeSteps`. Defaults to 10.
        steps: See `SizeSteps`. Defaults to None.
        fresh: See `SizeSteps`. Defaults to False.
        basis: See `SizeSteps`. Defaults to `"principal"`.
        quality: See `SizeSteps`. Defaults to None.
        reward: `"ratio"` for q (paper), or `"metric"` for the quality as it is
            (published code). Defaults to `"ratio"`.
        relative: See above. Defaults to True.
        shift: See above, at least 1. Defaults to 1.5.
        agent: Other options of `ciess.Agent`, as in `{"td3": {"gamma": 0.5}}` or,
            for no walk, `{"walk_length": 0}`; not `low`, `high`, `seed` nor TD3's
            `state_size`, which follow from the table and the search.
        warm_start: See `SizeSteps`. Defaults to None (paper: `"fresh"`).
        alignment: See `SizeSteps`. Defaults to `"fixed"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, [0.2, 0.1], method="ciess")

    Reference:
        Qu et al., Continuous Input Embedding Size Search for Recommender Systems,
        SIGIR 2023, arXiv 2304.03501.
    """

    name = "ciess"

    def __init__(
        self,
        episodes: int = 3,
        iterations: int = 10,
        penalty: float | None = None,
        top: int = 1,
        compare: bool = True,
        low: int = 1,
        updates: int = 50,
        trainings: float = 10.0,
        steps: int | None = None,
        fresh: bool = False,
        basis: Basis = "principal",
        quality: Callable[[Any], Any] | None = None,
        reward: Literal["ratio", "metric"] = "ratio",
        relative: bool = True,
        shift: float | None = 1.5,
        agent: Mapping[str, Any] | None = None,
        warm_start: WarmStart | None = None,
        alignment: Alignment = "fixed",
    ) -> None:
        self.episodes = check_integer("episodes", episodes)
        self.iterations = check_integer("iterations", iterations)
        super().__init__(
            top,
            compare,
            low,
            trainings,
            steps,
            fresh,
            basis,
            quality,
            warm_start,
            alignment,
        )
        check_choice("reward", reward, ("ratio", "metric"))
        check_choice("relative", relative, (True, False))
        self.penalty = penalty
        self.updates = check_integer("updates", updates, 0)
        self.reward = reward
        self.relative = relative
        if shift is not None:
            remedy = "Give for instance 1.5, or None."
            shift = check_number("shift", shift, least=1, remedy=remedy)
        self.shift = shift
        self.agent = dict(agent or {})
        if "noise" in self.agent:
            self.agent["noise"] = noises.to_config(noises.get(self.agent["noise"]))
        # Refuse what they would refuse, before any work.
        if penalty is not None:
            Reward(1, penalty)
        _check_options("agent", self.agent, Agent, ("low", "high", "seed"))
        td3, fixed = self.agent.get("td3") or {}, ("low", "high", "seed", "state_size")
        _check_options("agent['td3']", td3, TD3, fixed)
        Agent(low, low + 1, **agent_options(1, self.agent))

    @property
    def num_steps(self) -> int:
        return self.episodes * self.iterations

    def _budget_of(self, step: int, state: SearchState) -> Budget:
        return state.budgets[step // self.iterations % len(state.budgets)]

    def _new_course(self, state: SearchState, full: Qualities) -> AgentCourse:
        steps = range(self.num_steps)
        return AgentCourse(
            state.fields,
            counts_of(state),
            full,
            [self._budget_of(step, state) for step in steps],
            self.iterations,
            state.seed,
            fitted=self.fitted,
            low=self.low,
            penalty=self.penalty,
            shift=self.shift,
            reward=self.reward,
            relative=self.relative,
            options={"updates": self.updates, **self.agent},
        )


def _check_options(
    name: str, given: Mapping[str, Any], of: type, fixed: Sequence[str]
) -> None:
    known = set(inspect.signature(of).parameters)
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(
            f"`{name}` must have arguments of {of.__name__} alone. Received: "
            f"{unknown}. Choose from {sorted(known - set(fixed))}."
        )
    taken = sorted(set(given) & set(fixed))
    if taken:
        raise ValueError(
            f"`{name}` must not have {', '.join(fixed)}, which follow from the table "
            f"and the search. Received: {taken}. Leave them out."
        )
