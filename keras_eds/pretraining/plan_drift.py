"""Does a plan that was found on last week's data still fit this week's?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.budget import Budget
from keras_eds.errors import DataError, PlanError
from keras_eds.field import Field
from keras_eds.measurements import Measurements
from keras_eds.methods import SSEDS, Method, Outcome, PrincipalRows, Proposal
from keras_eds.plan import DimensionPlan
from keras_eds.pretraining.drift_report import FieldDrift, PlanDrift
from keras_eds.surgery import keras_private
from keras_eds.surgery.apply import apply_plan, match
from keras_eds.surgery.count import count_ids
from keras_eds.surgery.measure import measure
from keras_eds.surgery.sites import sites_named

Counts = Mapping[str, np.ndarray]


def plan_drift(
    model: keras.Model,
    plan: DimensionPlan,
    last: Mapping[str, Any],
    this: Mapping[str, Any],
    now: Method | DimensionPlan | None = None,
) -> PlanDrift:
    """Checks on this week's data a plan that was found on last week's.

    Says how far the ids that are looked up have moved, which plan the same bytes
    would give now, how far that is from the old one, and what either scores on
    this week's data. If the old plan scores as well as the new one, keep it. One
    pass over both weeks counts ids and one short probe measures gradients; nothing
    is trained, and `model` stays as it is.

    Args:
        model: The full-size model, trained and compiled.
        plan: The plan for it that is in use.
        last: Last week's data: `x` and, where needed, `batch_size`, as in `fit`.
        this: This week's: `x`, `y`, `sample_weight`, `batch_size`, as in `fit`.
        now: The method that searches now, one that plans from a single pass; or a
            plan that was searched otherwise. Defaults to `None`: `PrincipalRows`
            where ids have sizes of their own, else `SSEDS`.

    Returns:
        The report; `report.now` is the plan found now.

    Raises:
        PlanError: If a plan does not belong to the model, or the method has to
            train before it can plan.
        DataError: If an id is out of range, or data is of a kind that is not named
            above, such as a generator, which can be read only once.

    Example:

    >>> report = plan_drift(model, plan, {"x": x_last}, {"x": x_this, "y": y_this})
    >>> print(report)
    >>> small = keras_eds.apply_plan(model, report.now)

    Reference:
        A plan is searched again as data moves in the deployment of Qu et al.,
        Single-shot Embedding Dimension Search in Recommender System, SIGIR 2022.
    """
    _check("last", last)
    _check("this", this)
    pairs = match(model, plan)
    # The plan in the model's names.
    old = DimensionPlan(tuple(replace(kept, field=site.field) for site, kept in pairs))
    fields = [kept.field for kept in old]
    names = [field.name for field in fields]
    counted = [_counts(model, data, names) for data in (last, this)]
    if not isinstance(now, DimensionPlan):
        method = now or (PrincipalRows() if old.has_row_sizes else SSEDS())
        now = _search(model, fields, this, counted[1], method, old)
    found = {site.field.name: kept for site, kept in match(model, now)}
    if set(found) != set(names):
        raise PlanError(
            "`now` must plan the tables that `plan` does. Received: "
            f"{sorted(found)}, but `plan` has {sorted(names)}. Search the same tables."
        )
    moved = []
    for kept in old:
        new, field = found[kept.name], kept.field
        last_counts, this_counts = (counts[field.name] for counts in counted)
        new = replace(new, field=field)
        moved.append(FieldDrift(kept, new, last_counts, this_counts))
    return PlanDrift(tuple(moved), _scores(model, old, now, this))


def _check(argument: str, data: Mapping[str, Any]) -> None:
    known = ("x", "y", "sample_weight", "batch_size")
    if set(data) <= set(known) and "x" in data and not isinstance(data["x"], Iterator):
        return
    received = {key: type(value).__name__ for key, value in data.items()}
    raise DataError(
        f"`{argument}` must have `x`, arrays or a data set that can be read more than "
        f"once, and of {known[1:]} what `fit` would get. Received: {received}. Leave "
        "out other arguments of `fit`; make a tf.data.Dataset of a generator."
    )


def _counts(
    model: keras.Model, data: Mapping[str, Any], names: Sequence[str]
) -> Counts:
    wanted = {key: data[key] for key in ("x", "batch_size") if key in data}
    return count_ids(model, wanted, lambda field: field.name in names)


def _search(
    model: keras.Model,
    fields: Sequence[Field],
    data: Mapping[str, Any],
    counts: Counts,
    method: Method,
    plan: DimensionPlan,
) -> DimensionPlan:
    """The plan that the method finds on the data for the bytes of the old one."""
    budget = Budget(num_bytes=plan.num_bytes())
    state = method.start(fields, [budget], seed=0, trained=True)
    proposal = method.propose(state)
    if isinstance(proposal, Proposal) and proposal.stage == "probe":
        if proposal.settings.get("counts"):
            measured = Measurements.of_counts(counts)
        else:
            measured = _measure(model, counts, data, proposal.settings["batches"])
        outcome = Outcome(score=float("nan"), measurements=measured)
        proposal = method.propose(method.observe(state, proposal, outcome))
    if not isinstance(proposal, Proposal) or proposal.stage != "retrain":
        raise PlanError(
            "`now` must be a method that plans from one pass, or a plan. Received: "
            f"{type(method).__name__}, which has to train first. Search with it as you "
            "did for `plan`, and give the plan that it found."
        )
    assert proposal.plan is not None
    return proposal.plan


def _measure(
    model: keras.Model, counts: Counts, data: Mapping[str, Any], batches: int | None
) -> Measurements:
    measured = measure(model, data, batches, lambda field: field.name in counts)
    sites = sites_named(model, list(counts))
    tables = {
        site.field.name: ops.convert_to_numpy(keras_private.table_variable(site.layer))
        for site in sites
    }
    return Measurements(
        {
            name: replace(measured[name], counts=counts[name], table=tables[name])
            for name in counts
        }
    )


def _scores(
    model: keras.Model,
    plan: DimensionPlan,
    now: DimensionPlan,
    data: Mapping[str, Any],
) -> dict[str, dict[str, float]]:
    models = {"full": model, "plan": apply_plan(model, plan)}
    models["now"] = apply_plan(model, now)
    options = {"return_dict": True, "verbose": 0}
    scores = {name: m.evaluate(**data, **options) for name, m in models.items()}
    return {
        name: {metric: float(value) for metric, value in score.items()}
        for name, score in scores.items()
    }
