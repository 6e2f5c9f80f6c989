"""What every loader returns, and how rows are dealt out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_eds.models.field_spec import FieldSpec

Part = tuple[dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Categorical fields and binary labels, in three parts.

    Args:
        fields: The fields, ready for `keras_eds.models`.
        train: `(x, y)`: `x` maps a field's name to its int32 ids, `(rows,)`
            or `(rows, n)` if multi-hot; `y` holds 0.0 and 1.0 as float32,
            `(rows,)`. Goes straight into `model.fit(*dataset.train)`.
        validation: Likewise, to choose on.
        test: Likewise, to report on.
        source: Where the rows came from.
        widths: Useful width of each field where it is known (planted data),
            else empty.
        sizes: Useful size of each id of each field, `(vocabulary_size,)`,
            where it is known (planted ids), else empty.
    """

    fields: tuple[FieldSpec, ...]
    train: Part
    validation: Part
    test: Part
    source: str
    widths: dict[str, int] = dataclasses.field(default_factory=dict)
    sizes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def split_rows(
    num_rows: int,
    split: str,
    fractions: Sequence[float],
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row numbers of training, validation and test part.

    Args:
        num_rows: How many rows there are, at least one a part.
        split: `"time"`: in row order, the last rows for the test.
            `"random"`: shuffled first.
        fractions: Three positive shares that add up to 1.
        seed: Seed of the shuffle.

    Raises:
        ValueError: If an argument breaks these rules.

    Example:

    >>> [part.tolist() for part in split_rows(5, "time", (0.6, 0.2, 0.2), 0)]
    [[0, 1, 2], [3], [4]]
    """
    if split not in ("time", "random"):
        raise ValueError(
            f"`split` must be 'time' or 'random'. Received: split={split!r}. "
            "Use 'random' for rows without an order."
        )
    shares = tuple(fractions)
    is_whole = len(shares) == 3 and abs(sum(shares) - 1) < 1e-6
    if not is_whole or min(shares) <= 0:
        raise ValueError(
            "`fractions` must be three positive numbers that add up to 1. "
            f"Received: fractions={fractions}. Use (0.8, 0.1, 0.1)."
        )
    rows = np.arange(num_rows)
    if split == "random":
        np.random.default_rng(seed).shuffle(rows)
    first = round(num_rows * shares[0])
    second = round(num_rows * (shares[0] + shares[1]))
    if not 0 < first < second < num_rows:
        raise ValueError(
            "`fractions` must leave a row for each part. Received: "
            f"fractions={fractions} of {num_rows} rows. Use more rows."
        )
    return rows[:first], rows[first:second], rows[second:]


def deal_out(
    fields: Sequence[FieldSpec],
    columns: dict[str, np.ndarray],
    labels: np.ndarray,
    parts: Sequence[np.ndarray],
    source: str,
    widths: dict[str, int] | None = None,
    sizes: dict[str, np.ndarray] | None = None,
) -> Dataset:
    """Cut columns and labels into the parts that `split_rows` returned."""
    train, validation, test = (
        (
            {name: column[rows].astype("int32") for name, column in columns.items()},
            labels[rows].astype("float32"),
        )
        for rows in parts
    )
    known = widths or {}, sizes or {}
    return Dataset(tuple(fields), train, validation, test, source, *known)
