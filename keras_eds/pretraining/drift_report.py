"""What has changed between the data of a plan and newer data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_eds.budget import format_bytes
from keras_eds.plan import DimensionPlan, TablePlan, dims_text
from keras_eds.row_plan import RowPlan

_HEADS = (
    "field", "dims -> now", "lookups moved", "of new ids", "resized",
    "values a lookup", "Spearman", "bytes moved",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FieldDrift:
    """What has changed for one field.

    Args:
        plan: What stays of the field under the old plan.
        now: What would stay if it were searched now.
        last: How often each id came last week, shape `(input_dim,)`.
        this: The same, this week.
    """

    plan: TablePlan
    now: TablePlan
    last: np.ndarray
    this: np.ndarray

    @property
    def moved_lookups(self) -> float:
        """Share of lookups that went to other ids: `sum_i |q_i - p_i| / 2`.

        p_i is the share of last week's lookups that were of id i, q_i this week's.
        """
        return float(np.abs(_shares(self.this) - _shares(self.last)).sum() / 2)

    @property
    def new_lookups(self) -> float:
        """Share of this week's lookups of ids that did not come last week."""
        return float(_shares(self.this)[self.last == 0].sum())

    @property
    def resized_lookups(self) -> float:
        """Share of this week's lookups of ids that would get another size now."""
        resized = sizes_of(self.plan) != sizes_of(self.now)
        return float(_shares(self.this)[resized].sum())

    @property
    def values_a_lookup(self) -> tuple[float, float]:
        """Values that the old plan keeps, mean over last and this week's lookups."""
        sizes = sizes_of(self.plan)
        return float(_shares(self.last) @ sizes), float(_shares(self.this) @ sizes)

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of the ids' sizes under both plans; NaN if one has only one."""
        return _spearman(sizes_of(self.plan), sizes_of(self.now))

    @property
    def moved_bytes(self) -> float:
        """Half of what is added to ids and taken away from ids, in bytes of values."""
        change = np.abs(sizes_of(self.plan) - sizes_of(self.now)).sum()
        return float(change * self.plan.field.value_bytes / 2)


@dataclass(frozen=True, eq=False)
class PlanDrift:
    """What `plan_drift` found. Printed, it is a table.

    Args:
        fields: One for each table of the plan.
        scores: Loss and metrics on this week's data before any retraining, of the
            `"full"` model, under the old `"plan"` and under that found `"now"`.
    """

    fields: tuple[FieldDrift, ...]
    scores: Mapping[str, Mapping[str, float]]

    @property
    def plan(self) -> DimensionPlan:
        """The old plan."""
        return DimensionPlan(tuple(field.plan for field in self.fields))

    @property
    def now(self) -> DimensionPlan:
        """The plan found now."""
        return DimensionPlan(tuple(field.now for field in self.fields))

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of the sizes of all ids of all fields."""
        sides = [[sizes_of(p) for p in plan] for plan in (self.plan, self.now)]
        return _spearman(*(np.concatenate(side) for side in sides))

    @property
    def moved_bytes(self) -> float:
        """Bytes of values that go to other ids or to other fields."""
        return sum(field.moved_bytes for field in self.fields)

    @property
    def moved_share(self) -> float:
        """The same, by the bytes of all values that the old plan keeps."""
        kept = sum(sizes_of(p).sum() * p.field.value_bytes for p in self.plan)
        return self.moved_bytes / max(1, int(kept))

    def __str__(self) -> str:
        moved = f"{format_bytes(round(self.moved_bytes))} ({self.moved_share:.1%})"
        total = ("all", *[""] * 5, _correlation(self.rank_correlation), moved)
        rows = [_HEADS, *(_cells(field) for field in self.fields), total]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        for name in self.scores["full"]:
            values = [f"{which} {score[name]:.4f}"
                      for which, score in self.scores.items()]  # fmt: skip
            lines.append(f"{name} this week: {', '.join(values)}")
        return "\n".join(lines)


def sizes_of(plan: TablePlan) -> np.ndarray:
    """The size of every id."""
    if isinstance(plan, RowPlan):
        return plan.sizes.astype(np.int64)
    return np.full(plan.field.input_dim, plan.kept_dim, np.int64)


def _shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = counts / max(1, counts.sum())
    return shares


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(pd.Series(one).rank().corr(pd.Series(other).rank()))


def _cells(field: FieldDrift) -> tuple[str, ...]:
    last, this = field.values_a_lookup
    return (
        field.plan.name,
        f"{dims_text(field.plan)} -> {dims_text(field.now)}",
        f"{field.moved_lookups:.1%}",
        f"{field.new_lookups:.1%}",
        f"{field.resized_lookups:.1%}",
        f"{last:.2f} -> {this:.2f}",
        _correlation(field.rank_correlation),
        format_bytes(round(field.moved_bytes)),
    )


def _correlation(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"
