"""What a search decides: how much of every embedding table stays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_eds import archive
from keras_eds.budget import Budget, format_bytes
from keras_eds.errors import PlanError
from keras_eds.field import Field, total_bytes, total_parameters
from keras_eds.field_plan import Array, FieldPlan
from keras_eds.row_plan import RowPlan

TablePlan = FieldPlan | RowPlan
_KINDS: dict[str, type[FieldPlan] | type[RowPlan]] = {
    "field": FieldPlan,
    "rows": RowPlan,
}
_FORMAT = "keras_eds.plan"


@dataclass(frozen=True, eq=False)
class DimensionPlan:
    """How much of every table stays: the result of every search.

    Args:
        fields: One `FieldPlan` or `RowPlan` a table, names distinct.

    Raises:
        PlanError: If two of them have the same name.

    Example:

    >>> fields = [Field("user", 1000, 8), Field("item", 500, 8)]
    >>> plan = DimensionPlan.of_sizes(fields, {"user": 2, "item": 0})
    >>> plan.sizes(), plan.num_parameters()
    ({'user': 2, 'item': 0}, 2016)
    """

    fields: tuple[TablePlan, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [plan.name for plan in self.fields]
        if len(set(names)) != len(names):
            raise PlanError(
                "`fields` must have distinct names. "
                f"Received: {sorted(n for n in set(names) if names.count(n) > 1)} "
                "twice. Plan each table once."
            )

    @classmethod
    def of_sizes(
        cls, fields: Iterable[Field], sizes: Mapping[str, int]
    ) -> DimensionPlan:
        """Keeps the first `sizes[name]` columns of each field.

        Raises:
            PlanError: If a field has no size.
        """
        fields = list(fields)
        missing = [field.name for field in fields if field.name not in sizes]
        if missing:
            raise PlanError(
                "`sizes` must hold the width of every field. Received: none of "
                f"{missing}. Give those, too; 0 drops a field."
            )
        return cls(tuple(FieldPlan.of_columns(f, range(sizes[f.name])) for f in fields))

    def __iter__(self) -> Iterator[TablePlan]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> TablePlan:
        for plan in self.fields:
            if plan.name == name:
                return plan
        raise PlanError(
            f"`name` must be one of {[p.name for p in self.fields]}. "
            f"Received: name={name!r}. Look at plan.sizes()."
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DimensionPlan) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @property
    def has_row_sizes(self) -> bool:
        """Whether the ids of a field have sizes of their own."""
        return any(isinstance(plan, RowPlan) for plan in self.fields)

    def sizes(self) -> dict[str, Any]:
        """The kept width of every field; an array where ids have their own."""
        return {
            plan.name: plan.sizes if isinstance(plan, RowPlan) else plan.kept_dim
            for plan in self.fields
        }

    def num_parameters(self) -> int:
        """Values that inference has to keep."""
        return sum(plan.num_parameters() for plan in self.fields)

    def num_bytes(self) -> int:
        """Bytes that inference has to keep."""
        return sum(plan.num_bytes() for plan in self.fields)

    @property
    def quantized(self) -> bool:
        """Whether tables are kept as 8-bit integers, and priced so."""
        return any(plan.field.quantized for plan in self.fields)

    def amount(self, budget: Budget) -> int:
        """What the plan keeps, in the unit of `budget`."""
        in_bytes = budget.unit == "bytes"
        return self.num_bytes() if in_bytes else self.num_parameters()

    def fits(self, budget: Budget) -> bool:
        """Whether the plan is within `budget`."""
        return self.amount(budget) <= budget.limit([p.field for p in self.fields])

    def merge(self, other: DimensionPlan) -> DimensionPlan:
        """Joins two plans of different fields."""
        return DimensionPlan(self.fields + other.fields)

    def renamed(self, name_of: Callable[[str], str]) -> DimensionPlan:
        """The same plan for a model that calls its fields otherwise."""
        renamed = [replace(p.field, name=name_of(p.name)) for p in self.fields]
        plans = zip(self.fields, renamed, strict=True)
        return DimensionPlan(tuple(replace(p, field=field) for p, field in plans))

    def digest(self) -> str:
        """A short text that is equal for equal plans only."""
        meta, arrays = self._contents()
        text = hashlib.sha256(repr(meta).encode())
        for key in sorted(arrays):
            text.update(key.encode() + arrays[key].tobytes())
        return text.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Writes the plan to a file (NumPy's `.npz`, without pickle)."""
        meta, arrays = self._contents()
        archive.write(path, _FORMAT, meta, arrays)

    @classmethod
    def load(cls, path: str | Path) -> DimensionPlan:
        """Reads a plan that `save` wrote.

        Raises:
            PlanError: If the file is damaged, truncated or no plan.
        """
        meta, arrays = archive.read(path, _FORMAT)
        plans = []
        for index, entry in enumerate(meta["fields"]):
            prefix = f"{index}/"
            own = {k.removeprefix(prefix): array for k, array in arrays.items()
                   if k.startswith(prefix)}  # fmt: skip
            kind = _KINDS[entry["kind"]]
            plans.append(kind.of_contents(Field(**entry["field"]), entry, own))
        return cls(tuple(plans))

    def _contents(self) -> tuple[dict[str, object], dict[str, Array]]:
        metas: list[dict[str, Any]] = []
        arrays: dict[str, Array] = {}
        for index, plan in enumerate(self.fields):
            meta, own = plan.contents()
            metas.append({"field": dict(vars(plan.field)), **meta})
            arrays |= {f"{index}/{name}": array for name, array in own.items()}
        return {"fields": metas}, arrays

    def __str__(self) -> str:
        """The plan as a table for people."""
        rows = [("field", "ids", "dims", "bytes")]
        for plan in self.fields:
            before, after = plan.field.num_bytes, plan.num_bytes()
            dims = f"{plan.field.output_dim} -> {dims_text(plan)}"
            size = f"{format_bytes(before)} -> {format_bytes(after)}"
            rows.append((plan.name, f"{plan.field.input_dim:,}", dims, size))
        fields = [plan.field for plan in self.fields]
        share = self.num_bytes() / max(1, total_bytes(fields))
        total = (
            f"{format_bytes(total_bytes(fields))} -> {format_bytes(self.num_bytes())}"
        )
        values = f"{total_parameters(fields):,} -> {self.num_parameters():,} values"
        rows.append(("total", values, f"{share:.1%}", total))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = []
        for row in rows:
            cells = [c.ljust(width) for c, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def dims_text(plan: TablePlan) -> str:
    """The kept width as people read it: `4`, or `0-12 (1.7)` with the mean."""
    if isinstance(plan, FieldPlan):
        return str(plan.kept_dim)
    return f"{plan.sizes.min()}-{plan.sizes.max()} ({plan.mean_dim:.2g})"
