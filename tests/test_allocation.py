"""Budgets are full and never exceeded, over many generated searches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from keras_eds import Budget, DimensionPlan, Field, methods
from keras_eds.errors import BudgetError
from keras_eds.measurements import FieldMeasurement, Measurements
from keras_eds.methods.allocation import allocate

COMBINATIONS = 400


def random_fields(random, most=6, largest=3000):
    sizes = np.exp(random.uniform(0, np.log(largest), random.integers(1, most + 1)))
    size, quantized = int(random.choice([2, 4, 8])), bool(random.integers(2))
    return [
        Field(f"f{i}", int(ids) + 1, int(random.integers(1, 17)), size, quantized)
        for i, ids in enumerate(sizes)
    ]


def cost(field, width, constant, unit):
    """What a width costs, from a formula of its own."""
    ids, full = field.input_dim, field.output_dim
    table, beside = width * ids, width * full + constant * full
    scales = width
    if width == full:
        beside, scales = 0, ids
    if unit == "parameters":
        return table + beside
    if field.quantized:
        return table + (beside + scales) * field.itemsize
    return (table + beside) * field.itemsize


def random_measurements(random, fields):
    """Moments as a search would measure them, some of them of low rank or zero."""
    by_field = {}
    for field in fields:
        width = field.output_dim
        vectors = random.normal(size=(2 * width, width)) * random.uniform(0, 2, width)
        rank = random.integers(0, width + 1)
        slopes = random.normal(size=(20, rank)) @ random.normal(size=(rank, width))
        gates = np.abs(random.normal(size=width)) * random.integers(0, 2, width)
        by_field[field.name] = FieldMeasurement(
            gate_abs=gates,
            gate_sum=gates * random.uniform(-1, 1, width),
            mean=vectors.mean(axis=0),
            second_moment=vectors.T @ vectors / len(vectors),
            gradient_moment=slopes.T @ slopes,
            lookups=float(len(vectors)),
        )
    return Measurements(by_field)


def random_budget(random):
    share = float(np.exp(random.uniform(np.log(0.002), 0)))
    kind = random.integers(3)
    if kind == 0:
        return Budget(fraction=share)
    amount = int(np.exp(random.uniform(np.log(4), np.log(200_000))))
    return Budget(num_bytes=amount) if kind == 1 else Budget(parameters=amount)


def random_method(random):
    kind = random.integers(5)
    if kind == 0:
        return methods.Uniform()
    if kind == 1:
        return methods.RandomSizes(draws=2)
    return methods.SSEDS(
        basis=("columns", "principal")[kind % 2],
        score_per_byte=[None, True, False][random.integers(3)],
        floor=int(random.integers(3)),
        fill=("mean", "zero")[random.integers(2)],
        reduce=("abs", "sum")[random.integers(2)],
    )


def cheapest_next_step(method, fields, plan, budget, measured):
    """What the cheapest wider table costs that would gain something."""
    constant = getattr(method, "fill", "zero") == "mean"
    prices = []
    for field in fields:
        width = plan[field.name].kept_dim
        for wider in range(width + 1, field.output_dim + 1):
            if gains_of(method, measured, field)[width:wider].sum() > 0:
                now, then = (
                    cost(field, d, constant, budget.unit) for d in (width, wider)
                )
                prices.append(then - now)
    return min(prices, default=np.inf)


def gains_of(method, measured, field):
    """What further columns are worth, from a formula of its own."""
    values = measured[field.name]
    if not isinstance(method, methods.SSEDS):
        return np.ones(field.output_dim)
    if method.basis == "columns":
        gate = values.gate_abs if method.reduce == "abs" else np.abs(values.gate_sum)
        return np.sort(gate)[::-1]
    spread = values.second_moment
    if method.fill == "mean":
        spread = spread - np.outer(values.mean, values.mean)
    width = field.output_dim
    level = max(np.trace(values.gradient_moment) / width, 1e-30)
    curvature = values.gradient_moment + 0.01 * level * np.eye(width)
    eigenvalues = np.linalg.eigvals(curvature @ spread).real
    return np.sort(np.where(eigenvalues > 1e-9 * level, eigenvalues, 0))[::-1]


@pytest.mark.parametrize("part", range(4))
def test_budgets_are_full_and_never_exceeded(part):
    feasible = 0
    for number in range(part, COMBINATIONS, 4):
        random = np.random.default_rng(number)
        fields, budget = random_fields(random), random_budget(random)
        method, measured = random_method(random), random_measurements(random, fields)
        limit = budget.limit(fields)
        try:
            state = method.start(fields, [budget], seed=number, trained=True)
        except BudgetError as error:
            least = sum(
                min(
                    cost(f, d, method.fill == "mean", budget.unit)
                    for d in range(min(method.floor, f.output_dim), f.output_dim + 1)
                )
                for f in fields
            )
            assert least > limit and f"at least {least} " in str(error)
            continue
        feasible += 1
        proposal = method.propose(state)
        if proposal.stage == "probe":
            outcome = methods.Outcome(0.5, measured)
            state = method.observe(state, proposal, outcome)
            proposal = method.propose(state)
        plan = proposal.plan
        assert isinstance(plan, DimensionPlan) and proposal.stage == "retrain"
        left = limit - plan.amount(budget)
        assert left >= 0, (number, method)
        step = cheapest_next_step(method, fields, plan, budget, measured)
        assert left < step, (number, type(method).__name__, left, step)
        floor = getattr(method, "floor", 0)
        assert all(p.kept_dim >= min(floor, p.field.output_dim) for p in plan)
    assert feasible > COMBINATIONS / 4 / 2


def worth(gains, widths):
    return sum(gain[:width].sum() for gain, width in zip(gains, widths, strict=True))


def test_is_the_best_choice_up_to_one_step():
    for number in range(60):
        random = np.random.default_rng(number)
        fields = [
            Field(f"f{i}", int(random.integers(1, 60)), int(random.integers(1, 5)))
            for i in range(3)
        ]
        gains = [np.sort(random.exponential(size=f.output_dim))[::-1] for f in fields]
        constant = bool(number % 2)
        total = sum(f.num_parameters for f in fields)
        budget = Budget(parameters=int(random.integers(15, total + 30)))

        def total_cost(widths, fields=fields, constant=constant):
            pairs = zip(fields, widths, strict=True)
            return sum(cost(f, d, constant, "parameters") for f, d in pairs)

        chosen = allocate(fields, gains, budget, per_cost=True, constant=constant)
        assert total_cost(chosen) <= budget.limit(fields)
        choices = itertools.product(*(range(f.output_dim + 1) for f in fields))
        within = [c for c in choices if total_cost(c) <= budget.limit(fields)]
        best = max(worth(gains, c) for c in within)
        largest_step = max(gain.sum() for gain in gains)
        assert worth(gains, chosen) >= best - largest_step
        if total_cost([f.output_dim for f in fields]) <= budget.limit(fields):
            assert chosen == [f.output_dim for f in fields]


def test_takes_columns_by_gain_or_by_gain_a_value():
    fields = [Field("large", 1000, 4), Field("small", 10, 4)]
    gains = [np.array([10.0, 9, 8, 7]), np.array([5.0, 4, 3, 2])]

    def widths(per_cost, parameters):
        budget = Budget(parameters=parameters)
        return allocate(fields, gains, budget, per_cost=per_cost, constant=False)

    assert widths(True, 1045) == [1, 4]
    assert widths(False, 1045) == [1, 4]  # The large field first, then what fits.
    assert widths(False, 2010) == [2, 0]
    assert widths(True, 2010) == [1, 4]
    assert widths(True, 50) == [0, 4]
    # Three columns of "small" with their alignment cost 42, the whole table 40.
    assert widths(True, 41) == [0, 4]


def test_columns_that_gain_nothing_are_not_bought():
    fields = [Field("useless", 10, 4), Field("useful", 10, 4)]
    gains = [np.zeros(4), np.array([1.0, 0, 0, 0])]
    budget = Budget(fraction=1.0)
    assert allocate(fields, gains, budget, per_cost=True, constant=False) == [0, 1]
