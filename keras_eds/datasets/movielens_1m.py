"""MovieLens-1M as click-through data."""

from __future__ import annotations

import contextlib
import io
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import pandas as pd

from keras_eds.datasets.dataset import Dataset, deal_out, split_rows
from keras_eds.datasets.find_data import UNREADABLE, find_data
from keras_eds.datasets.vocabulary import encode
from keras_eds.errors import DataError
from keras_eds.models.field_spec import FieldSpec

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
_MD5 = "c4d9eecfca2ab87c1945afe126590906"
_FILENAMES = ("ratings.dat", "ratings.dat.gz", "ml-1m/ratings.dat", "ml-1m.zip")
_ADVICE = (
    f"Download and unpack {URL} and pass its folder as `path`, or let "
    "`download=True` do it."
)
_UNREADABLE = (*UNREADABLE, KeyError, FileNotFoundError, zipfile.BadZipFile)


def load_movielens_1m(
    path: str | os.PathLike[str] | None = None,
    threshold: float = 4,
    split: str = "random",
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    download: bool = True,
    undated: Literal["error", "drop"] = "error",
) -> Dataset:
    """Load MovieLens-1M: does a user like a movie?

    The label is 1 where `rating >= threshold`. Fields: user, movie, gender,
    age, occupation, zip (its first three digits), year (of release), genres
    (multi-hot, padded with 0). Ids are dense from 1 and stand for values of
    the training part; everything else is 0.

    Args:
        path: `ml-1m.zip`, or a folder with `ratings.dat` (or
            `ratings.dat.gz`), `users.dat` and `movies.dat`, or with `ml-1m/`
            in it. `None` looks where `find_data` does.
        threshold: Least rating that counts as liked, in stars.
        split: `"random"`, or `"time"` for a split by the rating's timestamp.
        seed: Seed of the random split.
        fractions: Shares of training, validation and test part.
        download: Whether to download the data if they are found nowhere.
            They go to Keras's cache. Their licence is for research; the
            README in the archive has the terms.
        undated: What becomes of ratings without a timestamp under
            `split="time"`, of which some copies of the data have many:
            `"error"`, or `"drop"` to leave them out.

    Raises:
        FileNotFoundError: If there are no data and `download` is `False`, or
            if `path` is given and holds none.
        DataError: If one of the three files is missing, damaged or not
            MovieLens-1M's, or there are no timestamps where `split="time"`
            wants them.
        ValueError: If `split`, `fractions` or `undated` cannot be used.

    Example:

    >>> dataset = load_movielens_1m()  # doctest: +SKIP
    >>> len(dataset.train[1])  # doctest: +SKIP
    800167

    Reference: Harper and Konstan, The MovieLens Datasets, TiiS 2015.
    """
    file = find_ratings(path, download)
    ratings = read_ratings(file)
    if split == "time":
        ratings = sort_by_time(ratings, undated)
    train, validation, test = split_rows(len(ratings), split, fractions, seed)
    movies = _read_movies(file)
    columns = _raw_columns(ratings, _read_users(file), movies)
    fields, encoded = [], {}
    for name, values in columns.items():
        encoded[name], size = encode(values, train)
        fields.append(FieldSpec(name, size))
    encoded["genres"], size = _encode_genres(ratings, movies, train)
    fields.append(FieldSpec("genres", size, multi_hot=True))
    labels = (ratings["rating"] >= threshold).to_numpy()
    parts = (train, validation, test)
    return deal_out(fields, encoded, labels, parts, f"MovieLens-1M, {file}")


def find_ratings(path: str | os.PathLike[str] | None, download: bool) -> Path:
    """Find the ratings, or download them."""
    try:
        return find_data("movielens-1m", path, _FILENAMES, _ADVICE)
    except FileNotFoundError:
        if path is not None or not download:
            raise
    return Path(
        keras.utils.get_file("ml-1m.zip", URL, cache_subdir="keras_eds", file_hash=_MD5)
    )


@contextlib.contextmanager
def _reading(file: Path, stem: str, form: str) -> Iterator[None]:
    """Turns whatever is wrong with one of the three files into a `DataError`."""
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(
            f"{stem} must be there with lines `{form}`. Received: {file} ({error}). "
            "Pass MovieLens-1M's zip file or its folder, with all three files."
        ) from error


