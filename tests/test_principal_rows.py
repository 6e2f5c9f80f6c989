"""A size for every id from one pass, against plain NumPy and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_eds import Budget, DimensionPlan, Field, FieldPlan, RowPlan, methods
from keras_eds.errors import BudgetError, PlanError
from keras_eds.measurements import FieldMeasurement, Measurements
from keras_eds.methods import Outcome, PrincipalRows, Proposal
from keras_eds.methods.principal import PrincipalBasis
from keras_eds.methods.principal_rows import weighed_by_counts
from keras_eds.methods.row_allocation import (
    TableOptions,
    _spend_the_rest,
    allocate_rows,
)
from keras_eds.reporting import plot_popularity


def measurement(field, seed=0, zipf=1.0):
    random = np.random.default_rng(seed)
    width = field.output_dim
    table = random.normal(size=(field.input_dim, width)).astype("float32")
    slopes = random.normal(size=(200, width)) * np.geomspace(1, 0.1, width)
    counts = (1000 / np.arange(1, field.input_dim + 1) ** zipf).astype(int)
    return FieldMeasurement(
        np.ones(width), np.ones(width), table.mean(axis=0), np.eye(width),
        slopes.T @ slopes, 200.0, counts, table,
    )  # fmt: skip


def plan_for(fields, measured, budget, method=None):
    method = method or PrincipalRows()
    state = method.start(fields, [budget], 0, True)
    outcome = Outcome(0.0, Measurements(measured))
    return method.plan(method.observe(state, Proposal("probe"), outcome), budget)


def test_moments_over_all_data_are_those_of_repeated_rows():
    field = Field("user", 30, 5)
    measured = measurement(field)
    exact = weighed_by_counts(measured)
    rows = np.repeat(measured.table.astype("float64"), measured.counts, axis=0)
    np.testing.assert_allclose(exact.mean, rows.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(exact.covariance(), np.cov(rows.T, bias=True), atol=1e-7)


def test_what_is_dropped_is_what_it_costs():
    """sum_i p_i (e - e')^T H (e - e') = the worth of all that was not kept."""
    field, budget = Field("user", 400, 6), Budget(fraction=0.6)
    measured = measurement(field)
    plan = plan_for([field], {"user": measured}, budget)["user"]
    assert isinstance(plan, RowPlan)
    error = measured.table - plan.masked(measured.table)
    curvature = measured.gradient_moment
    level = 0.01 * np.trace(curvature) / 6
    curvature = curvature + level * np.eye(6)
    shares = measured.counts / measured.counts.sum()
    cost = np.einsum("i,ij,jk,ik->", shares, error, curvature, error)
    exact = weighed_by_counts(measured)
    basis = PrincipalBasis.of(exact, "mean")
    z = (measured.table - exact.mean) @ basis.encoder
    beyond = np.arange(6) >= plan.sizes[:, None]
    dropped = (shares[:, None] * np.where(beyond, z, 0) ** 2).sum()
    assert cost == pytest.approx(dropped, rel=1e-4)


def test_popular_ids_get_more_and_unseen_ids_nothing():
    field = Field("user", 500, 8)
    measured = measurement(field)
    measured.counts[300:] = 0
    plan = plan_for([field], {"user": measured}, Budget(fraction=0.3))["user"]
    assert plan.sizes[:20].mean() > 2 * plan.sizes[100:300].mean() > 0
    assert not plan.sizes[300:].any()
    unseen = plan.masked(measured.table)[300:]
    np.testing.assert_allclose(unseen, np.broadcast_to(plan.mean, unseen.shape))


def test_a_small_vocabulary_keeps_one_width():
    fields = [Field("user", 3000, 8), Field("gender", 2, 8)]
    measured = {f.name: measurement(f, seed) for seed, f in enumerate(fields)}
    plan = plan_for(fields, measured, Budget(fraction=0.2))
    assert isinstance(plan["gender"], FieldPlan)
    assert isinstance(plan["user"], RowPlan)


@settings(deadline=None, max_examples=40)
@given(
    ids=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    width=st.integers(1, 9),
    share=st.floats(0.01, 0.9),
    unit=st.sampled_from(["bytes", "parameters"]),
    quantized=st.booleans(),
)
def test_the_budget_is_full_and_never_exceeded(ids, width, share, unit, quantized):
    fields = [Field(f"f{i}", n, width, quantized=quantized) for i, n in enumerate(ids)]
    measured = {f.name: measurement(f, seed) for seed, f in enumerate(fields)}
    total = sum(f.num_parameters for f in fields)
    budget = Budget(fraction=share)
    if unit == "parameters":
        budget = Budget(parameters=max(1, int(share * total)))
    try:
        plan = plan_for(fields, measured, budget)
    except BudgetError as error:
        least = sum(f.output_dim for f in fields) * (4 if unit == "bytes" else 1)
        assert budget.limit(fields) < least and "at least" in str(error)
        return
    assert plan.fits(budget)
    left = budget.limit(fields) - plan.amount(budget)
    value = 4 if unit == "bytes" and not quantized else 1
    for part, field in zip(plan, fields, strict=True):
        if isinstance(part, RowPlan):
            # The next of the sizes in use does not fit for any id it would help.
            levels = sorted({block.width for block in part.blocks})
            seen = measured[field.name].counts > 0
            for size in np.unique(part.sizes[seen]):
                wider = [level for level in levels if level > size]
                assert not wider or (wider[0] - size) * value > left


def test_against_all_choices():
    """Two small tables, every combination of widths and sizes tried."""
    random = np.random.default_rng(1)
    fields = [Field("a", 3, 2), Field("b", 2, 3)]
    tables = []
    for field in fields:
        gains = -np.sort(-random.exponential(size=(field.input_dim, field.output_dim)))
        by_level = np.pad(np.cumsum(gains, axis=1), [(0, 0), (1, 0)])
        levels = np.arange(field.output_dim + 1)
        tables.append(TableOptions(field, by_level.sum(axis=0), levels, by_level))
    for parameters in range(5, 13):
        budget = Budget(parameters=parameters)
        allocate_rows(tables, budget)
        found = sum(worth(table) for table in tables)
        assert sum(table.cost(budget) for table in tables) <= parameters
        choices = [list(every_choice(table)) for table in tables]
        best = 0.0
        for pair in itertools.product(*choices):
            for table, choice in zip(tables, pair, strict=True):
                table.chosen = choice
            if sum(table.cost(budget) for table in tables) <= parameters:
                best = max(best, sum(worth(table) for table in tables))
        largest = max(table.by_level.max() for table in tables)
        assert best - 2 * largest <= found <= best + 1e-9
    assert found == pytest.approx(sum(table.by_width[-1] for table in tables))


def worth(table):
    if isinstance(table.chosen, np.ndarray):
        ids = np.arange(len(table.chosen))
        return float(table.by_level[ids, table.chosen].sum())
    return float(table.by_width[table.chosen])


def every_choice(table):
    yield from range(table.field.output_dim + 1)
    places = range(len(table.levels))
    for choice in itertools.product(places, repeat=table.field.input_dim):
        yield np.array(choice)


@pytest.mark.parametrize("arguments", [{"smoothing": -1.0}, {"batches": 0}])
def test_bad_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}`"):
        methods.PrincipalRows(**arguments)


def test_a_plan_survives_its_file(tmp_path):
    field = Field("user", 300, 8)
    plan = plan_for([field], {"user": measurement(field)}, Budget(fraction=0.5))
    plan.save(tmp_path / "plan.npz")
    loaded = type(plan).load(tmp_path / "plan.npz")
    assert loaded == plan and loaded.num_bytes() == plan.num_bytes()
    assert loaded["user"].blocks == plan["user"].blocks
    renamed = plan.renamed(lambda name: "other")
    np.testing.assert_array_equal(renamed["other"].sizes, plan["user"].sizes)


def test_the_picture_shows_the_mean_size_of_ids_as_popular(tmp_path):
    field = Field("user", 400, 8)
    counts = np.repeat([0, 1, 10, 100], 100)
    sizes = np.repeat([0, 2, 3, 7], 100)
    sizes[100:150] = 1
    plan = DimensionPlan((RowPlan(field, sizes),))
    path = tmp_path / "picture.png"
    figure = plot_popularity(plan, {"user": counts}, path)
    (line,) = figure.axes[0].get_lines()
    np.testing.assert_allclose(line.get_xdata(), [1, 10, 100])
    np.testing.assert_allclose(line.get_ydata(), [1.5, 3, 7])
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(PlanError, match="size for every id"):
        plot_popularity(DimensionPlan((FieldPlan.full(field),)), {"user": counts})


def test_the_picture_passes_over_ids_that_never_come(tmp_path):
    plan = DimensionPlan(
        tuple(RowPlan(Field(n, 4, 8), np.array([0, 2, 3, 7])) for n in ("user", "new"))
    )
    counts = {"user": np.array([0, 1, 2, 9]), "new": np.zeros(4)}
    (line,) = plot_popularity(plan, counts).axes[0].get_lines()
    assert line.get_label() == "user"
    assert not plot_popularity(plan, {"new": np.zeros(4)}).axes[0].get_lines()
    with pytest.raises(PlanError, match="`counts` must hold one number for every id"):
        plot_popularity(plan, {"user": np.ones(3)})


def test_a_plan_that_comes_twice_is_trained_once():
    """Few ids, as often: no index pays, so both draws are widths of fields."""
    field, method = Field("user", 12, 8), PrincipalRows()
    budgets = [Budget(fraction=0.5), Budget(fraction=0.25)]
    state = method.start([field], budgets, 0, True)
    assert method.num_stages(state) == 5
    outcome = Outcome(0.0, Measurements({"user": measurement(field, zipf=0.0)}))
    state = method.observe(state, Proposal("probe"), outcome)
    for budget in budgets:
        assert method.plan(state, budget, 0) == method.plan(state, budget, 1)
        proposal = method.propose(state)
        assert (proposal.budget, proposal.settings["draw"]) == (budget, 0)
        state = method.observe(state, proposal, Outcome(0.5))
    assert method.propose(state) is None
    assert method.num_stages(state) == 3


def test_plans_that_differ_are_all_trained_also_side_by_side():
    field, method = Field("user", 500, 8), PrincipalRows()
    budgets = [Budget(fraction=0.5), Budget(fraction=0.25)]
    state = method.start([field], budgets, 0, True)
    outcome = Outcome(0.0, Measurements({"user": measurement(field)}))
    state = method.observe(state, Proposal("probe"), outcome)
    running = []
    while (proposal := method.propose(state, running)) is not None:
        running.append(proposal)
    runs = [(proposal.budget, proposal.settings["draw"]) for proposal in running]
    assert runs == [(budget, draw) for budget in budgets for draw in (0, 1)]
    # The second budget's first one ends before all others.
    state = method.observe(state, running.pop(2), Outcome(0.5))
    assert method.propose(state, running) is None


def test_what_is_left_opens_no_size_whose_spare_row_is_not_paid_for():
    """Ids of sizes 0 and 8; one value is left, which an id of size 1 would cost."""
    field, levels = Field("user", 6, 8), np.array([0, 1, 8])
    worth = np.tile([0.0, 0.5, 1.0], (6, 1))
    table = TableOptions(field, np.zeros(9), levels, worth)
    table.chosen = np.array([2, 2, 0, 0, 0, 0])
    unit = Budget(parameters=1)
    limit = table.cost(unit) + 1
    _spend_the_rest([table], unit, limit)
    assert table.cost(unit) <= limit
