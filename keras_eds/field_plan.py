"""What stays of one embedding table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_eds.cost import Cost
from keras_eds.errors import PlanError
from keras_eds.field import Field

Array = np.ndarray


def field_cost(field: Field, kept_dim: int, constant: bool) -> Cost:
    """What inference has to keep of `field` at width `kept_dim`.

    `input_dim * d + d * output_dim (+ output_dim)` for 0 < d < `output_dim`:
    the narrow table, the alignment and the constant. A field of full width is
    left as it is and needs neither.
    """
    if kept_dim == field.output_dim:
        # Keras has a scale for each row where the others have one for each column.
        return Cost(field.num_parameters, 0, scales=field.input_dim)
    extra = field.output_dim if constant else 0
    beside = kept_dim * field.output_dim + extra
    return Cost(kept_dim * field.input_dim, beside, scales=kept_dim)


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
        if kept == width and (self.columns is None or self.constant is not None):
            raise PlanError(
                "`encoder` must be narrower than the table, or the plan keep all "
                f"columns as they are. Received: {kept} rotated or shifted columns for "
                f"field {self.field.name!r}. Use FieldPlan.full(field)."
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
        if len(kept) == field.output_dim:
            # Nothing is cut that a constant could stand for.
            constant = None
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
    def mean_dim(self) -> float:
        """The mean size of an id: all have the same."""
        return float(self.kept_dim)

    @property
    def is_full(self) -> bool:
        """Whether the table stays as it is."""
        return self.columns is not None and self.kept_dim == self.field.output_dim

    def num_parameters(self) -> int:
        """Values that inference has to keep."""
        return self._cost().in_unit("parameters", self.field)

    def num_bytes(self) -> int:
        """Bytes that inference has to keep."""
        return self._cost().in_unit("bytes", self.field)

    def _cost(self) -> Cost:
        return field_cost(self.field, self.kept_dim, self.constant is not None)

    def masked(self, vectors: Array) -> Array:
        """What becomes of full vectors, shape `(..., output_dim)`."""
        kept: Array = np.asarray(vectors) @ self.encoder @ self.decoder
        return kept if self.constant is None else kept + self.constant

    def contents(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The plan as plain values and arrays."""
        meta: dict[str, Any] = {"kind": "field", "columns": self.columns}
        arrays = {} if self.constant is None else {"constant": self.constant}
        if self.columns is None:
            arrays |= {"encoder": self.encoder, "decoder": self.decoder}
        return meta, arrays

    @classmethod
    def of_contents(
        cls, field: Field, meta: dict[str, Any], arrays: dict[str, Array]
    ) -> FieldPlan:
        """The plan that `contents` described."""
        if meta["columns"] is None:
            encoder, decoder = arrays["encoder"], arrays["decoder"]
            return cls(field, encoder, decoder, arrays.get("constant"))
        return cls.of_columns(field, meta["columns"], arrays.get("constant"))
