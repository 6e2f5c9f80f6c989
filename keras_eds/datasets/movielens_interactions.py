"""MovieLens-1M as implicit feedback."""

from __future__ import annotations

import os
from collections.abc import Sequence

from keras_eds.datasets.interactions import Interactions
from keras_eds.datasets.movielens_1m import find_ratings, read_ratings


def load_movielens_interactions(
    path: str | os.PathLike[str] | None = None,
    threshold: float = 0,
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    seed: int = 42,
    download: bool = True,
) -> Interactions:
    """Load MovieLens-1M: which user has rated which movie?

    Every rating of at least `threshold` stars is an interaction; the others
    are left out. Users and movies without one have no number.

    Args:
        path: See `load_movielens_1m`.
        threshold: Least rating that counts, in stars. 0 counts all.
        fractions: Shares of each user's interactions that go to training,
            validation and test part.
        seed: Seed of the random split.
        download: See `load_movielens_1m`.

    Raises:
        FileNotFoundError: If there are no data; see `load_movielens_1m`.
        DataError: If the file is not MovieLens-1M's.
        ValueError: If `fractions` cannot be used.

    Example:

    >>> data = load_movielens_interactions()  # doctest: +SKIP
    >>> data.num_users, data.num_items  # doctest: +SKIP
    (6040, 3706)

    Reference: Harper and Konstan, The MovieLens Datasets, TiiS 2015; the
    split is that of Qu et al., SIGIR 2023 (CIESS), who lost the first rating
    in their loader.
    """
    file = find_ratings(path, download)
    ratings = read_ratings(file)
    ratings = ratings[ratings["rating"] >= threshold]
    return Interactions.split(
        ratings["user"].to_numpy(),
        ratings["movie"].to_numpy(),
        fractions,
        seed,
        f"MovieLens-1M, {file}",
    )
