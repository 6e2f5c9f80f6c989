"""What a search decides: how much of every embedding table stays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_eds import archive
from keras_eds.budget import Budget, format_bytes
from keras_eds.errors import PlanError
from keras_eds.field import Field, total_bytes, total_parameters

_FORMAT = "keras_eds.plan"
Array = np.ndarray


def field_cost(field: Field, kept_dim: int, constant: bool) -> int:
    """Values that inference has to keep of `field` at width `kept_dim`.

    `input_dim * d + d * output_dim (+ output_dim)` for 0 < d < `output_dim`:
    the narrow table, the alignment and the constant. A field of full width is
    left as it is and needs neither.
    """
    if kept_dim == field.output_dim:
        return field.num_parameters
    extra = field.output_dim if constant else 0
    return kept_dim * (field.input_dim + field.output_dim) + extra


@dataclass(frozen=True, eq=False)
class FieldPlan:
    """What stays of one table: `vector ~ (vector @ encoder) @ decoder + constant`.

    Args:
        field: The table that the plan is for.
        encoder: Shape `(output_dim, kept_dim)`: full vectors to narrow ones.
        decoder: Shape `(kept_dim, output_dim)`: narrow vectors back to full
            ones, the alignment projection.
        constant: Shape `(output_dim,)`, what is added to every vector, so that
            a direction that was cut stays at its mean. `None`: nothing.
        columns: The columns that `encoder` selects, when it is a selection.

    Example:

    >>> plan = FieldPlan.of_columns(Field("user", 1000, 8), [0, 5])
    >>> plan.kept_dim, plan.num_parameters()
    (2, 2016)
    """

    field: Field
    encoder: Array
    decoder: Array
    constant: Array | None = None
    columns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        width, kept = self.field.output_dim, self.encoder.shape[-1]
        shapes_fit = (
            self.encoder.shape == (width, kept)
            and self.decoder.shape == (kept, width)
            and (self.constant is None or self.constant.shape == (width,))
        )
        if not shapes_fit or kept > width:
            raise PlanError(
                "`encoder`, `decoder` and `constant` must have the shapes "
                f"({width}, d), (d, {width}) and ({width},) with d <= {width}. "
                f"Received: {self.encoder.shape}, {self.decoder.shape} and "
                f"{None if self.constant is None else self.constant.shape} for field "
                f"{self.field.name!r}. Build the plan with a method of this library."
            )
        for name in ("encoder", "decoder", "constant"):
            array = getattr(self, name)
            if array is None:
                continue
            if not np.all(np.isfinite(array)):
                raise PlanError(
                    "A plan must be finite. Received: NaN or infinity in the plan of "
                    f"field {self.field.name!r}. Measure again on data without NaN."
                )
            own = np.array(array)
            own.setflags(write=False)
            object.__setattr__(self, name, own)

    @classmethod
    def of_columns(
        cls, field: Field, columns: Iterable[int], constant: Array | None = None
    ) -> FieldPlan:
        """Keeps some columns as they are; `constant` fills the others."""
        kept = tuple(sorted(int(c) for c in columns))
        if len(set(kept)) != len(kept) or not set(kept) <= set(range(field.output_dim)):
            raise PlanError(
                f"`columns` must be distinct and in [0, {field.output_dim}). "
                f"Received: columns={kept} for field {field.name!r}. Drop the others."
            )
        selection = np.eye(field.output_dim, dtype="float32")[:, list(kept)]
        if constant is not None:
            constant = np.array(constant, dtype="float32")
            constant[list(kept)] = 0.0
        return cls(field, selection, selection.T.copy(), constant, kept)

    @classmethod
    def full(cls, field: Field) -> FieldPlan:
        """Keeps the table as it is."""
        return cls.of_columns(field, range(field.output_dim))

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.name

    @property
    def kept_dim(self) -> int:
        """Width of the narrow table, 0 if the field is dropped."""
        return int(self.encoder.shape[1])

    @property
    def is_full(self) -> bool:
        """Whether the table stays as it is."""
        return self.columns is not None and self.kept_dim == self.field.output_dim

    def num_parameters(self) -> int:
        """Values that inference has to keep."""
        return field_cost(self.field, self.kept_dim, self.constant is not None)

    def num_bytes(self) -> int:
        """Bytes that inference has to keep."""
        return self.num_parameters() * self.field.itemsize

    def masked(self, vectors: Array) -> Array:
        """What becomes of full vectors, shape `(..., output_dim)`."""
        kept: Array = np.asarray(vectors) @ self.encoder @ self.decoder
        return kept if self.constant is None else kept + self.constant


@dataclass(frozen=True, eq=False)
class DimensionPlan:
    """How much of every table stays: the result of every search.

    Args:
        fields: One `FieldPlan` a table, names distinct.

    Raises:
        PlanError: If two of them have the same name.

    Example:

    >>> fields = [Field("user", 1000, 8), Field("item", 500, 8)]
    >>> plan = DimensionPlan.of_sizes(fields, {"user": 2, "item": 0})
    >>> plan.sizes(), plan.num_parameters()
    ({'user': 2, 'item': 0}, 2016)
    """

    fields: tuple[FieldPlan, ...]

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
        """Keeps the first `sizes[name]` columns of each field."""
        return cls(tuple(FieldPlan.of_columns(f, range(sizes[f.name])) for f in fields))

    def __iter__(self) -> Iterator[FieldPlan]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> FieldPlan:
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

    def sizes(self) -> dict[str, int]:
        """The kept width of every field."""
        return {plan.name: plan.kept_dim for plan in self.fields}

    def num_parameters(self) -> int:
        """Values that inference has to keep."""
        return sum(plan.num_parameters() for plan in self.fields)

    def num_bytes(self) -> int:
        """Bytes that inference has to keep."""
        return sum(plan.num_bytes() for plan in self.fields)

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
        return DimensionPlan(
            tuple(
                FieldPlan(
                    Field(name_of(p.name), *_shape(p.field)),
                    p.encoder, p.decoder, p.constant, p.columns,
                )
                for p in self.fields
            )
        )  # fmt: skip

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
            field = Field(**entry["field"])
            constant = arrays.get(f"{index}/constant")
            if entry["columns"] is None:
                encoder, decoder = (
                    arrays[f"{index}/encoder"],
                    arrays[f"{index}/decoder"],
                )
                plans.append(FieldPlan(field, encoder, decoder, constant))
            else:
                plans.append(FieldPlan.of_columns(field, entry["columns"], constant))
        return cls(tuple(plans))

    def _contents(self) -> tuple[dict[str, object], dict[str, Array]]:
        meta, arrays = [], {}
        for index, plan in enumerate(self.fields):
            columns = None if plan.columns is None else list(plan.columns)
            meta.append({"field": dict(vars(plan.field)), "columns": columns})
            if columns is None:
                arrays[f"{index}/encoder"] = plan.encoder
                arrays[f"{index}/decoder"] = plan.decoder
            if plan.constant is not None:
                arrays[f"{index}/constant"] = plan.constant
        return {"fields": meta}, arrays

    def __str__(self) -> str:
        """The plan as a table for people."""
        rows = [("field", "ids", "dims", "bytes")]
        for plan in self.fields:
            before, after = plan.field.num_bytes, plan.num_bytes()
            dims = f"{plan.field.output_dim} -> {plan.kept_dim}"
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


def _shape(field: Field) -> tuple[int, int, int]:
    return field.input_dim, field.output_dim, field.itemsize
