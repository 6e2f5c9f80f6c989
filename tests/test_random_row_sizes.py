"""Random sizes for ids: what is drawn, who gets it, and what must be known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, spearmanr

from keras_eds import Budget, Field
from keras_eds.measurements import Measurements
from keras_eds.methods import Outcome, Proposal, RandomRowSizes

FIELDS = (Field("user", 2000, 16), Field("item", 900, 16))
BUDGET = Budget(fraction=0.3)


def counts(seed=0):
    random = np.random.default_rng(seed)
    return {f.name: random.zipf(1.5, f.input_dim).clip(max=60) - 1 for f in FIELDS}


def plan_of(method, seed=0, draw=0, budget=BUDGET):
    state = method.start(FIELDS, [budget], seed, False)
    outcome = Outcome(0.0, Measurements.of_counts(counts()))
    return method.plan(method.observe(state, Proposal("probe"), outcome), budget, draw)


def test_frequent_ids_get_the_larger_sizes_and_ties_go_by_id():
    plan, seen = plan_of(RandomRowSizes()), counts()
    for name, kept in plan.sizes().items():
        order = sorted(range(len(kept)), key=lambda i: (-seen[name][i], i))
        assert (np.diff(kept[order]) <= 0).all()
        assert len(np.unique(kept)) >= 3


def test_sorting_deals_the_same_draws_out_again():
    by_count = plan_of(RandomRowSizes()).sizes()
    at_random = plan_of(RandomRowSizes(sorted_by_frequency=False)).sizes()
    for name, seen in counts().items():
        np.testing.assert_array_equal(np.sort(by_count[name]), np.sort(at_random[name]))
        assert abs(spearmanr(at_random[name], seen).statistic) < 0.08
        assert spearmanr(by_count[name], seen).statistic > 0.6


def test_draws_are_uniform_and_each_its_own():
    method = RandomRowSizes(draws=3, sorted_by_frequency=False)
    state = method.start(FIELDS, [BUDGET], 5, False)
    drawn = [method._wishes(state, draw).of_ids(0.0) for draw in range(3)]
    assert kstest(drawn[0][0], "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[0][0], drawn[1][0])[0, 1]) < 0.1
    plans = [method.plan(state, BUDGET, draw) for draw in range(3)]
    assert len({plan.digest() for plan in plans}) == 3
    assert plans[0] == plan_of(method, seed=5) != plan_of(method, seed=6)
    for plan in plans:
        assert 0.99 * BUDGET.limit(FIELDS) < plan.num_bytes() <= BUDGET.limit(FIELDS)


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, ["probe", "retrain"]),
        ({"sorted_by_frequency": False}, ["retrain"]),
        ({"warm_start": "all"}, ["pretrain", "probe", "retrain"]),
        ({"draws": 2}, ["probe", "retrain", "retrain"]),
    ],
)
def test_only_what_is_needed_is_done(options, stages):
    method = RandomRowSizes(**options)
    state, seen = method.start(FIELDS, [BUDGET], 0, False), []
    assert method.num_stages(state) == len(stages)
    while (proposal := method.propose(state)) is not None:
        seen.append(proposal.stage)
        measured = Measurements.of_counts(counts())
        if proposal.stage == "probe":
            assert proposal.settings["counts"] is True
        outcome = Outcome(0.0, measured if proposal.stage == "probe" else None)
        state = method.observe(state, proposal, outcome)
    assert seen == stages


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"draws": 0}, "draws"),
        ({"sorted_by_frequency": "yes"}, "sorted_by_frequency"),
        ({"warm_start": "cold"}, "warm_start"),
    ],
)
def test_names_a_bad_argument(options, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be.*Received: "):
        RandomRowSizes(**options)
