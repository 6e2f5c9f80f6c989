from __future__ import annotations

import numpy as np
import pytest

from keras_eds import Budget, DimensionPlan, Field, FieldPlan
from keras_eds.errors import PlanError
from keras_eds.field_plan import field_cost
from keras_eds.measurements import FieldMeasurement, Measurements

USER, ITEM = Field("user", 1000, 8), Field("item/id", 50, 4, itemsize=2)


def subspace(field=USER, kept=3, constant=True, seed=0):
    random = np.random.default_rng(seed)
    width = field.output_dim
    return FieldPlan(
        field,
        random.normal(size=(width, kept)).astype("float32"),
        random.normal(size=(kept, width)).astype("float32"),
        random.normal(size=width).astype("float32") if constant else None,
    )


def mixed():
    item = FieldPlan.of_columns(ITEM, [3, 1], np.arange(4))
    return DimensionPlan((subspace(), item))


def test_counts_what_inference_keeps():
    assert subspace().num_parameters() == 1000 * 3 + 3 * 8 + 8
    assert subspace(constant=False).num_parameters() == 1000 * 3 + 3 * 8
    assert FieldPlan.of_columns(USER, []).num_parameters() == 0
    assert FieldPlan.of_columns(USER, [], np.ones(8)).num_parameters() == 8
    assert FieldPlan.full(USER).num_parameters() == 8000
    plan = mixed()
    assert plan["item/id"].num_bytes() == 2 * (50 * 2 + 2 * 4 + 4)
    assert plan.num_bytes() == 4 * 3032 + 2 * 112
    assert plan.num_parameters() == plan.amount(Budget(parameters=1)) == 3144
    assert plan.sizes() == {"user": 3, "item/id": 2}
    assert plan.fits(Budget(parameters=3144)) and not plan.fits(Budget(parameters=3143))
    assert plan.fits(Budget(num_bytes=12352)) and not plan.fits(Budget(num_bytes=12351))
    for width in range(9):
        for constant in (True, False):
            cost = field_cost(USER, width, constant)
            mean = np.ones(8) if constant and width < 8 else None
            made = FieldPlan.of_columns(USER, range(width), mean)
            assert made.num_parameters() == cost.in_unit("parameters", USER)


def test_masks_vectors_as_the_formula_says():
    vectors = np.random.default_rng(1).normal(size=(5, 2, 8))
    plan = subspace()
    right = np.einsum("abi,ij,jk->abk", vectors, plan.encoder, plan.decoder)
    np.testing.assert_allclose(plan.masked(vectors), right + plan.constant, rtol=1e-5)
    columns = FieldPlan.of_columns(ITEM, [1, 3], [5, 6, 7, 8])
    np.testing.assert_array_equal(columns.masked(np.array([1, 2, 3, 4])), [5, 2, 7, 4])
    np.testing.assert_array_equal(FieldPlan.full(USER).masked(vectors), vectors)
    assert FieldPlan.full(USER).is_full
    # A layer as wide as the table would not project its rows back.
    for constant in (True, False):
        with pytest.raises(PlanError, match="FieldPlan.full"):
            subspace(kept=8, constant=constant)


