"""The sizes of a plan, as numbers and along directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_eds.field_plan import FieldPlan
from keras_eds.plan import DimensionPlan, TablePlan
from keras_eds.row_plan import RowPlan


def along(kept: TablePlan, directions: np.ndarray) -> TablePlan:
    """The same sizes, of directions instead of columns."""
    encoder = directions[:, : kept.kept_dim].astype("float32")
    if isinstance(kept, RowPlan):
        return replace(kept, encoder=encoder, decoder=encoder.T)
    return kept if kept.is_full else FieldPlan(kept.field, encoder, encoder.T)


def sizes_in(plan: DimensionPlan) -> list[np.ndarray]:
    """The sizes of all ids under a plan, one array a table."""
    sizes = []
    for kept in plan:
        if isinstance(kept, RowPlan):
            sizes.append(np.asarray(kept.sizes))
        else:
            assert isinstance(kept, FieldPlan)
            sizes.append(np.full(kept.field.input_dim, kept.kept_dim, np.int32))
    return sizes
