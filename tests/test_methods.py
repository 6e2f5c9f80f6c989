"""What every method owes the search that drives it, and each its formula."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_eds import Budget, DimensionPlan, Field, methods
from keras_eds.errors import BudgetError, StageError
from keras_eds.id_quality import IdQuality, Qualities
from keras_eds.learned_sizes import FieldSizes, LearnedSizes
from keras_eds.measurements import FieldMeasurement, Measurements
from keras_eds.methods import CIESS, METHODS, SSEDS, Outcome, RandomSizes, Uniform

FIELDS = (Field("user", 200, 8), Field("item", 50, 8), Field("day", 7, 4))
MEASURING = ("sseds", "principal_rows")
COUNTING = ("random_rows", "mde", "ciess")
BUDGETS = (Budget(fraction=0.5), Budget(fraction=0.2))


def measurements(seed=0):
    random, by_field = np.random.default_rng(seed), {}
    for field in FIELDS:
        width = field.output_dim
        vectors, slopes = random.normal(size=(2, 40, width))
        gate_sum = random.normal(size=width)
        by_field[field.name] = FieldMeasurement(
            gate_abs=np.abs(gate_sum) + random.exponential(size=width),
            gate_sum=gate_sum,
            mean=vectors.mean(axis=0),
            second_moment=vectors.T @ vectors / 40,
            gradient_moment=slopes.T @ slopes,
            lookups=40.0,
            counts=random.integers(0, 9, field.input_dim),
            table=random.normal(size=(field.input_dim, width)).astype("float32"),
        )
    return Measurements(by_field)


def outcome_of(proposal):
    if proposal.stage == "learn":
        return Outcome(0.5, learned=learned(len(proposal.settings["budgets"])))
    measured = measurements() if proposal.stage == "probe" else None
    return Outcome(0.5, measured, qualities=qualities())


def qualities():
    """Every id was served alike."""
    ids = {f.name: np.ones(f.input_dim) for f in FIELDS}
    return Qualities({n: IdQuality(0.5 * one, one) for n, one in ids.items()})


def made(name):
    """A method by name, with networks that are small."""
    if name != "ciess":
        return methods.get(name)
    agent = {"td3": {"hidden_units": [4], "batch_size": 16}}
    return CIESS(1, 2, updates=1, agent=agent)


def learned(moments):
    """Sizes of two groups of ids, any two of each field."""
    random = np.random.default_rng(0)
    return LearnedSizes(
        {
            f.name: FieldSizes(
                np.arange(f.input_dim) % 2,
                random.normal(size=(moments, 2, f.output_dim + 1)),
                np.ones(2),
            )
            for f in FIELDS
        }
    )


def run(method, seed=3, trained=False, fail=(), budgets=BUDGETS):
    """All proposals of a search, of which those numbered in `fail` fail."""
    state, proposals = method.start(FIELDS, budgets, seed, trained), []
    while (proposal := method.propose(state)) is not None:
        assert proposal != "wait" and len(proposals) < 20
        failed = len(proposals) in fail
        proposals.append(proposal)
        outcome = None if failed else outcome_of(proposal)
        state = method.observe(state, proposal, outcome)
    return proposals, state


every = pytest.mark.parametrize("name", list(METHODS))


@every
@pytest.mark.parametrize("trained", [True, False])
def test_stages_come_in_order_and_as_many_as_said(name, trained):
    method = made(name)
    proposals, state = run(method, trained=trained)
    stages = [p.stage for p in proposals]
    front = [s for s in ("pretrain", "probe", "learn", "step") if s in stages]
    front += ["step"] * (stages.count("step") - 1)
    assert stages == front + ["retrain"] * len(BUDGETS) * method.draws
    assert len(proposals) == method.num_stages(state)
    assert ("pretrain" in stages) == (name in (*MEASURING, "ciess") and not trained)
    assert ("probe" in stages) == (name in MEASURING + COUNTING)
    assert ("learn" in stages) == (name == "amtl")
    assert stages.count("step") == (2 if name == "ciess" else 0)
    wanted = [(budget, draw) for budget in BUDGETS for draw in range(method.draws)]
    for proposal, (budget, draw) in zip(proposals[len(front) :], wanted, strict=True):
        assert proposal.budget == budget and proposal.plan.fits(budget)
        assert set(proposal.plan.sizes()) == {f.name for f in FIELDS}
        assert proposal.plan == method.plan(state, budget, draw)
        json.dumps(dict(proposal.settings))
        assert {"warm_start", "alignment"} <= set(proposal.settings)
    for proposal in proposals[: len(front)]:
        assert (proposal.plan is None) == (proposal.stage != "step")
        assert proposal.budget is None


@every
def test_the_same_seed_gives_the_same_plans(name):
    def plans(seed):
        return [p.plan for p in run(made(name), seed)[0] if p.plan is not None]

    assert plans(3) == plans(3)
    assert (plans(3) == plans(4)) == (name not in ("random", "random_rows", "ciess"))


@every
def test_waits_for_what_its_next_step_needs(name):
    method = made(name)
    state = method.start(FIELDS, BUDGETS, 0, False)
    while (proposal := method.propose(state)).stage != "retrain":
        assert method.propose(state, [proposal]) == "wait"
        state = method.observe(state, proposal, outcome_of(proposal))
    # Retrainings do not need each other.
    pending = [proposal]
    while (proposal := method.propose(state, pending)) is not None:
        pending.append(proposal)
    assert {p.stage for p in pending} == {"retrain"}
    budgets = [budget for budget in BUDGETS for _ in range(method.draws)]
    assert [p.budget for p in pending] == budgets


@every
def test_a_failed_stage_ends_or_not(name):
    method = made(name)
    whole = run(method)[0]
    for number, proposal in enumerate(whole):
        seen = run(method, fail=[number])[0]
        ends = proposal.stage != "retrain"
        assert len(seen) == (number + 1 if ends else len(whole))


def test_a_saliency_needs_a_probe():
    method = SSEDS()
    state = method.start(FIELDS, BUDGETS, 0, True)
    with pytest.raises(StageError, match="probe"):
        method.plan(state, BUDGETS[0])
    state = run(method)[1]
    shares = method.saliency(state)
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) > 0


@pytest.mark.parametrize("reduce", ["abs", "sum"])
def test_columns_are_the_papers_ranking(reduce):
    """s_ij = |g_ij| / sum |g|, the largest over all fields until it is full."""
    method = SSEDS(basis="columns", reduce=reduce, fill="zero")
    _, state = run(method)
    values = measurements()
    gates = {
        f.name: values[f.name].gate_abs if reduce == "abs"
        else np.abs(values[f.name].gate_sum)
        for f in FIELDS
    }  # fmt: skip
    total = sum(g.sum() for g in gates.values())
    ranked = sorted(
        ((g / total, name, c) for name, gs in gates.items() for c, g in enumerate(gs)),
        reverse=True,
    )
    for budget in (Budget(fraction=0.2), Budget(fraction=0.5), Budget(parameters=60)):
        kept, left = {f.name: [] for f in FIELDS}, budget.limit(FIELDS)
        full = set()
        for _, name, column in ranked:
            field = next(f for f in FIELDS if f.name == name)
            price = field.input_dim + field.output_dim
            if len(kept[name]) + 1 == field.output_dim:
                price = field.num_parameters - len(kept[name]) * price
            price *= field.itemsize if budget.unit == "bytes" else 1
            if price <= left and name not in full:
                kept[name].append(column)
                left -= price
            else:
                full.add(name)  # Its next column is the same price or dearer.
        plan = method.plan(state, budget)
        columns = {p.name: sorted(p.columns) for p in plan}
        assert columns == {name: sorted(chosen) for name, chosen in kept.items()}
    shares = method.saliency(state)
    for name, gate in gates.items():
        assert shares[name] == pytest.approx(gate.sum() / total)


@pytest.mark.parametrize("basis", ["columns", "principal"])
def test_options_of_sseds(basis):
    def plan_of(budget=BUDGETS[1], **options):
        method = SSEDS(basis=basis, **options)
        return method.plan(run(method, budgets=[budget])[1], budget)

    means = {name: value.mean for name, value in measurements().items()}
    dropped = plan_of(Budget(parameters=20))
    assert dropped.sizes() == {"user": 0, "item": 0, "day": 0}
    for kept in dropped:
        np.testing.assert_allclose(kept.constant, means[kept.name], rtol=1e-5)
    zero = plan_of(Budget(parameters=10), fill="zero")
    assert zero.num_parameters() == 0 and zero["user"].constant is None
    assert min(plan_of(BUDGETS[0], floor=1).sizes().values()) >= 1
    assert plan_of(BUDGETS[0], floor=2)["user"].kept_dim >= 2
    by_byte, by_column = (
        plan_of(score_per_byte=choice).sizes() for choice in (True, False)
    )
    assert by_byte["day"] >= by_column["day"] and by_byte["user"] <= by_column["user"]
    assert by_byte != by_column
    for kept in plan_of(Budget(fraction=1.0)):
        assert kept.is_full
    with pytest.raises(BudgetError, match=r"at least \d+ parameters"):
        SSEDS(basis=basis, floor=1).start(FIELDS, [Budget(parameters=100)], 0, True)


def test_uniform_widths_are_as_equal_as_the_budget_allows():
    for share in (0.1, 0.3, 0.6, 1.0):
        budget = Budget(fraction=share)
        sizes = run(Uniform(), budgets=[budget])[0][-1].plan.sizes()
        # The dear table has a width; cheaper ones the same, or what is left over.
        assert sizes["item"] >= sizes["user"]
        assert sizes["day"] >= min(4, sizes["item"])
        wide = {f.name: min(f.output_dim, sizes["user"] + 1) for f in FIELDS}
        if share < 1:
            assert not DimensionPlan.of_sizes(FIELDS, wide).fits(budget)
        else:
            assert sizes == {f.name: f.output_dim for f in FIELDS}


def test_random_draws_differ_and_use_every_width():
    proposals, state = run(RandomSizes(draws=6), budgets=[BUDGETS[0]])
    method = RandomSizes(draws=6)
    plans = [method.plan(state, BUDGETS[0], draw) for draw in range(6)]
    # One that comes again is not trained again.
    first = [draw for draw, plan in enumerate(plans) if plan not in plans[:draw]]
    assert [p.settings["draw"] for p in proposals] == first
    assert len(first) >= 3 and method.num_stages(state) == len(first)
    widths = {
        run(RandomSizes(), seed, budgets=[BUDGETS[0]])[0][0].plan.sizes()["item"]
        for seed in range(40)
    }
    assert len(widths) >= 4


@pytest.mark.parametrize("name", ["sseds", "random", "uniform"])
def test_gets_methods_by_name_or_as_they_are(name):
    method = methods.get(name)
    assert type(method) is METHODS[name] and method.name == name
    assert methods.get(method) is method


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: methods.get("ssed"), "method"),
        (lambda: methods.get(SSEDS), "method"),
        (lambda: methods.get(None), "method"),
        (lambda: SSEDS(basis="rows"), "basis"),
        (lambda: SSEDS(data="test"), "data"),
        (lambda: SSEDS(fill="one"), "fill"),
        (lambda: SSEDS(reduce="max"), "reduce"),
        (lambda: SSEDS(floor=-1), "floor"),
        (lambda: SSEDS(floor=1.5), "floor"),
        (lambda: SSEDS(batches=0), "batches"),
        (lambda: SSEDS(batches=True), "batches"),
        (lambda: SSEDS(pretrain="yes"), "pretrain"),
        (lambda: SSEDS(score_per_byte="yes"), "score_per_byte"),
        (lambda: SSEDS(warm_start="cold"), "warm_start"),
        (lambda: SSEDS(alignment="none"), "alignment"),
        (lambda: RandomSizes(draws=0), "draws"),
        (lambda: Uniform(warm_start="none"), "warm_start"),
    ],
)
def test_names_a_bad_argument(build, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be.*Received: "):
        build()
