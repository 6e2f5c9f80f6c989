"""The small layer that takes the place of a table."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from keras_eds.field_plan import FieldPlan
from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.plan import TablePlan
from keras_eds.row_plan import RowPlan
from keras_eds.surgery import keras_private
from keras_eds.surgery.sites import Site, is_reducing

Values = Literal["kept", "fresh"]
Alignment = Literal["plan", "fixed", "random"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
SmallLayer = PrunedFieldEmbedding | RowSizedEmbedding


def small_layer(
    site: Site, kept: TablePlan, values: Values, alignment: Alignment
) -> SmallLayer:
    """The built layer that holds what a plan keeps of a table."""
    old = site.layer
    # Layout maps and checkpoints know a table by its path.
    scopes = keras_private.table_variable(old).path.split("/")[:-2]
    with ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        if isinstance(kept, RowPlan):
            return _row_sized(site, kept, values, alignment)
        return _narrow(site, kept, values, alignment)


def _common(old: keras.layers.Embedding, kept_dim: int) -> dict[str, Any]:
    return {
        "input_dim": old.input_dim,
        "output_dim": old.output_dim,
        "embeddings_initializer": _initializer(old, kept_dim),
        "embeddings_regularizer": old.embeddings_regularizer,
        "mask_zero": old.mask_zero and not is_reducing(old),
        "combiner": old.combiner if is_reducing(old) else None,
        "activity_regularizer": old.activity_regularizer,
        "name": old.name,
        "dtype": old.dtype_policy,
        "trainable": old.trainable,
    }


def _narrow(
    site: Site, kept: FieldPlan, values: Values, alignment: Alignment
) -> PrunedFieldEmbedding:
    layer = PrunedFieldEmbedding(
        **_common(site.layer, kept.kept_dim),
        kept_dim=kept.kept_dim,
        use_constant=kept.constant is not None,
        train_projection=alignment != "fixed",
        embeddings_constraint=site.layer.embeddings_constraint,
    )
    layer.build(None)
    if layer.embeddings is not None and values == "kept":
        layer.embeddings.assign(_encoded(site.layer, kept))
    if layer.projection is not None and alignment != "random":
        layer.projection.assign(kept.decoder)
    if layer.constant is not None and (alignment != "random" or not kept.kept_dim):
        layer.constant.assign(kept.constant)
    return layer


def _row_sized(
    site: Site, kept: RowPlan, values: Values, alignment: Alignment
) -> RowSizedEmbedding:
    layer = RowSizedEmbedding(
        **_common(site.layer, kept.kept_dim),
        sizes=kept.sizes,
        blocks=kept.blocks,
        use_projection=kept.encoder is not None,
        use_constant=kept.mean is not None,
        projection_initializer="glorot_uniform",
        train_projection=alignment != "fixed",
    )
    if values == "kept":
        layer.build_from_rows(kept.rows(_table(site.layer)))
    else:
        layer.build()
    if layer.projection is not None and alignment != "random":
        layer.projection.assign(kept.projection)
    if layer.constant is not None and (alignment != "random" or not kept.kept_dim):
        layer.constant.assign(kept.mean)
    return layer


def _table(old: keras.layers.Embedding) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(keras_private.table_variable(old)))


def _encoded(old: keras.layers.Embedding, kept: FieldPlan) -> np.ndarray:
    table = _table(old)
    if kept.columns is not None:
        return table[:, list(kept.columns)]
    return np.asarray(table.astype("float64") @ kept.encoder)


def _initializer(old: keras.layers.Embedding, kept_dim: int) -> Any:
    # One that holds the wide table can only give that, and would be saved with it.
    initializer, shape = old.embeddings_initializer, (2, max(1, kept_dim))
    holds_table = np.ndim(getattr(initializer, "value", 0.0)) > 0
    try:
        drawn = None if holds_table else initializer(shape, old.variable_dtype)
    except Exception:
        drawn = None
    return initializer if drawn is not None and drawn.shape == shape else "uniform"
