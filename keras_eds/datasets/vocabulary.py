"""From raw values to ids that training has seen often enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def encode(
    values: Any, train: np.ndarray, min_count: int = 1
) -> tuple[np.ndarray, int]:
    """Number the values; 0 is what training has (nearly) never seen.

    Args:
        values: One raw value a row, `(rows,)`. Missing counts as a value.
        train: Row numbers of the training part; nothing else is looked at
            to decide which values get an id.
        min_count: Fewest training rows that earn a value an id of its own.

    Returns:
        The ids as int32, `(rows,)`, dense from 1 in order of first
        appearance, and the vocabulary size, id 0 included.

    Example:

    >>> ids, size = encode(["a", "b", "a", "c"], train=np.arange(3))
    >>> ids.tolist(), size
    ([1, 2, 1, 0], 3)
    """
    codes, uniques = pd.factorize(pd.Series(values), use_na_sentinel=False)
    counts = np.bincount(codes[train], minlength=len(uniques))
    known = counts >= min_count
    ids = np.where(known, np.cumsum(known), 0).astype("int32")
    return ids[codes], int(known.sum()) + 1
