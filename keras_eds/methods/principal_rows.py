"""Principal rows: the best subspace of each field, and a prefix of it for each id."""

from __future__ import annotations

from typing import Literal

import numpy as np

from keras_eds.argument_checks import check_choice, check_integer, check_number
from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.layers.row_blocks import choose_blocks
from keras_eds.measurements import FieldMeasurement
from keras_eds.methods.base import SearchState, WarmStart
from keras_eds.methods.principal import PrincipalBasis, second_moment
from keras_eds.methods.row_allocation import TableOptions, allocate_rows
from keras_eds.methods.single_shot import Pretrain, SingleShot
from keras_eds.methods.sseds import measurements_of
from keras_eds.plan import DimensionPlan, TablePlan
from keras_eds.row_plan import RowPlan
from keras_eds.surgery.small_layer import Alignment

_LEVELS = 12
# Few sizes a field: each is a table, and what padding they would need is not stored.
_COARSENESS = 0.2
_CHUNK = 65536


class PrincipalRows(SingleShot):
    """Keeps of every id as many directions of its field's best subspace as pay.

    With C the covariance of a field's vectors e (an id counts as often as it
    comes), H the second moment of their gradients and
    `H^(1/2) C H^(1/2) = U diag U^T`, the columns of `z = (e - mean) H^(1/2) U`
    are ordered by what they are worth. To keep the first k of them for id i gains
    about `p_i * sum_(j <= k) z_ij^2`, with p_i the share of lookups that are of i.
    Sizes are those that gain most, over all ids of all fields, until the budget
    is full. An id that never comes keeps nothing and has its field's mean vector.

    Where it pays better, as for a small vocabulary, all ids of a field keep the
    same width, which needs no index. One pass over the data and one short probe
    of a trained model serve any list of budgets.

    What retraining makes of a plan is not in these gains: a field that may only
    just be kept is often better served by one value for every id. So for each
    budget a second plan with one width a field, that of `SSEDS(basis="principal")`,
    is retrained too, and scores decide.

    Args:
        batches: How many batches to measure gradients on, as in `SSEDS`.
        data: `"train"` or `"validation"`: what to measure gradients on.
        compare: Whether to retrain the plan with one width a field as well.
            Defaults to True.
        smoothing: Added to every count of an id that was seen. Defaults to 0.
        warm_start: `"all"`, `"tables"`, `"initial"` or `"fresh"`; see
            `SingleShot`. Defaults to `"all"`.
        alignment: `"plan"`, `"fixed"` or `"random"`; see `SingleShot`. Defaults to
            `"plan"`.
        pretrain: Whether to train the full model first. Defaults to `"auto"`:
            unless it was trained already.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> search = keras_eds.EDSSearch(model, 0.1, method="principal_rows")

    Reference:
        The rule of `SSEDS(basis="principal")` for each row. Sizes that follow
        frequency: Ginart et al., Mixed Dimension Embeddings, ISIT 2021; prefixes
        for each id: Yan et al., CIKM 2021, arXiv 2108.11513.
    """

    name = "principal_rows"
    granularity = "row"
    rotates = True

    def __init__(
        self,
        batches: int | None = None,
        data: Literal["train", "validation"] = "train",
        compare: bool = True,
        smoothing: float = 0.0,
        warm_start: WarmStart = "all",
        alignment: Alignment = "plan",
        pretrain: Pretrain = "auto",
    ) -> None:
        check_choice("compare", compare, (True, False))
        check_choice("data", data, ("train", "validation"))
        if batches is not None:
            batches = check_integer("batches", batches)
        check_number("smoothing", smoothing, least=0)
        probe = {"batches": batches, "data": data, "rows": True}
        super().__init__(pretrain, probe, warm_start, alignment, 1 + compare)
        self.compare = compare
        self.smoothing = smoothing

    def check(self, state: SearchState) -> None:
        for budget in state.budgets:
            tables = [_without_measurements(field) for field in state.fields]
            allocate_rows(tables, budget)

    def plan(self, state: SearchState, budget: Budget, draw: int = 0) -> DimensionPlan:
        measured = measurements_of(state)
        bases, tables = [], []
        for field in state.fields:
            exact = weighed_by_counts(measured[field.name], self.smoothing)
            bases.append(PrincipalBasis.of(exact, "mean"))
            tables.append(_options(field, exact, bases[-1], rows=draw == 0))
        allocate_rows(tables, budget)
        for table in tables:
            sizes = table.sizes()
            if sizes is not None:
                table.restrict(
                    [block.width for block in choose_blocks(sizes, _COARSENESS)]
                )
        allocate_rows(tables, budget)
        plans = zip(state.fields, bases, tables, strict=True)
        return DimensionPlan(tuple(_plan(*parts) for parts in plans))

    def saliency(self, state: SearchState) -> dict[str, float]:
        """Each field's share of all that its directions are worth."""
        measured = measurements_of(state)
        sums = {
            field.name: float(
                PrincipalBasis.of(measured[field.name], "mean").gains.sum()
            )
            for field in state.fields
        }
        total = sum(sums.values()) or 1.0
        return {name: value / total for name, value in sums.items()}


def weighed_by_counts(
    measured: FieldMeasurement, smoothing: float = 0.0
) -> FieldMeasurement:
    """The measurement with mean and second moment over all data, from counts."""
    counts, table = _shares(measured, smoothing), measured.table
    assert table is not None
    if not measured.mean.any():
        # Vectors are added up: a constant has no fixed share in them.
        mean = np.zeros(table.shape[1])
    else:
        mean = counts @ table.astype("float64")
    second = second_moment(table, counts)
    return FieldMeasurement(
        **{**vars(measured), "mean": mean, "second_moment": second, "counts": counts}
    )


def _shares(measured: FieldMeasurement, smoothing: float) -> np.ndarray:
    assert measured.counts is not None
    counts = measured.counts.astype("float64")
    counts = np.where(counts > 0, counts + smoothing, 0.0)
    return np.asarray(counts / max(counts.sum(), 1.0))


def _options(
    field: Field, exact: FieldMeasurement, basis: PrincipalBasis, rows: bool
) -> TableOptions:
    width = field.output_dim
    by_width = np.concatenate([[0.0], np.cumsum(basis.gains)])
    if not rows:
        return TableOptions(field, by_width, np.zeros(1, int), np.zeros((1, 1)))
    levels = np.unique(np.geomspace(1, width, _LEVELS).round().astype(int))
    table, shares = exact.table, exact.counts
    assert table is not None and shares is not None
    worth = np.zeros((field.input_dim, 1 + len(levels)), "float32")
    for start in range(0, field.input_dim, _CHUNK):
        part = slice(start, start + _CHUNK)
        z = (table[part] - basis.mean) @ basis.encoder
        gains = np.cumsum(np.square(z), axis=1)[:, levels - 1]
        worth[part, 1:] = gains * shares[part, None]
    return TableOptions(field, by_width, np.concatenate([[0], levels]), worth)


def _without_measurements(field: Field) -> TableOptions:
    by_width = np.zeros(field.output_dim + 1)
    return TableOptions(field, by_width, np.zeros(1, int), np.zeros((1, 1)))


def _plan(field: Field, basis: PrincipalBasis, table: TableOptions) -> TablePlan:
    sizes = table.sizes()
    if sizes is None:
        return basis.plan(field, int(table.chosen), constant=True)
    width = int(sizes.max())
    return RowPlan(
        field,
        sizes,
        basis.encoder[:, :width],
        basis.decoder[:width],
        basis.mean,
        table.blocks(),
    )
