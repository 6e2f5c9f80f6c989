from __future__ import annotations

import numpy as np
import pytest

from keras_eds import Budget, Field
from keras_eds.budget import format_bytes, parse_budgets
from keras_eds.errors import BudgetError, EDSError

FIELDS = (Field("a", 100, 10), Field("b", 50, 4, itemsize=2))  # 4,400 bytes


@pytest.mark.parametrize(
    ("value", "unit", "limit"),
    [
        (0.1, "bytes", 440),
        (1, "bytes", 4400),
        (np.float32(0.5), "bytes", 2200),
        ("10%", "bytes", 440),
        (" 12.5 % ", "bytes", 550),
        ("8MB", "bytes", 8_000_000),
        ("1.5kb", "bytes", 1500),
        ("512KiB", "bytes", 524_288),
        ("2 GiB", "bytes", 2**31),
        ("1TB", "bytes", 10**12),
        (".5MiB", "bytes", 2**19),
        ("7B", "bytes", 7),
        (Budget(parameters=np.int64(77)), "parameters", 77),
        (Budget(num_bytes=99), "bytes", 99),
    ],
)
def test_reads(value, unit, limit):
    budget = Budget.parse(value)
    assert (budget.unit, budget.limit(FIELDS)) == (unit, limit)
    assert eval(repr(budget)) == budget
    assert Budget.parse(budget) is budget


def test_a_fraction_is_not_rounded_down_by_a_float():
    for total in (10, 100, 1000, 12_345_670):
        assert Budget(fraction=0.1).limit([Field("a", total, 1, 1)]) == total // 10
    assert Budget(fraction=0.3).limit([Field("a", 11, 1, 1)]) == 3


@pytest.mark.parametrize(
    "value",
    [0, -0.1, 1.0001, 2, float("nan"), float("inf"), "", "8", "8IB", "8XB", "-8MB"]
    + ["0MB", "0.1B", "0%", "101%", "many", "1e3B", None, True, [0.1], b"8MB", 1j],
)
def test_refuses(value):
    with pytest.raises(BudgetError, match="`budget`.*Received"):
        Budget.parse(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"fraction": 0.1, "num_bytes": 10},
        {"parameters": 0},
        {"parameters": 0.5},
        {"num_bytes": -1},
        {"parameters": "10"},
        {"num_bytes": True},
    ],
)
def test_refuses_to_be_built(arguments):
    with pytest.raises(BudgetError, match="`budget`.*Received") as caught:
        Budget(**arguments)
    assert isinstance(caught.value, EDSError) and isinstance(caught.value, ValueError)


def test_reads_lists():
    assert parse_budgets(0.1) == [Budget(fraction=0.1)]
    several = parse_budgets([0.1, "1MB", Budget(parameters=5)])
    assert [b.label for b in several] == ["10%", "1 MB", "5 parameters"]
    with pytest.raises(BudgetError, match="at least one"):
        parse_budgets([])
    with pytest.raises(BudgetError, match="twice"):
        parse_budgets((0.1, "10%"))
    with pytest.raises(BudgetError, match="Received: budget='x'"):
        parse_budgets([0.1, "x"])


def test_writes_bytes():
    numbers = (0, 999, 1000, 1234567, 10**12, 10**16)
    texts = ["0 B", "999 B", "1 KB", "1.235 MB", "1 TB", "1e+04 TB"]
    assert [format_bytes(n) for n in numbers] == texts
