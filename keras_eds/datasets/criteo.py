"""The Criteo display advertising data."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from keras_eds.argument_checks import check_integer
from keras_eds.datasets.dataset import Dataset, deal_out, split_rows
from keras_eds.datasets.find_data import UNREADABLE, find_data
from keras_eds.datasets.vocabulary import encode
from keras_eds.errors import DataError
from keras_eds.models.field_spec import FieldSpec

INTEGERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
_COLUMNS = ("label", *INTEGERS, *CATEGORIES)
_FILENAMES = (
    "train.txt",
    "train.txt.gz",
    "dac_sample.txt",
    "dac_sample.txt.gz",
    "criteo_dac_sample_80k.csv.gz",
)
_ADVICE = (
    "The Criteo data cannot be downloaded without accepting their terms: get "
    "train.txt of the 'Display Advertising Challenge' from Kaggle or Criteo's "
    "AI Lab, and pass the file as `path`."
)


def load_criteo(
    path: str | os.PathLike[str] | None = None,
    min_count: int = 2,
    numeric_bins: str | int = "log",
    split: str = "time",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    max_rows: int | None = None,
) -> Dataset:
    """Load Criteo clicks: 13 bucketed integers and 26 categories.

    Integers become buckets, one id each: missing, negative, 0, 1, 2 and, for
    `x > 2`, `floor(ln(x)^2)`, the rule of the winners of the competition. A
    missing category is a value like any other. Values with fewer than
    `min_count` rows in the training part, or none, share id 0; the others
    are dense from 1.

    Args:
        path: The original tab-separated text without header (label, 13
            integers, 26 categories), or the same as comma-separated values
            with the header `label,I1,..,C26`; either may be gzipped. Or a
            folder with such a file. `None` looks where `find_data` does.
        min_count: Fewest training rows that earn a value its own id.
        numeric_bins: `"log"` for the rule above, or a number of quantiles of
            the training part (missing and negative keep their buckets).
        split: `"time"` for the order of the rows, which is that of time, or
            `"random"`.
        fractions: Shares of training, validation and test part.
        seed: Seed of the random split.
        max_rows: Read this many rows only. The whole train.txt has 45.8
            million, which want some 100 GB of memory here.

    Raises:
        FileNotFoundError: If there are no data; says how to get them.
        DataError: If the file is not in one of the two formats, or a line is
            cut off.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> dataset = load_criteo(max_rows=1000)  # doctest: +SKIP
    >>> len(dataset.fields)  # doctest: +SKIP
    39

    Reference: Criteo Labs, Display Advertising Challenge, Kaggle 2014;
    Juan et al., Field-aware Factorization Machines for CTR Prediction,
    RecSys 2016, for the buckets (their code).
    """
    check_integer("min_count", min_count)
    _check_numeric_bins(numeric_bins)
    if max_rows is not None:
        check_integer("max_rows", max_rows)
    file = find_data("criteo", path, _FILENAMES, _ADVICE)
    table = _read(file, max_rows)
    parts = split_rows(len(table), split, fractions, seed)
    train = parts[0]
    fields, encoded = [], {}
    for name in (*INTEGERS, *CATEGORIES):
        values = table[name].to_numpy()
        if name in INTEGERS:
            values = bucket(values, train, numeric_bins)
        encoded[name], size = encode(values, train, min_count)
        fields.append(FieldSpec(name, size))
    labels = table["label"].to_numpy()
    return deal_out(fields, encoded, labels, parts, f"Criteo, {file}")


def bucket(
    values: np.ndarray, train: np.ndarray, numeric_bins: str | int
) -> np.ndarray:
    """Return the bucket of each number: see `load_criteo` for the rule.

    Args:
        values: Numbers, NaN where missing, `(rows,)`.
        train: Row numbers that quantiles are taken from.
        numeric_bins: `"log"` or a number of quantiles.

    Example:

    >>> bucket(np.array([np.nan, -5.0, 0.0, 2.0, 3.0, 100.0]), np.arange(6), "log")
    array([-2, -1,  0,  2,  3, 23])
    """
    known = values >= 0  # False for NaN
    if numeric_bins == "log":
        big = np.log(np.maximum(values, 3, where=known, out=np.full_like(values, 3)))
        # floor(ln(3)^2) = 1: moved up by 2, so that no bucket holds 1 or 2 twice.
        result = np.where(values > 2, np.floor(big**2) + 2, values)
    else:
        seen = values[train][known[train]]
        steps = np.linspace(0, 1, int(numeric_bins) + 1)[1:-1]
        edges = np.unique(np.quantile(seen, steps)) if len(seen) else np.empty(0)
        result = np.searchsorted(edges, values, side="left").astype("float64")
    result = np.where(known, result, -1)
    return np.where(np.isnan(values), -2, result).astype("int64")


def _check_numeric_bins(numeric_bins: str | int) -> None:
    is_count = isinstance(numeric_bins, int) and numeric_bins >= 2
    if numeric_bins != "log" and not is_count:
        raise ValueError(
            "`numeric_bins` must be 'log' or an integer of at least 2. Received: "
            f"numeric_bins={numeric_bins!r}. Use 'log' for the usual buckets."
        )


def _read(file: Path, max_rows: int | None) -> pd.DataFrame:
    try:
        has_header = _check_lines(file, max_rows)
        table = pd.read_csv(
            file,
            sep="," if has_header else "\t",
            header=0 if has_header else None,
            names=list(_COLUMNS),
            dtype={
                "label": "float32",
                **dict.fromkeys(INTEGERS, "float64"),
                **dict.fromkeys(CATEGORIES, "str"),
            },
            nrows=max_rows,
        )
        if not table["label"].isin([0, 1]).all():
            raise ValueError("a label that is neither 0 nor 1")
    except UNREADABLE as error:
        raise DataError(
            "A Criteo file must have 40 tab-separated columns without a header, or "
            "comma-separated ones with the header `label,I1,..,C26`; the label is 0 "
            f"or 1. Received: {file} ({error}). Pass the original train.txt."
        ) from error
    return table


def _check_lines(file: Path, max_rows: int | None) -> bool:
    """Refuses lines that are too short, which pandas fills; is there a header?"""
    open_text = gzip.open if file.suffix == ".gz" else open
    with open_text(file, "rt", encoding="utf-8") as lines:
        rows = (line for line in lines if line != "\n")
        first = next(rows, "")
        has_header = first.rstrip("\n") == ",".join(_COLUMNS)
        separator = "," if has_header else "\t"
        rest = None if max_rows is None else max_rows - (not has_header)
        for line in itertools.chain([first], itertools.islice(rows, rest)):
            if line.count(separator) != len(_COLUMNS) - 1:
                raise ValueError(f"the line {line[:60]!r}")
    return has_header
