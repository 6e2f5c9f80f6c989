"""Mixed dimensions against the power rule, written out."""

from __future__ import annotations

import numpy as np
import pytest

from keras_eds import Budget, DimensionPlan, Field, RowPlan
from keras_eds.errors import BudgetError
from keras_eds.measurements import Measurements
from keras_eds.methods import MDE, Outcome, Proposal

FIELDS = (Field("user", 3000, 16), Field("item", 1200, 16), Field("day", 40, 16))


def counts(seed=0):
    """Zipf's law in a random order; some ids never come."""
    random, seen = np.random.default_rng(seed), {}
    for field in FIELDS:
        share = 1 / np.arange(1, field.input_dim + 1) ** 1.1
        expected = 20_000 * random.permutation(share) / share.sum()
        seen[field.name] = random.poisson(expected)
    return seen


def plan_of(method, budget, fields=FIELDS):
    state = method.start(fields, [budget], 0, False)
    outcome = Outcome(0.0, Measurements.of_counts(counts()))
    return method.plan(method.observe(state, Proposal("probe"), outcome), budget)


@pytest.mark.parametrize("alpha", [0.15, 0.4, 0.7])
@pytest.mark.parametrize("solved", ["alpha", "base"])
def test_widths_of_fields_follow_the_power_rule(alpha, solved):
    """What d = base * (least n / n)^alpha costs, as a budget, gives it back."""
    fields = [Field("a", 500, 16), Field("b", 4000, 16), Field("c", 30_000, 16)]
    base = 16 if solved == "alpha" else 11.3
    sizes = {
        f.name: int(np.floor(base * (500 / f.input_dim) ** alpha + 0.5)) for f in fields
    }
    cost = DimensionPlan.of_sizes(fields, sizes).num_bytes()
    method = MDE("field", alpha=None if solved == "alpha" else alpha)
    for budget in (Budget(num_bytes=cost), Budget(num_bytes=cost + 100)):
        assert plan_of(method, budget, fields).sizes() == sizes


def test_a_field_budget_below_alpha_1_lowers_the_base():
    fields = [Field("a", 500, 16), Field("b", 4000, 16)]
    sizes = {"a": 8, "b": 1}  # 16 / 2 and 16 / 2 * 500 / 4000
    cost = DimensionPlan.of_sizes(fields, sizes).num_bytes()
    assert plan_of(MDE("field"), Budget(num_bytes=cost), fields).sizes() == sizes


def errors(plan, alpha):
    """Sizes against 16 * (p / max p)^alpha, of the ids that come."""
    most = max(seen.max() for seen in counts().values())
    off = {}
    for kept in plan:
        if isinstance(kept, RowPlan):
            seen = counts()[kept.name]
            rule = 16 * (seen[seen > 0] / most) ** alpha
            off[kept.name] = kept.sizes[seen > 0] - rule
    return off


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_sizes_of_ids_follow_one_power_of_their_counts(share):
    budget = Budget(fraction=share)
    plan = plan_of(MDE(), budget)
    assert 0.99 * budget.limit(FIELDS) < plan.num_bytes() <= budget.limit(FIELDS)
    alphas = np.linspace(0.01, 1, 400)
    alpha = min(alphas, key=lambda a: np.abs(errors(plan, a)["user"]).mean())
    assert 0.05 < alpha < 0.9
    # Sizes that are joined keep their mean; one alpha for all tables.
    for off in errors(plan, alpha).values():
        assert np.abs(off).mean() < 0.6 and abs(off.mean()) < 0.3
    for name, seen in counts().items():
        sizes = plan[name].sizes if isinstance(plan[name], RowPlan) else None
        if sizes is not None:
            assert not sizes[seen == 0].any()
    assert isinstance(plan["user"], RowPlan) and len(np.unique(plan["user"].sizes)) > 2


def test_a_given_alpha_flattens_sizes():
    def spread(alpha):
        sizes = plan_of(MDE(alpha=alpha), Budget(fraction=0.3))["user"].sizes
        return np.std(sizes[counts()["user"] > 0])

    assert spread(0.1) < 0.8 * spread(0.3) < spread(0.8)


def test_options():
    budget = Budget(fraction=0.3)
    projected = plan_of(MDE(), budget)["user"]
    assert projected.projection.shape == (projected.kept_dim, 16)
    assert plan_of(MDE(projection=False), budget)["user"].projection is None
    assert plan_of(MDE(floor=1), budget)["user"].sizes.min() == 1
    assert min(plan_of(MDE("field", floor=1), Budget(fraction=0.1)).sizes().values())
    for by in ("popularity", "field"):
        with pytest.raises(BudgetError, match=r"`budget` must be at least \d+"):
            MDE(by, floor=1).start(FIELDS, [Budget(fraction=0.01)], 0, False)
    assert (MDE().granularity, MDE("field").granularity) == ("row", "field")
    assert MDE().probe["counts"] and MDE("field").probe is None
    assert MDE().rotates and not MDE(projection=False).rotates


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"by": "rows"}, "by"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"floor": -1}, "floor"),
        ({"projection": "yes"}, "projection"),
        ({"alignment": "none"}, "alignment"),
    ],
)
def test_names_a_bad_argument(options, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be.*Received: "):
        MDE(**options)
