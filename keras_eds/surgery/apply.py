"""Makes a model's tables as small as a plan says."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras
import numpy as np

from keras_eds.argument_checks import check_choice
from keras_eds.errors import FieldError, PlanError
from keras_eds.plan import DimensionPlan, TablePlan
from keras_eds.surgery import keras_private
from keras_eds.surgery.compact_model import make_compact
from keras_eds.surgery.copying import compile_result, copy_model
from keras_eds.surgery.measure import strategy_scope
from keras_eds.surgery.sites import Site, all_sites, refuse_unsupported
from keras_eds.surgery.small_layer import ALIGNMENTS, Alignment, Values, small_layer


def apply_plan(
    model: keras.Model,
    plan: DimensionPlan,
    values: Values = "kept",
    alignment: Alignment = "plan",
    in_place: bool = False,
) -> keras.Model:
    """Gives a model tables that are physically as small as the plan says.

    Each table E becomes `E @ encoder`, followed by the alignment
    `decoder` and `constant` of its `FieldPlan`, or the packed prefixes of its
    rows that a `RowPlan` keeps. With the defaults, the outputs are those of the
    model with the plan's `masked` table in place of every table.

    Args:
        model: A built Keras model.
        plan: Which tables, and how wide. Tables that it does not name stay.
        values: `"kept"` starts from the model's values, `"fresh"` draws the
            narrow tables from the old ones' initializers. Defaults to `"kept"`.
        alignment: `"plan"` starts from the plan's decoder and constant, `"random"`
            from a Glorot-uniform projection. `"fixed"` is `"plan"` with decoders
            that do not learn. Defaults to `"plan"`.
        in_place: Whether to change `model` itself; otherwise a copy is changed.
            Defaults to `False`.

    Returns:
        The changed model, compiled as `model` is, with a new optimizer state.

    Raises:
        PlanError: If the plan does not belong to the model.
        FieldError: If a table of the plan cannot be made narrow.
        ValueError: If `values` or `alignment` is none of its choices.

    Example:

    >>> plan = keras_eds.DimensionPlan.of_sizes(fields, {"user": 4, "item": 8})
    >>> small = keras_eds.apply_plan(model, plan)
    """
    check_choice("values", values, ("kept", "fresh"))
    check_choice("alignment", alignment, ALIGNMENTS)
    pairs = match(model, plan)
    for site, _ in pairs:
        refuse_unsupported(site)
    if not in_place:
        model = copy_model(model)
        pairs = match(model, plan)
    changed = [(site, kept) for site, kept in pairs if not kept.is_full]
    with strategy_scope(model):
        layers = [small_layer(site, kept, values, alignment) for site, kept in changed]
    for (site, _), layer in zip(changed, layers, strict=True):
        keras_private.become(site.layer, layer)
    keras_private.refresh(model)
    if getattr(model, "compiled", False):
        compile_result(model, model)
    make_compact(model)
    verify(model, pairs)
    return model


def match(model: keras.Model, plan: DimensionPlan) -> list[tuple[Site, TablePlan]]:
    """Pairs every field of the plan with its table in the model.

    By name; where a name is not found, and as many tables of the same shapes and
    the same names but for a number stand in the same order, by order: Keras
    numbers unnamed layers anew whenever a model is built.
    """
    names = {kept.name for kept in plan}
    sites = all_sites(model)
    by_name = {site.field.name: site for site in sites}
    if names <= set(by_name):
        pairs = [(by_name[kept.name], kept) for kept in plan]
    elif [_unnumbered(s.field.name) for s in sites] == [
        _unnumbered(kept.name) for kept in plan
    ]:
        pairs = list(zip(sites, plan, strict=True))
    else:
        raise PlanError(
            "`plan` must name tables of `model`. Received: "
            f"{sorted(names - set(by_name))}, but the model has {sorted(by_name)}. "
            "Use the plan with the model that it was made for."
        )
    for site, kept in pairs:
        here, there = site.field, kept.field
        same = (here.input_dim, here.output_dim) == (there.input_dim, there.output_dim)
        if not same:
            raise PlanError(
                "`plan` must have the shapes of the model's tables. Received: "
                f"{there} for table {here}. Use the plan with the model it is for."
            )
        if not site.layer.built:
            raise FieldError(
                f"`model` must be built. Received: unbuilt table {here.name!r}. "
                "Call the model on one batch first."
            )
        if site.layer.embeddings_constraint is not None and kept.columns is None:
            raise FieldError(
                "`plan` must keep columns where a table has a constraint, which a "
                f"rotation would break. Received: a subspace for {here.name!r}. "
                "Search with basis='columns' or leave the table out with `filters`."
            )
    return pairs


def _unnumbered(name: str) -> str:
    return re.sub(r"_\d+(?=/|$)", "", name)


def verify(model: keras.Model, pairs: Sequence[tuple[Site, TablePlan]]) -> None:
    """Checks that what stands in the model now is what the plan promised.

    Raises:
        FieldError: If a table is missing, or has other than the promised size.
    """
    present = {id(layer) for layer in keras_private.all_layers(model)}
    known: set[int] = {id(variable) for variable in model.variables}
    for site, kept in pairs:
        variables = list(site.layer.variables)
        count = sum(int(np.prod(v.shape)) for v in variables)
        missing = id(site.layer) not in present or not all(
            id(variable) in known for variable in variables
        )
        if missing or count != kept.num_parameters():
            raise FieldError(
                f"Table {kept.name!r} must have {kept.num_parameters()} values in the "
                f"model after surgery. Received: {count}, "
                f"{'not ' if missing else ''}reachable from the model. Hold the layer "
                "in an attribute, list or dict of the model."
            )