def _read_bytes(file: Path, stem: str) -> bytes:
    """Read `users.dat` or its like from where the ratings were found."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            return archive.read(f"ml-1m/{stem}")
    return (file.parent / stem).read_bytes()


def read_ratings(file: Path) -> pd.DataFrame:
    """Read `ratings.dat`, in its order, as user, movie, rating and time."""
    in_zip = file.suffix == ".zip"
    with _reading(file, "ratings.dat", "user::movie::rating::timestamp"):
        source = io.BytesIO(_read_bytes(file, "ratings.dat")) if in_zip else file
        # "::" would need pandas' slow parser; ":" makes every other column empty.
        ratings = pd.read_csv(
            source,
            sep=":",
            header=None,
            usecols=[0, 2, 4, 6],
            names=["user", 1, "movie", 3, "rating", 5, "time"],
            dtype={"user": "int32", "movie": "int32", "rating": "float32"},
        )
        if ratings["rating"].isna().any():
            raise ValueError("a line without a rating")
    return ratings


def sort_by_time(ratings: pd.DataFrame, undated: str) -> pd.DataFrame:
    """Put ratings in the order of their timestamps."""
    if undated not in ("error", "drop"):
        raise ValueError(
            f"`undated` must be 'error' or 'drop'. Received: undated={undated!r}. "
            "Use 'drop' to leave out ratings without a timestamp."
        )
    missing = int(ratings["time"].isna().sum())
    if missing and (undated == "error" or missing == len(ratings)):
        raise DataError(
            "`split='time'` must have a timestamp for every rating. Received: "
            f"{missing} of {len(ratings)} ratings without one. "
            "Use split='random', or undated='drop' if some have one."
        )
    return ratings.dropna(subset=["time"]).sort_values(
        "time", kind="stable", ignore_index=True
    )


def _read_users(file: Path) -> pd.DataFrame:
    with _reading(file, "users.dat", "user::gender::age::occupation::zip"):
        users = pd.read_csv(
            io.BytesIO(_read_bytes(file, "users.dat")),
            sep=":",
            header=None,
            usecols=[0, 2, 4, 6, 8],
            names=["user", 1, "gender", 3, "age", 5, "occupation", 7, "zip"],
            dtype={"user": "int32", "zip": "str"},
        )
        if users.isna().any(axis=None) or not users["user"].is_unique:
            raise ValueError("a line that is cut off, or a user who is there twice")
    users["zip"] = users["zip"].str[:3]
    return users.set_index("user")


def _read_movies(file: Path) -> pd.DataFrame:
    with _reading(file, "movies.dat", "movie::title (year)::genre|genre"):
        rows = []
        for line in _read_bytes(file, "movies.dat").decode("latin-1").splitlines():
            movie, title, genres = line.split("::")
            year = re.search(r"\((\d{4})\)\s*$", title)
            rows.append((int(movie), year and int(year[1]), genres))
        movies = pd.DataFrame(rows, columns=["movie", "year", "genres"])
        if not movies["movie"].is_unique:
            raise ValueError("a movie that is there twice")
    return movies.set_index("movie")


def _raw_columns(
    ratings: pd.DataFrame, users: pd.DataFrame, movies: pd.DataFrame
) -> dict[str, np.ndarray]:
    columns = {name: ratings[name].to_numpy() for name in ("user", "movie")}
    user_rows = users.index.get_indexer(pd.Index(ratings["user"]))
    movie_rows = movies.index.get_indexer(pd.Index(ratings["movie"]))
    if min(user_rows.min(), movie_rows.min()) < 0:
        raise DataError(
            "users.dat and movies.dat must describe everything that is rated. "
            "Received: a rating of an unknown user or movie. "
            "Keep the three files of one archive together."
        )
    for name in ("gender", "age", "occupation", "zip"):
        columns[name] = users[name].to_numpy()[user_rows]
    columns["year"] = movies["year"].to_numpy()[movie_rows]
    return columns


def _encode_genres(
    ratings: pd.DataFrame, movies: pd.DataFrame, train: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return genre ids `(ratings, most genres of a movie)` and their number."""
    rows = movies.index.get_indexer(pd.Index(ratings["movie"]))
    genres: list[list[str]] = movies["genres"].str.split("|").tolist()
    known = sorted({genre for row in np.unique(rows[train]) for genre in genres[row]})
    ids = {genre: index for index, genre in enumerate(known, start=1)}
    table = np.zeros((len(genres), max(map(len, genres))), "int32")
    for row, names in enumerate(genres):
        found = [ids[name] for name in names if name in ids]
        table[row, : len(found)] = found
    return table[rows], len(ids) + 1