def test_saves_and_loads_exactly(tmp_path):
    path = tmp_path / "plan.npz"
    mixed().save(path)
    mixed().save(path)  # Again, over the old one.
    loaded = DimensionPlan.load(path)
    assert loaded == mixed() and hash(loaded) == hash(mixed())
    assert [p.field for p in loaded] == [USER, ITEM]
    for ours, theirs in zip(mixed(), loaded, strict=True):
        for name in ("encoder", "decoder", "constant"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert ours.columns == theirs.columns
    assert [p.name for p in tmp_path.iterdir()] == ["plan.npz"]


def measurements():
    values = [np.ones(2)] * 3 + [np.eye(2)] * 2 + [7.0]
    return Measurements({"a": FieldMeasurement(*values)})


def test_measurements_are_saved_and_loaded(tmp_path):
    measurements().save(tmp_path / "m.npz")
    loaded = Measurements.load(tmp_path / "m.npz")
    assert list(loaded) == ["a"] and loaded["a"].lookups == 7.0
    np.testing.assert_array_equal(loaded["a"].covariance(), np.eye(2) - 1)
    assert loaded.is_finite()
    loaded["a"].mean[0] = np.nan
    assert not loaded.is_finite()


def test_refuses_damaged_files(tmp_path):
    path = tmp_path / "plan.npz"
    mixed().save(path)
    whole = path.read_bytes()
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(PlanError, match="damaged"):
            DimensionPlan.load(path)
    damaged = 0
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path.write_bytes(bytes(changed))
        try:
            assert DimensionPlan.load(path) == mixed()
        except PlanError:
            damaged += 1
    assert damaged > len(whole) / 7 / 2
    measurements().save(path)
    with pytest.raises(PlanError, match="another kind"):
        DimensionPlan.load(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(PlanError, match="damaged"):
        DimensionPlan.load(path)
    with pytest.raises(FileNotFoundError, match="path"):
        DimensionPlan.load(tmp_path / "none.npz")


def test_a_digest_tells_plans_apart():
    plans = [
        mixed(),
        DimensionPlan(mixed().fields[::-1]),
        DimensionPlan((subspace(seed=1), mixed()["item/id"])),
        DimensionPlan((subspace(constant=False), mixed()["item/id"])),
        DimensionPlan(mixed().fields[:1]),
        mixed().renamed(str.upper),
        DimensionPlan.of_sizes([USER, ITEM], {"user": 3, "item/id": 2}),
        DimensionPlan.of_sizes([USER, ITEM], {"user": 3, "item/id": 1}),
    ]
    assert len({plan.digest() for plan in plans}) == len(set(plans)) == len(plans)
    assert mixed() == mixed() and mixed() != "plan"


def test_merges_renames_and_prints():
    one, other = DimensionPlan((subspace(),)), DimensionPlan(mixed().fields[1:])
    assert one.merge(other) == mixed()
    with pytest.raises(PlanError, match="twice"):
        one.merge(one)
    assert one.renamed({"user": "u"}.get).sizes() == {"u": 3}
    lines = str(mixed()).splitlines()
    assert len(lines) == 4 and len(mixed()) == 2
    assert "1,000" in lines[1] and "8 -> 3" in lines[1]
    assert "32 KB -> 12.13 KB" in lines[1]
    assert "8,200 -> 3,144 values" in lines[3]
    assert "38.1%" in lines[3]


def test_refuses_bad_plans():
    eye = np.eye(8, dtype="float32")
    for columns in ([0, 0], [8], [-1]):
        with pytest.raises(PlanError, match="`columns`"):
            FieldPlan.of_columns(USER, columns)
    for parts in ((eye[:, :3], eye[:2]), (eye[:4], eye), (np.ones((8, 9)),) * 2):
        with pytest.raises(PlanError, match="shapes"):
            FieldPlan(USER, *parts)
    with pytest.raises(PlanError, match="shapes"):
        FieldPlan(USER, eye[:, :3], eye[:3], np.zeros(7))
    with pytest.raises(PlanError, match="finite"):
        FieldPlan(USER, eye[:, :3] * np.nan, eye[:3])
    with pytest.raises(PlanError, match="`name`"):
        mixed()["nobody"]
    with pytest.raises(ValueError, match="read-only"):
        mixed()["user"].encoder[0] = 1


def test_leaves_the_callers_arrays_alone():
    encoder, decoder, constant = np.eye(8)[:, :2], np.eye(8)[:2], np.ones(8)
    plan = FieldPlan(USER, encoder, decoder, constant)
    digest = DimensionPlan((plan,)).digest()
    encoder[0, 0] = decoder[0, 0] = constant[0] = 5.0
    assert DimensionPlan((plan,)).digest() == digest
