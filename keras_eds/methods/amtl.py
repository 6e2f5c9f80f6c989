"""AMTL: a size for every id, learned by masks from how often the id comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_eds.argument_checks import check_choice, check_integer
from keras_eds.budget import Budget
from keras_eds.errors import StageError
from keras_eds.field import Field
from keras_eds.layers.masked_twin_checks import check_hidden_units
from keras_eds.layers.twin_masks import TwinMasks
from keras_eds.learned_sizes import LearnedSizes
from keras_eds.methods.allocation import allocate
from keras_eds.methods.base import Proposal, SearchState
from keras_eds.methods.scaled_rows import scaled_rows
from keras_eds.methods.single_shot import Pretrain, SingleShot
from keras_eds.methods.wishes import Wishes
from keras_eds.plan import DimensionPlan

# Odds of sizes that an id can never have are beyond the first number; chances are
# sure to all digits at odds beyond the second.
_NEVER, _SURE = 1e29, 40.0


class AMTL(SingleShot):
    """Trains tables together with masks on them, and cuts them as the masks say.

    While the model trains, vector e_i of id i is multiplied by a mask of ones up to
    a size that twin networks find from how often the id comes, as in
    `keras_eds.layers.MaskedTwinEmbedding`, which has the formulas. The paper has
    nothing that makes sizes small. Here the loss gets the penalty

        multiplier * sum_f V_f E[size_f] / sum_f V_f D

    with V_f the ids of field f, D its width, and E[size_f] the mean over its ids of
    the expected size; and every further value of an id has a price in the logits of
    its sizes, `o_ik - price * w_i * k`, with `w_i` the square root of how much rarer
    the id is than the commonest one of all tables. The price is solved for anew a
    hundred times, so that the bytes of the expected sizes follow a target that falls
    to the smallest budget; the multiplier follows what the networks drift away from
    it meanwhile (`tuners.size_schedule`, `tuners.size_price`). Where the target
    passes another budget, the sizes and the weights of that moment are kept for it:
    one training serves all budgets.

    **The plan.** With `t_ik` the probability of size k for id i, and
    `P_ik = sum_(j >= k) t_ij`, id i has

        size_i(x) = sum_k P_ik e^x / (1 - P_ik + P_ik e^x)

    values, rounded, with x the largest number at which all tables fit the budget.
    At x = 0 that is the expected size. Where the index of the rows takes much of the
    budget, one width a field may serve better: in proportion to the mean expected
    size over its lookups. Both are retrained, and scores decide (`compare`). Then
    tables are cut, the networks dropped, and the small model is trained on from the
    weights of the same moment.

    A model that is trained already is where learning starts from: a warm start.
    So is one whose tables were filled in, see `keras_eds.load_tables`.

    Args:
        epochs: How long to train with masks. Defaults to 2; None is for the `epochs`
            of `search`. `EarlyStopping` is left out meanwhile, as sizes still fall.
        twins: Whether there are two networks; the paper's ablation has one.
        alpha_from: What mixes the twins, see `MaskedTwinEmbedding`. Defaults to
            `"log_count"`.
        min_size: The smallest size. Defaults to 0; in the paper it is 1.
        hidden_units: Widths of the networks' hidden layers. Defaults to `(32,)`.
        temperature: Of the softmax over sizes. Defaults to 0.1: the networks' logits
            move by the optimizer's learning rate a step, which is too slow for a
            short training at 1.
        retrain_from: Where the small model starts. `"learned"` (the default): the
            values that were trained with masks. `"fresh"`: everything drawn anew, so
            that nothing but the sizes is taken over.
        compare: Whether to retrain one width a field, too. Defaults to True; without
            it retraining takes half the time.
        pretrain: Whether to train the full model first. Defaults to False.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, [0.4, 0.1], method="amtl")

    Reference:
        Yan et al., Learning Effective and Efficient Embedding via an
        Adaptively-Masked Twins-based Layer, CIKM 2021, arXiv:2108.11513. The
        penalty, the price, their schedule, the plan and the default of `min_size`
        are this library's.
    """

    name = "amtl"
    granularity = "row"

    def __init__(
        self,
        epochs: int | None = 2,
        twins: bool = True,
        alpha_from: str = "log_count",
        min_size: int = 0,
        hidden_units: tuple[int, ...] = (32,),
        temperature: float = 0.1,
        retrain_from: Literal["learned", "fresh"] = "learned",
        compare: bool = True,
        pretrain: Pretrain = False,
    ) -> None:
        check_choice("compare", compare, (True, False))
        super().__init__(pretrain, None, "all", "plan", 1 + compare)
        if epochs is not None:
            epochs = check_integer("epochs", epochs)
        min_size = check_integer("min_size", min_size, 0)
        check_choice("retrain_from", retrain_from, ("learned", "fresh"))
        self.epochs = epochs
        self.twins = twins
        self.alpha_from = alpha_from
        self.min_size = min_size
        self.hidden_units = check_hidden_units(hidden_units)
        self.temperature = temperature
        self.retrain_from = retrain_from
        self.compare = compare
        # Refuses what the layer would refuse, before any work.
        TwinMasks(1, max(1, min_size), **self.masks)

    @property
    def masks(self) -> dict[str, Any]:
        """The arguments of the masks."""
        return {
            "twins": self.twins,
            "alpha_from": self.alpha_from,
            "min_size": self.min_size,
            "hidden_units": list(self.hidden_units),
            "temperature": self.temperature,
        }

    def check(self, state: SearchState) -> None:
        nothing = [np.zeros(field.input_dim) for field in state.fields]
        for budget in state.budgets:
            scaled_rows(state.fields, Wishes.growing(nothing), budget, self.min_size)

    def _preparations(self, state: SearchState) -> list[Proposal]:
        settings = {
            "epochs": self.epochs,
            "masks": self.masks,
            "budgets": [vars(budget) for budget in state.budgets],
            "quantized": any(field.quantized for field in state.fields),
        }
        return [*super()._preparations(state), Proposal("learn", settings=settings)]

    def _retrain(self, state: SearchState, budget: Budget, draw: int) -> Proposal:
        settings = {
            "warm_start": self.retrain_from,
            "alignment": "plan" if self.retrain_from == "learned" else "random",
            "moment": _moment(state, budget),
        }
        return Proposal("retrain", self.plan(state, budget, draw), budget, settings)

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        learned, moment = _learned(state), _moment(state, budget)
        odds = [learned[field.name].log_odds(moment) for field in state.fields]
        groups = [learned[field.name].group_of_id for field in state.fields]
        if draw == 0:
            least = [min(self.min_size, field.output_dim) for field in state.fields]
            wishes = _wishes(odds, groups, least)
            return scaled_rows(state.fields, wishes, budget, self.min_size)
        often = [
            learned[field.name].counts * np.bincount(of_id, minlength=len(o))
            for field, of_id, o in zip(state.fields, groups, odds, strict=True)
        ]
        return self._narrow(state.fields, odds, often, budget)

    def _narrow(
        self,
        fields: Sequence[Field],
        odds: list[np.ndarray],
        often: list[np.ndarray],
        budget: Budget,
    ) -> DimensionPlan:
        gains = []
        for field, o, n in zip(fields, odds, often, strict=True):
            weights = n / n.sum() if n.any() else np.full(len(n), 1 / len(n))
            least = min(self.min_size, field.output_dim)
            size = least + weights @ _chances(o).sum(axis=1)
            # Highest quotients, as seats are dealt out to parties: widths come out
            # in proportion to the sizes, whatever they cost.
            cost = field.input_dim + field.output_dim
            gains.append(size / (np.arange(field.output_dim) + 0.5) * cost)
        widths = allocate(
            fields, gains, budget, per_cost=True, constant=False, floor=self.min_size
        )
        named = {f.name: w for f, w in zip(fields, widths, strict=True)}
        return DimensionPlan.of_sizes(fields, named)


def _wishes(
    odds: list[np.ndarray], groups: list[np.ndarray], least: Sequence[int]
) -> Wishes:
    # Masks that are sure of themselves have odds that no x from -60 to 60 would turn.
    reach = max(float(np.abs(o[np.abs(o) < _NEVER]).max(initial=0)) for o in odds)
    scale = max(1.0, (reach + _SURE) / 60)
    used = [np.unique(of_id, return_inverse=True) for of_id in groups]

    def of_groups(x: float) -> list[np.ndarray]:
        parts = zip(least, odds, used, strict=True)
        return [
            size + _chances(o[kept] + scale * x).sum(axis=1)
            for size, o, (kept, _) in parts
        ]

    return Wishes([of_id for _, of_id in used], of_groups)


def _chances(log_odds: np.ndarray) -> np.ndarray:
    chances = 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))
    # "Never" is nothing at all, or what is left of a budget would go there.
    return np.where(log_odds > -_NEVER, chances, 0.0)


def _learned(state: SearchState) -> LearnedSizes:
    done = state.done("learn")
    outcome = done[-1][1] if done else None
    if outcome is None or outcome.learned is None:
        raise StageError(
            "A plan needs learned sizes. Received: a search that has not learned them. "
            "Call search(...) first."
        )
    return outcome.learned


def _moment(state: SearchState, budget: Budget) -> int:
    """The place of the budget for which sizes were learned that is nearest."""
    proposal = state.done("learn")[-1][0]
    known = [Budget(**kwargs) for kwargs in proposal.settings["budgets"]]
    shares = np.array([other.share(state.fields) for other in known])
    return int(np.argmin(np.abs(np.log(shares / budget.share(state.fields)))))
