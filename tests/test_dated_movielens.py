"""MovieLens-1M in copies that have lost part of their timestamps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from keras_eds.datasets.movielens_1m import sort_by_time
from keras_eds.errors import DataError


def ratings(times):
    return pd.DataFrame({"user": range(len(times)), "time": times})


def test_undated_ratings_can_be_dropped():
    found = sort_by_time(ratings([3.0, np.nan, 1.0, 3.0, np.nan]), "drop")
    assert found["user"].tolist() == [2, 0, 3] and found["time"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("times", "undated", "error", "message"),
    [
        ([1.0, np.nan], "error", DataError, "1 of 2 ratings .* undated='drop'"),
        ([np.nan, np.nan], "drop", DataError, "2 of 2 ratings"),
        ([1.0], "keep", ValueError, "undated='keep'"),
    ],
)
def test_what_cannot_be_sorted_is_refused(times, undated, error, message):
    with pytest.raises(error, match=message):
        sort_by_time(ratings(times), undated)
