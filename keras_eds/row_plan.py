"""What stays of one embedding table where every id has a size of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_eds.cost import Cost
from keras_eds.errors import PlanError
from keras_eds.field import Field
from keras_eds.field_plan import Array
from keras_eds.layers.row_blocks import (
    RowBlock,
    choose_blocks,
    position_dtype,
    stored_values,
)


def row_cost(
    field: Field, blocks: Sequence[RowBlock], rotated: bool, constant: bool
) -> Cost:
    """The cost of a table cut in `blocks`.

    Args:
        field: The table.
        blocks: Its layout.
        rotated: Whether an alignment `(largest size, output_dim)` is kept.
        constant: Whether a constant vector is kept.
    """
    widest = blocks[0].width if blocks else 0
    beside = widest * field.output_dim if rotated else 0
    beside += field.output_dim if constant else 0
    if not blocks:
        return Cost(0, beside, scales=0)
    place_bytes = np.dtype(position_dtype(field.input_dim)).itemsize
    return Cost(
        stored_values(blocks, field.input_dim),
        beside,
        scales=widest,
        entries=field.input_dim + widest,
        entry_bytes=field.input_dim * place_bytes + widest * 4,
    )


@dataclass(frozen=True, eq=False)
class RowPlan:
    """What stays of each row: the first `sizes[i]` values of a rotated vector.

    `vector ~ ((vector - mean) @ encoder)[:size] @ decoder[:size] + mean`, with
    `size = sizes[id]`.

    Args:
        field: The table that the plan is for.
        sizes: Integers of shape `(input_dim,)` from 0 to `width`.
        encoder: Shape `(output_dim, width)`, the best directions first. `None`:
            the table's own columns in their order.
        decoder: Shape `(width, output_dim)`, back again. `None` with `encoder`.
        mean: Shape `(output_dim,)`: the vector of an id of size 0. `None`: zeros.
        blocks: How the rows are laid out, as pairs (ids, width). Defaults to
            `None`: few tables with little padding.

    Raises:
        PlanError: If the shapes do not fit or a value is not finite.

    Example:

    >>> plan = RowPlan(Field("user", 4, 8), np.array([8, 2, 0, 1]))
    >>> plan.masked(np.ones((4, 8))).sum(axis=1)
    array([8., 2., 0., 1.])
    """

    field: Field
    sizes: Array
    encoder: Array | None = None
    decoder: Array | None = None
    mean: Array | None = None
    blocks: Sequence[RowBlock] | None = None

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_matrices()
        for name in ("sizes", "encoder", "decoder", "mean"):
            array = getattr(self, name)
            if array is not None:
                own = np.array(array, "int32" if name == "sizes" else "float32")
                own.setflags(write=False)
                object.__setattr__(self, name, own)
        blocks = choose_blocks(self.sizes) if self.blocks is None else self.blocks
        object.__setattr__(self, "blocks", tuple(RowBlock(*block) for block in blocks))

    def _check_sizes(self) -> None:
        ids, sizes = self.field.input_dim, np.asarray(self.sizes)
        most = self.field.output_dim
        if self.encoder is not None:
            most = min(most, np.asarray(self.encoder).shape[-1])
        integers = np.issubdtype(sizes.dtype, np.integer)
        fit = integers and sizes.shape == (ids,) and 0 <= sizes.min() <= sizes.max()
        if not fit or sizes.max() > most:
            raise PlanError(
                f"`sizes` must be {ids} integers from 0 to {most}. Received: shape "
                f"{sizes.shape} of {sizes.dtype} for field {self.field.name!r}. Give "
                "every id a size in this range."
            )

    def _check_matrices(self) -> None:
        width = self.field.output_dim
        given = (self.encoder, self.decoder, self.mean)
        shapes = [None if a is None else np.asarray(a).shape for a in given]
        inner = shapes[0][-1] if shapes[0] else 0
        rotated = shapes[:2] == [(width, inner), (inner, width)] and inner <= width
        if not (rotated or shapes[:2] == [None] * 2) or (
            shapes[2] not in (None, (width,))
        ):
            raise PlanError(
                "`encoder`, `decoder` and `mean` must have the shapes "
                f"({width}, d), (d, {width}) and ({width},) with d <= {width}. "
                f"Received: {shapes} for field {self.field.name!r}. Build the plan "
                "with a method of this library."
            )
        for array in given:
            if array is not None and not np.all(np.isfinite(array)):
                raise PlanError(
                    "A plan must be finite. Received: NaN or infinity in the plan of "
                    f"field {self.field.name!r}. Measure again on data without NaN."
                )

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.name

    @property
    def kept_dim(self) -> int:
        """The largest size."""
        return int(self.sizes.max())

    @property
    def mean_dim(self) -> float:
        """The mean size of an id."""
        return float(self.sizes.mean())

    @property
    def columns(self) -> None:
        """No selection of columns: see `FieldPlan.columns`."""
        return None

    @property
    def is_full(self) -> bool:
        """Whether the table stays as it is: never, ids have sizes of their own."""
        return False

    def num_parameters(self) -> int:
        """Values and index entries that inference has to keep."""
        return self._cost().in_unit("parameters", self.field)

    def num_bytes(self) -> int:
        """Bytes that inference has to keep."""
        return self._cost().in_unit("bytes", self.field)

    def _cost(self) -> Cost:
        assert self.blocks is not None
        rotated, constant = self.encoder is not None, self.mean is not None
        return row_cost(self.field, self.blocks, rotated, constant)

    def rows(self, table: Array) -> Array:
        """What the rows of a full table become, zeros beyond each id's size.

        In an orthonormal frame of the decoder's directions: narrow rows then have
        the scale of full ones. The frame is triangular in the directions, so that
        a prefix stays a prefix.

        Args:
            table: Shape `(input_dim, output_dim)`.

        Returns:
            Shape `(input_dim, kept_dim)`; times `projection` it is centred.
        """
        values = np.asarray(table, "float32")
        values = values if self.mean is None else values - self.mean
        width = self.kept_dim
        if self.encoder is None:
            rows = values[:, :width].copy()
        else:
            rows = values @ self.encoder[:, :width]
        rows[np.arange(width) >= self.sizes[:, None]] = 0.0
        return rows if self.encoder is None else rows @ self._frame()[1].T

    @property
    def projection(self) -> Array | None:
        """Brings `rows` back to full width, shape `(kept_dim, output_dim)`."""
        return None if self.encoder is None else self._frame()[0].T

    def _frame(self) -> tuple[Array, Array]:
        assert self.decoder is not None
        decoder = self.decoder[: self.kept_dim].astype("float64")
        frame, mix = np.linalg.qr(decoder.T)
        return frame.astype("float32"), mix.astype("float32")

    def masked(self, table: Array) -> Array:
        """What becomes of the vectors of all ids, `(input_dim, output_dim)`."""
        rows, projection = self.rows(table), self.projection
        if projection is None:
            missing = self.field.output_dim - rows.shape[1]
            vectors: Array = np.pad(rows, [(0, 0), (0, missing)])
        else:
            vectors = rows @ projection
        return vectors if self.mean is None else vectors + self.mean

    def contents(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The plan as plain values and arrays."""
        assert self.blocks is not None
        names = ("sizes", "encoder", "decoder", "mean")
        arrays = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        return {"kind": "rows", "blocks": [list(b) for b in self.blocks]}, arrays

    @classmethod
    def of_contents(
        cls, field: Field, meta: dict[str, Any], arrays: dict[str, Array]
    ) -> RowPlan:
        """The plan that `contents` described."""
        blocks = [RowBlock(*block) for block in meta["blocks"]]
        return cls(field, **arrays, blocks=blocks)
