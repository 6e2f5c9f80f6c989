"""SSEDS: single-shot embedding dimension search."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from keras_eds.argument_checks import check_choice, check_integer
from keras_eds.budget import Budget
from keras_eds.errors import StageError
from keras_eds.field import Field
from keras_eds.field_plan import FieldPlan
from keras_eds.measurements import FieldMeasurement, Measurements
from keras_eds.methods.allocation import allocate
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.principal import PrincipalBasis
from keras_eds.methods.single_shot import Pretrain, SingleShot
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment

# Absolute gradients add up noise too: one batch ranks columns poorly.
COLUMN_BATCHES = 16


class SSEDS(SingleShot):
    """Keeps the dimensions of each field that the loss is most sensitive to.

    With gates alpha = 1 on the D columns of every field's vectors e, the
    saliency of column j of field i is `s_ij = |g_ij| / sum |g|`,
    `g_ij = dL / dalpha_ij`, from one short pass over a trained model. Columns
    are kept by saliency, over all fields at once, until the budget is full.

    `basis="columns"` is the paper's rule. `basis="principal"` keeps, at the same
    cost, the best d-dimensional subspace of each field: with C the covariance of
    e and H the second moment of dL/de, the leading eigenvectors of
    `H^(1/2) C H^(1/2)`, whose eigenvalues are the saliencies. A trained model
    has no reason to spread a field along its columns, so a few directions hold
    what all columns hold a little of.

    Departures from the paper: vectors are aligned to the width that the model
    has, not to the largest kept one, so that any model fits; a pruned direction
    stays at its mean (`fill="zero"`: the paper's mask); retraining starts from
    all trained values (`warm_start="tables"`, `alignment="random"`: the paper's);
    the budget counts alignments too; the better of the pruned and the retrained
    model is kept.

    Args:
        basis: `"principal"` or `"columns"`. Defaults to `"principal"`.
        batches: How many batches to measure. Defaults to 4,096 examples, at
            most a fiftieth of an epoch, for `"principal"`, whose moments have
            then settled; to 16 for `"columns"`, whose ranking has not.
        data: `"train"` or `"validation"`: what to measure on.
        score_per_byte: Whether to rank by saliency a value kept. Defaults to
            True for `"principal"`, False (the paper's) for `"columns"`.
        floor: Least width of every field. Defaults to 0: a field may be dropped.
        fill: `"mean"` or `"zero"`: what pruned directions become.
        reduce: `"abs"` adds up |g| of every batch, `"sum"` takes |sum of g|.
            For `"columns"`. Defaults to `"abs"`.
        warm_start: `"all"`, `"tables"`, `"initial"` or `"fresh"`; see
            `SingleShot`. Defaults to `"all"`.
        alignment: `"plan"`, `"fixed"` or `"random"`; see `SingleShot`. Defaults to
            `"plan"`.
        pretrain: Whether to train the full model first. Defaults to `"auto"`:
            unless it was trained already.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, 0.1, method=SSEDS(floor=1))

    Reference:
        Qu et al., Single-shot Embedding Dimension Search in Recommender System,
        SIGIR 2022, arXiv 2204.03281. Fisher-weighted factorisation: Hsu et al.,
        Language model compression with weighted low-rank factorization, ICLR 2022.
    """

    name = "sseds"

    def __init__(
        self,
        basis: Literal["principal", "columns"] = "principal",
        batches: int | None = None,
        data: Literal["train", "validation"] = "train",
        score_per_byte: bool | None = None,
        floor: int = 0,
        fill: Literal["mean", "zero"] = "mean",
        reduce: Literal["abs", "sum"] = "abs",
        warm_start: WarmStart = "all",
        alignment: Alignment = "plan",
        pretrain: Pretrain = "auto",
    ) -> None:
        check_choice("basis", basis, ("principal", "columns"))
        check_choice("data", data, ("train", "validation"))
        check_choice("fill", fill, ("mean", "zero"))
        check_choice("reduce", reduce, ("abs", "sum"))
        check_choice("score_per_byte", score_per_byte, (None, True, False))
        floor = check_integer("floor", floor, 0)
        if batches is not None:
            batches = check_integer("batches", batches)
        if batches is None and basis == "columns":
            batches = COLUMN_BATCHES
        probe = {"batches": batches, "data": data}
        super().__init__(pretrain, probe, warm_start, alignment)
        self.basis = basis
        self.floor = floor
        self.fill = fill
        self.reduce = reduce
        self.rotates = principal = basis == "principal"
        self.score_per_byte = principal if score_per_byte is None else score_per_byte

    def check(self, state: SearchState) -> None:
        for budget in state.budgets:
            gains = [np.zeros(field.output_dim) for field in state.fields]
            self._allocate(state, gains, budget)

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        measured = measurements_of(state)
        scored = [self._scored(field, measured[field.name]) for field in state.fields]
        widths = self._allocate(state, [gains for gains, _ in scored], budget)
        constant = self.fill == "mean"
        plans = []
        for field, (_, basis), width in zip(state.fields, scored, widths, strict=True):
            if isinstance(basis, PrincipalBasis):
                plans.append(basis.plan(field, width, constant))
            else:
                mean = measured[field.name].mean if constant else None
                full = width == field.output_dim
                plan = FieldPlan.of_columns(field, basis[:width], mean)
                plans.append(FieldPlan.full(field) if full else plan)
        return DimensionPlan(tuple(plans))

    def saliency(self, state: SearchState) -> dict[str, float]:
        """Each field's share of all saliency."""
        measured = measurements_of(state)
        sums = {f.name: float(self._scored(f, measured[f.name])[0].sum())
                for f in state.fields}  # fmt: skip
        total = sum(sums.values()) or 1.0
        return {name: value / total for name, value in sums.items()}

    def _scored(
        self, field: Field, measured: FieldMeasurement
    ) -> tuple[np.ndarray, Any]:
        """Falling gains, and the basis or column order that they belong to."""
        if self.basis == "principal":
            basis = PrincipalBasis.of(measured, self.fill)
            return basis.gains, basis
        gate = measured.gate_abs if self.reduce == "abs" else np.abs(measured.gate_sum)
        order = np.argsort(-gate, kind="stable")
        return gate[order], [int(column) for column in order]

    def _allocate(
        self, state: SearchState, gains: list[np.ndarray], budget: Budget
    ) -> list[int]:
        return allocate(
            state.fields,
            gains,
            budget,
            per_cost=self.score_per_byte,
            constant=self.fill == "mean",
            floor=self.floor,
        )


def measurements_of(state: SearchState) -> Measurements:
    """What the probe of a search measured.

    Raises:
        StageError: If no probe has ended yet.
    """
    for _, outcome in reversed(state.done("probe")):
        if outcome is not None and outcome.measurements is not None:
            return outcome.measurements
    raise StageError(
        "A plan needs measured saliency. Received: a search whose probe has not "
        "ended. Call search(...) first."
    )
