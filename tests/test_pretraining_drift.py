"""A plan of last week's data, checked on this week's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from search_setup import ITEMS, USERS, WIDTH, build, data

import keras_eds
from keras_eds import DimensionPlan, FieldPlan, RowPlan
from keras_eds.errors import DataError, PlanError
from keras_eds.methods import AMTL, MDE
from keras_eds.pretraining import plan_drift

BATCH = 512  # all rows at once: nothing depends on their order
NAMES = ["user_table", "item_table"]


def week(rows=512, seed=0, users=(0, USERS)):
    x, y = data(rows, seed)
    low, high = users
    x["user"] = (low + x["user"] % (high - low)).astype("int32")
    return {"x": x, "y": y, "batch_size": BATCH}


def trained():
    model = build()
    model.fit(*data(), batch_size=64, epochs=2, verbose=0)
    return model


def rows_plan(model, seed):
    random = np.random.default_rng(seed)
    fields = keras_eds.find_fields(model)
    sizes = [random.integers(0, WIDTH + 1, field.input_dim) for field in fields]
    return DimensionPlan(tuple(map(RowPlan, fields, sizes))), sizes


def test_the_report_is_plain_arithmetic_of_counts_and_sizes():
    model, last, this = build(), week(seed=0, users=(0, 30)), week(seed=1)
    (plan, sizes), (now, sizes_now) = rows_plan(model, 0), rows_plan(model, 1)
    report = plan_drift(model, plan, last, this, now)
    assert report.plan == plan and report.now == now
    moved = 0.0
    for place, field in enumerate(report.fields):
        key = ("user", "item")[place]
        old, new = last["x"][key], this["x"][key]
        ids = np.arange((USERS, ITEMS)[place])
        p = np.array([(old == i).mean() for i in ids])
        q = np.array([(new == i).mean() for i in ids])
        assert field.moved_lookups == pytest.approx(np.maximum(q - p, 0).sum())
        assert field.new_lookups == pytest.approx((~np.isin(new, old)).mean())
        kept = sizes[place][old].mean(), sizes[place][new].mean()
        assert field.values_a_lookup == pytest.approx(kept)
        resized = sizes[place][new] != sizes_now[place][new]
        assert field.resized_lookups == pytest.approx(resized.mean())
        truth = spearmanr(sizes[place], sizes_now[place]).statistic
        assert field.rank_correlation == pytest.approx(truth)
        change = 4 * np.abs(sizes[place] - sizes_now[place]).sum() / 2
        assert field.moved_bytes == change
        moved += change
    both = [np.concatenate(side) for side in (sizes, sizes_now)]
    assert report.rank_correlation == pytest.approx(spearmanr(*both).statistic)
    assert report.moved_bytes == moved
    assert report.moved_share == pytest.approx(moved / (4 * both[0].sum()))
    assert 0.1 < report.fields[0].new_lookups < 0.5
    assert report.fields[1].new_lookups == 0


def test_the_same_data_give_the_same_plan(tmp_path):
    model, same = trained(), week()
    search = keras_eds.EDSSearch(
        model, 0.5, method="sseds", objective="val_auc", directory=tmp_path
    )
    search.search(same["x"], same["y"], batch_size=BATCH, epochs=1, verbose=0,
                  validation_data=data(128, 1))  # fmt: skip
    plan, before = search.get_best_plans()[0], model.get_weights()
    report = plan_drift(model, plan, same, same)
    assert report.moved_bytes == 0 and report.moved_share == 0
    for field in report.fields:
        assert field.moved_lookups == field.new_lookups == field.resized_lookups == 0
    scores = report.scores
    assert scores["plan"]["loss"] == pytest.approx(scores["now"]["loss"], abs=1e-5)
    full = model.evaluate(**same, return_dict=True, verbose=0)
    assert scores["full"] == pytest.approx(full, rel=1e-4)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_users_that_are_new_get_the_bytes():
    model, last = trained(), week(users=(0, 20))
    table = np.random.default_rng(0).normal(size=(USERS, WIDTH))
    keras_eds.load_tables(model, {"user_table": table})
    plan = plan_drift(model, rows_plan(model, 0)[0], last, last).now
    this = week(seed=1, users=(20, 40))
    report = plan_drift(model, plan, last, this)
    users = report.fields[0]
    assert users.moved_lookups == users.new_lookups == pytest.approx(1.0)
    old, new = plan["user_table"].sizes, report.now["user_table"].sizes
    assert old[20:].sum() == new[:20].sum() == 0
    assert new[20:].min() > 0 and users.rank_correlation < -0.5
    assert users.values_a_lookup[1] == 0 < users.values_a_lookup[0]
    assert report.now.num_bytes() <= plan.num_bytes()


def test_it_prints_a_table():
    model = build()
    fields = keras_eds.find_fields(model)
    plan = DimensionPlan.of_sizes(fields, dict(zip(NAMES, (2, 8), strict=True)))
    now = DimensionPlan.of_sizes(fields, dict(zip(NAMES, (4, 3), strict=True)))
    report = plan_drift(model, plan, week(), week(), now)
    lines = str(report).splitlines()
    assert lines[0].split()[:2] == ["field", "dims"]
    assert lines[1].split()[:4] == ["user_table", "2", "->", "4"]
    assert lines[2].split()[:4] == ["item_table", "8", "->", "3"]
    # Half of 2 x 40 values more and 5 x 25 less, of 4 bytes.
    assert lines[3].split()[-3:] == ["410", "B", "(36.6%)"]
    scores = [line.split()[:4] for line in lines[4:]]
    assert [
        ["auc", "this", "week:", "full"],
        ["loss", "this", "week:", "full"],
    ] == scores
    assert np.isnan(report.fields[0].rank_correlation)
    assert report.rank_correlation == pytest.approx(-1.0)


def test_a_method_that_only_counts_serves_too():
    model = build()
    plan = DimensionPlan.of_sizes(keras_eds.find_fields(model), dict.fromkeys(NAMES, 4))
    report = plan_drift(model, plan, week(), week(), MDE())
    assert report.now.num_bytes() <= plan.num_bytes()


def test_what_does_not_fit_is_refused():
    model = build()
    fields = keras_eds.find_fields(model)
    plan = DimensionPlan(tuple(map(FieldPlan.full, fields)))
    with pytest.raises(PlanError, match="AMTL, which has to train first"):
        plan_drift(model, plan, week(), week(), AMTL())
    with pytest.raises(PlanError, match="must plan the tables that `plan` does"):
        part = DimensionPlan((FieldPlan.full(fields[0]),))
        plan_drift(model, plan, week(), week(), part)
    with pytest.raises(PlanError, match="must name tables of `model`"):
        plan_drift(model, plan.renamed(lambda n: f"my_{n}"), week(), week())
    full = week()
    for bad in (
        {**full, "validation_data": 1},
        {**full, "steps_per_epoch": 1},
        {"x": iter([(full["x"], full["y"])])},
        {"y": full["y"]},
    ):
        with pytest.raises(DataError, match="`this` must have `x`"):
            plan_drift(model, plan, full, bad)
        with pytest.raises(DataError, match="`last` must have `x`"):
            plan_drift(model, plan, bad, full)
