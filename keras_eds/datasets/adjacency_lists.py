"""The recommendation data sets in the form that NGCF and LightGCN made common."""

from __future__ import annotations

import dataclasses
import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_choice, check_number
from keras_eds.datasets.find_data import UNREADABLE, find_data
from keras_eds.datasets.interactions import Interactions
from keras_eds.datasets.pairs import Pairs
from keras_eds.datasets.split_by_user import split_by_user
from keras_eds.errors import DataError

_ROOT = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data/"
_FILENAMES = ("train.txt", "train.txt.gz")
_SPLITS = ("random", "standard")


def load_gowalla(
    path: str | os.PathLike[str] | None = None,
    split: str = "random",
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    validation: float = 0.0,
    seed: int = 42,
    download: bool = True,
) -> Interactions:
    """Load Gowalla: which user has checked in where?

    29,858 users, 40,981 places, 1,027,370 interactions.

    Args:
        path: A folder with `train.txt` and `test.txt` (or the same as `.gz`), or
            the first of them: one user a line, the user's number followed by
            those of the items. `None` looks where `find_data` does.
        split: `"random"` joins both files and draws the parts anew from each
            user's interactions, as CIESS does. `"standard"` keeps the files'
            own split, as LightGCN does.
        fractions: Shares of training, validation and test part, for
            `split="random"`.
        validation: Share of each user's training items, rounded down, that is
            taken out to choose on, for `split="standard"`, in [0, 1).
        seed: Seed of the random draws.
        download: Whether to download the files if they are found nowhere.
            They go to Keras's cache.

    Raises:
        FileNotFoundError: If there are no data and `download` is `False`, or
            if `path` is given and holds none.
        DataError: If a file cannot be read, or both hold an interaction.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> data = load_gowalla(split="standard")  # doctest: +SKIP
    >>> len(data.train), len(data.test)  # doctest: +SKIP
    (810128, 217242)

    Reference: Cho et al., Friendship and Mobility, KDD 2011; He et al.,
    LightGCN, SIGIR 2020, section 4.1, for this version.
    """
    return _load("gowalla", path, split, fractions, validation, seed, download)


def load_yelp2018(
    path: str | os.PathLike[str] | None = None,
    split: str = "random",
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    validation: float = 0.0,
    seed: int = 42,
    download: bool = True,
) -> Interactions:
    """Load Yelp2018: which user has reviewed what business?

    31,668 users, 38,048 businesses, about 1.56 million interactions.

    Args:
        path: See `load_gowalla`.
        split: See `load_gowalla`.
        fractions: See `load_gowalla`.
        validation: See `load_gowalla`.
        seed: Seed of the random draws.
        download: See `load_gowalla`.

    Raises:
        FileNotFoundError: If there are no data; see `load_gowalla`.
        DataError: If a file cannot be read, or both hold an interaction.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> data = load_yelp2018()  # doctest: +SKIP
    >>> data.num_users, data.num_items  # doctest: +SKIP
    (31668, 38048)

    Reference: He et al., LightGCN, SIGIR 2020, section 4.1.
    """
    return _load("yelp2018", path, split, fractions, validation, seed, download)


def _load(
    name: str,
    path: str | os.PathLike[str] | None,
    split: str,
    fractions: Sequence[float],
    validation: float,
    seed: int,
    download: bool,
) -> Interactions:
    check_choice("split", split, _SPLITS, "Take 'standard' for that of the files.")
    remedy = "0 is no validation part."
    check_number("validation", validation, least=0, below=1, remedy=remedy)
    file = _find(name, path, download)
    test_file = _test_file(file)
    train, test = _read(file), _read(test_file)
    source = f"{name}, {file}"
    if split == "random":
        users, items = np.concatenate([train, test], axis=1)
        return Interactions.split(users, items, fractions, seed, source)
    return _standard(train, test, validation, seed, source)


def _standard(
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    validation: float,
    seed: int,
    source: str,
) -> Interactions:
    # Numbered as in the files, so that results can be laid side by side.
    num_users, num_items = (int(n) + 1 for n in np.maximum(train.max(1), test.max(1)))
    none = Pairs.of([], [], num_users, num_items)
    data = Interactions(
        Pairs.of(train[0], train[1], num_users, num_items),
        none,
        Pairs.of(test[0], test[1], num_users, num_items),
        np.arange(num_users),
        np.arange(num_items),
        source,
    )
    if not validation:
        return data
    users, items = data.train.users, data.train.items
    kept, held_out, _ = (
        Pairs.of(users[rows], items[rows], num_users, num_items)
        for rows in split_by_user(users, (1 - validation, validation, 0.0), seed)
    )
    return dataclasses.replace(data, train=kept, validation=held_out)


def _find(name: str, path: str | os.PathLike[str] | None, download: bool) -> Path:
    urls = {stem: f"{_ROOT}{name}/{stem}" for stem in ("train.txt", "test.txt")}
    advice = (
        f"Download {' and '.join(urls.values())} and pass their folder as `path`, "
        "or let `download=True` do it."
    )
    try:
        return find_data(name, path, _FILENAMES, advice)
    except FileNotFoundError:
        if path is not None or not download:
            raise
    folder = f"keras_eds/{name}"
    got = {
        stem: keras.utils.get_file(stem, url, cache_subdir=folder)
        for stem, url in urls.items()
    }
    return Path(got["train.txt"])


def _test_file(train: Path) -> Path:
    if "train" not in train.name:
        raise DataError(
            "`path` must be a folder with train.txt and test.txt, or its train.txt. "
            f"Received: {train}. Pass the folder."
        )
    test = train.with_name(train.name.replace("train", "test"))
    if not test.exists():
        raise DataError(
            f"`path` must have both parts. Received: {train} without {test.name} "
            "beside it. Pass the folder of LightGCN's files."
        )
    return test


def _read(file: Path) -> npt.NDArray[np.int64]:
    """Read lines `user item item ..` as users and items, `(2, interactions)`."""
    open_text = gzip.open if file.suffix == ".gz" else open
    try:
        with open_text(file, "rt") as lines:
            rows = [np.array(line.split(), "int64") for line in lines]
    except UNREADABLE as error:
        raise DataError(
            "The interactions must be lines of integers, `user item item ..`. "
            f"Received: {file} ({error}). Pass the folder of LightGCN's files."
        ) from error
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise DataError(
            "The interactions must be lines `user item item ..`. "
            f"Received: {file} without any. Pass the folder of LightGCN's files."
        )
    users = np.repeat([row[0] for row in rows], [len(row) - 1 for row in rows])
    items = np.concatenate([row[1:] for row in rows])
    # An item twice on a line counts once.
    return np.unique(np.stack([users, items]), axis=1)
