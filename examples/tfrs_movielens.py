"""MovieLens-1M as the TFRS tutorials have it: ids as strings, ratings as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_eds.datasets.movielens_1m import find_ratings, read_ratings

Features = dict[str, np.ndarray]


@dataclass(frozen=True)
class Ratings:
    """Ratings in three parts, and every id that there is."""

    train: Features
    validation: Features
    test: Features
    user_ids: np.ndarray
    movie_ids: np.ndarray
    source: str


def load(where: str | None, least: float = 0) -> Ratings:
    """The ratings of at least `least` stars; planted ones where there are no others."""
    source = "planted ratings: users and movies of eight tastes"
    table = None
    if where != "planted":
        try:
            file = find_ratings(where, download=True)
            table, source = read_ratings(file), f"MovieLens-1M, {file}"
        except Exception as error:
            if where is not None:
                raise
            print(f"MovieLens-1M is not to be had ({type(error).__name__}: {error}).")
    if table is None:
        columns = _planted(60_000)
    else:
        columns = [table[name].to_numpy() for name in ("user", "movie", "rating")]
    user, movie, rating = (column[columns[2] >= least] for column in columns)
    features = {
        "user_id": user.astype(str),
        "movie_id": movie.astype(str),
        "user_rating": rating.astype("float32"),
    }
    order = np.random.default_rng(0).permutation(len(user))
    cuts = np.split(order, [int(0.8 * len(user)), int(0.9 * len(user))])
    train, validation, test = (
        {name: values[rows] for name, values in features.items()} for rows in cuts
    )
    ids = np.unique(features["user_id"]), np.unique(features["movie_id"])
    return Ratings(train, validation, test, *ids, source)


def batches(features: Features, size: int, shuffle: bool = False) -> tf.data.Dataset:
    """A data set of batches."""
    data = tf.data.Dataset.from_tensor_slices(features)
    if shuffle:
        data = data.shuffle(100_000, seed=0)
    return data.batch(size).prefetch(tf.data.AUTOTUNE)


def first(features: Features, count: int) -> Features:
    """The first examples of a part."""
    return {name: values[:count] for name, values in features.items()}


def _planted(count: int, users: int = 600, movies: int = 400) -> list[np.ndarray]:
    """Ratings 1 to 5: five where a user's taste is a movie's kind."""
    random = np.random.default_rng(0)
    user, movie = random.integers(0, users, count), random.integers(0, movies, count)
    liked = user % 8 == movie % 8
    rating = np.where(liked, 5, random.integers(1, 5, count))
    return [user, movie, rating]
