"""Writes the widths of a plan into the table configs of keras-rs."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_eds.errors import PlanError
from keras_eds.field_plan import FieldPlan
from keras_eds.plan import DimensionPlan, TablePlan


def write_widths(feature_configs: Any, plan: DimensionPlan) -> Any:
    """Table configs whose `embedding_dim` is what a plan keeps of each table.

    A `keras_rs.layers.DistributedEmbedding` of them has tables of the plan's
    widths, for training from scratch, also where its tables are placed on a
    SparseCore. It gives vectors of these widths, without the alignment to the old
    width: what comes behind must take them, as a concatenation does. Where one
    width is needed, as in an inner product, let `keras.layers.Dense(width,
    use_bias=False)` follow each. To go on from trained values, and with rows of
    many sizes, use `keras_eds.apply_plan` on the model.

    Args:
        feature_configs: Any structure of `keras_rs.layers.FeatureConfig`, not
            changed.
        plan: Of a search, whose table names may be paths that end in the table's
            own (`"embedding/user"`). Of these tables only; the ones that it does not
            name stay.

    Returns:
        The same structure of new configs. Features that shared a table still do.

    Raises:
        PlanError: If the plan names another table, two of its tables have the
            name of one, or one has another shape, no width, or rows of many sizes.
        TypeError: If something else than a `FeatureConfig` is given.

    Example:

    >>> plan = keras_eds.DimensionPlan.of_sizes(fields, {"user": 4, "item": 8})
    >>> configs = keras_eds.keras_rs_tables.write_widths(configs, plan)
    >>> embedding = keras_rs.layers.DistributedEmbedding(configs)
    """
    features = keras.tree.flatten(feature_configs)
    _check_features(features)
    tables = {id(feature.table): feature.table for feature in features}
    kept = {key: _plan_of(table, plan) for key, table in tables.items()}
    written = {found.name for found in kept.values() if found is not None}
    others = [planned.name for planned in plan if planned.name not in written]
    if others:
        raise PlanError(
            "`plan` must name tables of `feature_configs` only. Received: "
            f"{others}, but the tables are "
            f"{sorted(table.name for table in tables.values())}. Rename them with "
            "plan.renamed, or leave them out of the plan."
        )
    narrow = {key: _narrowed(table, kept[key]) for key, table in tables.items()}
    return keras.tree.map_structure(
        lambda feature: _with_table(feature, narrow[id(feature.table)]),
        feature_configs,
    )


def _check_features(features: list[Any]) -> None:
    others = [f for f in features if not hasattr(f, "table")]
    if others or not features:
        raise TypeError(
            "`feature_configs` must hold keras_rs.layers.FeatureConfig. Received: "
            f"{[type(f).__name__ for f in others] or 'nothing'}. Give what "
            "DistributedEmbedding is made of, not the tables."
        )


def _plan_of(table: Any, plan: DimensionPlan) -> TablePlan | None:
    named = [kept for kept in plan if kept.name == table.name]
    ending = [kept for kept in plan if kept.name.endswith(f"/{table.name}")]
    found = named or ending
    if len(found) > 1:
        raise PlanError(
            "`plan` must have one table for each name. Received: "
            f"{[kept.name for kept in found]} for {table.name!r}. Rename one with "
            "plan.renamed."
        )
    return found[0] if found else None


def _narrowed(table: Any, kept: TablePlan | None) -> Any:
    if kept is None:
        return table
    shape = (table.vocabulary_size, table.embedding_dim)
    planned = (kept.field.input_dim, kept.field.output_dim)
    reason = None
    if planned != shape:
        reason = f"a plan for shape {planned}, where the table has {shape}"
    elif not isinstance(kept, FieldPlan):
        reason = "rows of many sizes, where a table config has one width"
    elif not kept.kept_dim:
        reason = "no width at all: leave its features out of `feature_configs`"
    if reason is not None:
        raise PlanError(
            "`plan` must give each table one width from 1 to its own. Received: for "
            f"{table.name!r} {reason}. Search with method='sseds', or apply the plan "
            "to the model."
        )
    return dataclasses.replace(table, embedding_dim=kept.kept_dim)


def _with_table(feature: Any, table: Any) -> Any:
    shape = (*feature.output_shape[:-1], table.embedding_dim)
    return dataclasses.replace(feature, table=table, output_shape=shape)
