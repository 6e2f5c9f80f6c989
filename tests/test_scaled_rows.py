"""Sizes that grow with one number: within the budget, full, and by the wishes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_eds import Budget, DimensionPlan, Field, FieldPlan, RowPlan
from keras_eds.errors import BudgetError
from keras_eds.methods.scaled_rows import scaled_rows
from keras_eds.methods.wishes import Wishes


def raised(plan, name, place, size):
    """The plan with one id of one table at another size, in the same blocks."""
    kept = plan[name]
    sizes = np.array(kept.sizes)
    sizes[place] = size
    numbers = np.bincount(sizes, minlength=kept.field.output_dim + 1)
    blocks = [(numbers[s], s) for s in range(len(numbers) - 1, 0, -1) if numbers[s]]
    other = RowPlan(kept.field, sizes, kept.encoder, kept.decoder, None, blocks)
    return DimensionPlan(tuple(other if p.name == name else p for p in plan))


@settings(max_examples=40, deadline=None)
@example([153], 6, 0.84375, "parameters", 2, False, False, 0)
@example([101, 2], 18, 0.25, "bytes", 0, False, False, 8)
@given(
    ids=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    width=st.integers(1, 20),
    share=st.floats(0.01, 1.0),
    unit=st.sampled_from(["bytes", "parameters"]),
    floor=st.integers(0, 2),
    projected=st.booleans(),
    quantized=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_budget_is_full_and_never_exceeded(
    ids, width, share, unit, floor, projected, quantized, seed
):
    fields = [Field(f"f{i}", n, width, quantized=quantized) for i, n in enumerate(ids)]
    amount = max(1, int(share * sum(f.num_parameters for f in fields)))
    amount *= 4 if unit == "bytes" else 1
    budget = Budget(**{"num_bytes" if unit == "bytes" else unit: amount})
    random = np.random.default_rng(seed)
    shapes = [random.choice([0, 0.1, 0.5, 1.0, 2.0], n) for n in ids]
    try:
        plan = scaled_rows(fields, Wishes.growing(shapes), budget, floor, projected)
    except BudgetError:
        assert floor > 0
        return
    assert plan.fits(budget)
    for kept, shape in zip(plan, shapes, strict=True):
        if not isinstance(kept, RowPlan):
            continue
        assert kept.sizes.min() >= min(floor, width)
        whole = kept.field.num_bytes
        if quantized:
            whole = whole / 4 + 4 * kept.field.input_dim
        assert kept.num_bytes() < whole or unit == "parameters"
        # More wished for is never less given.
        order = np.argsort(shape, kind="stable")
        lifted = [kept.sizes[order][shape[order] == s] for s in np.unique(shape)]
        for low, high in zip(lifted, lifted[1:], strict=False):
            assert low.max() <= high.min()
        # No id that wishes more can still have what some id has already.
        for place in np.flatnonzero(shape > 0)[:20]:
            above = kept.sizes[kept.sizes > kept.sizes[place]]
            # The last id of a block would free its spare row: that is not sought.
            alone = (kept.sizes == kept.sizes[place]).sum() == 1
            if len(above) and not alone:
                other = raised(plan, kept.name, place, int(above.min()))
                assert not other.fits(budget)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_sizes_are_the_wishes_rounded(share):
    """One number c for all tables; sizes that are joined keep their mean."""
    random = np.random.default_rng(0)
    fields = [Field("user", 3000, 8), Field("item", 2000, 8)]
    shapes = [random.uniform(size=f.input_dim) for f in fields]
    plan = scaled_rows(fields, Wishes.growing(shapes), Budget(fraction=share))
    kept = np.concatenate([p.sizes for p in plan])

    def off(c):
        return np.abs(np.minimum(8, c * np.concatenate(shapes)) - kept)

    best = min(np.geomspace(0.5, 50, 400), key=lambda c: off(c).mean())
    assert off(best).mean() < 0.6 and off(best).max() < 2.6
    for one, shape in zip(plan, shapes, strict=True):
        expected = np.minimum(8, best * shape).mean()
        assert one.sizes.mean() == pytest.approx(expected, rel=0.05)
        assert len(np.unique(one.sizes)) >= 3


def test_whole_narrow_and_nothing():
    small, large = Field("day", 5, 8), Field("user", 4000, 8)
    shapes = [np.linspace(0.5, 1, 5), np.linspace(0, 1, 4000)]
    plan = scaled_rows([small, large], Wishes.growing(shapes), Budget(fraction=1.0))
    assert [kept.is_full for kept in plan] == [True, True]
    # The index of `user` alone is 8,000 bytes.
    plan = scaled_rows([small, large], Wishes.growing(shapes), Budget(num_bytes=7900))
    assert plan.sizes() == {"day": 8, "user": 0}
    equal = [np.ones(4000)]
    plan = scaled_rows([large], Wishes.growing(equal), Budget(fraction=0.4))
    assert isinstance(plan["user"], FieldPlan) and plan["user"].kept_dim == 3
    with pytest.raises(BudgetError, match=r"`budget` must be at least \d+ bytes"):
        scaled_rows([large], Wishes.growing(equal), Budget(num_bytes=7900), floor=1)


@pytest.mark.parametrize(
    ("share", "size"), [(0.1, 0), (0.15, 1), (0.24, 1), (0.3, 2), (0.52, 4), (0.9, 7)]
)
def test_ids_that_wish_alike_are_as_long_as_one_width_allows(share, size):
    """One id that never comes is no reason for an index, nor for nothing."""
    field = Field("user", 20_000, 8)
    shape = np.append(0.0, np.full(19_999, 7.0))
    plan = scaled_rows([field], Wishes.growing([shape]), Budget(fraction=share))
    assert plan.sizes() == {"user": size}


def test_what_is_left_goes_to_narrow_tables_that_wish_for_it():
    fields = [Field(name, 1000, 8) for name in ("user", "item", "new")]
    shapes = [np.full(1000, wish) for wish in (1.0, 2.0, 0.0)]
    # 5 of 24 dimensions and their alignments: in proportion 1.67 and 3.33.
    plan = scaled_rows(fields, Wishes.growing(shapes), Budget(num_bytes=20_160))
    assert plan.sizes() == {"user": 2, "item": 3, "new": 0}
    assert plan.num_bytes() == 20_160


def test_sizes_do_not_depend_on_how_ids_are_grouped():
    random = np.random.default_rng(0)
    fields = [Field(f"f{i}", n, 8) for i, n in enumerate((700, 300, 5))]
    shapes = [random.integers(0, 4, f.input_dim) / 3 for f in fields]
    alone = Wishes(
        [np.arange(f.input_dim) for f in fields],
        lambda x: [np.exp(x) * shape for shape in shapes],
    )
    for share in (0.15, 0.3, 0.6):
        budget = Budget(fraction=share)
        grouped = scaled_rows(fields, Wishes.growing(shapes), budget)
        assert grouped == scaled_rows(fields, alone, budget)
