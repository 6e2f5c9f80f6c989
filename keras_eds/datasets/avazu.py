"""The Avazu click-through data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from keras_eds.argument_checks import check_integer
from keras_eds.datasets.dataset import Dataset, deal_out, split_rows
from keras_eds.datasets.find_data import UNREADABLE, find_data
from keras_eds.datasets.vocabulary import encode
from keras_eds.errors import DataError
from keras_eds.models.field_spec import FieldSpec

CATEGORIES = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    *(f"C{i}" for i in range(14, 22)),
)
_FILENAMES = ("train.csv", "train.csv.gz", "train.gz")
_ADVICE = (
    "The Avazu data cannot be downloaded without accepting their terms: get "
    "train.gz of the 'Click-Through Rate Prediction' competition from Kaggle, "
    "and pass the file as `path`."
)


def load_avazu(
    path: str | os.PathLike[str] | None = None,
    min_count: int = 2,
    split: str = "time",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    max_rows: int | None = None,
) -> Dataset:
    """Load Avazu clicks: 21 categories, the hour of the day and the weekday.

    The column `hour` (`YYMMDDHH`) is replaced by the fields `hour` (0 to 23)
    and `weekday`; the row's `id` is dropped. Values with fewer than
    `min_count` rows in the training part, or none, share id 0; the others
    are dense from 1.

    Args:
        path: `train.csv` or `train.gz` of the competition, or a folder with
            it. `None` looks where `find_data` does.
        min_count: Fewest training rows that earn a value its own id.
        split: `"time"` for the order of the rows, which is that of time, or
            `"random"`.
        fractions: Shares of training, validation and test part.
        seed: Seed of the random split.
        max_rows: Read this many rows only, of 40.4 million.

    Raises:
        FileNotFoundError: If there are no data; says how to get them.
        DataError: If the file cannot be read, or lacks one of the columns.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> dataset = load_avazu(max_rows=1000)  # doctest: +SKIP
    >>> len(dataset.fields)  # doctest: +SKIP
    23

    Reference: Avazu, Click-Through Rate Prediction, Kaggle 2014.
    """
    check_integer("min_count", min_count)
    file = find_data("avazu", path, _FILENAMES, _ADVICE)
    try:
        table = _read(file, max_rows)
    except UNREADABLE as error:
        raise DataError(
            "An Avazu file must be the competition's CSV, with clicks of 0 or 1. "
            f"Received: {file} ({error}). Pass train.csv or train.gz."
        ) from error
    parts = split_rows(len(table), split, fractions, seed)
    time = pd.to_datetime(table["hour"], format="%y%m%d%H")
    columns = {"hour": time.dt.hour, "weekday": time.dt.day_of_week}
    columns.update({name: table[name] for name in CATEGORIES})
    fields, encoded = [], {}
    for name, values in columns.items():
        encoded[name], size = encode(values, parts[0], min_count)
        fields.append(FieldSpec(name, size))
    labels = table["click"].to_numpy()
    return deal_out(fields, encoded, labels, parts, f"Avazu, {file}")


def _read(file: Path, max_rows: int | None) -> pd.DataFrame:
    header = pd.read_csv(file, nrows=0).columns
    missing = [name for name in ("click", "hour", *CATEGORIES) if name not in header]
    if missing:
        raise ValueError(f"without the columns {missing}")
    table = pd.read_csv(
        file,
        usecols=["click", "hour", *CATEGORIES],
        dtype={"click": "float32", "hour": "str", **dict.fromkeys(CATEGORIES, "str")},
        nrows=max_rows,
    )
    if not table["click"].isin([0, 1]).all():
        raise ValueError("a click that is neither 0 nor 1")
    return table
