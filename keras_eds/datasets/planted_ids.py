"""Synthetic clicks whose ids have known useful sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_eds.datasets.dataset import Dataset, deal_out, split_rows
from keras_eds.models.field_spec import FieldSpec

_GRADED = ("user", "item")
_CONTEXT = "context"


def make_planted_ids(
    num_examples: int = 200_000,
    vocabulary_size: int = 200,
    largest_size: int = 6,
    correlation: float = 1.0,
    shuffled: bool = False,
    exponent: float = 0.8,
    strength: float = 0.7,
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
) -> Dataset:
    """Make click-through data in which each id's useful size is known.

    `P(y = 1) = sigmoid(strength * sum_{f<g} <u_f[i_f], u_g[i_g]>)` over the fields
    user, item and context: a factorisation machine of width `largest_size`. Of the
    vector of id i only the first `r_i` coordinates are not zero; these are of either
    sign and nearly of one magnitude. Sizes 0 to `largest_size` are dealt out evenly
    to the ids of user and item; the 50 ids of context are of equal frequency and all
    have the largest size. Therefore

    - the label depends on exactly the first `r_i` coordinates of id i: each has a
      partner of unit variance in every context, and no other id's value replaces it;
    - every useful coordinate carries the same energy for the id that has it;
    - vectors are centred over the examples, so that no id has a main effect;
    - coordinate k + 1 is of use to fewer ids than k: ordered by energy, what an
      id needs is a prefix, up to a rotation of the whole table.

    The k-th most frequent id comes in proportion to `k^-exponent` (Zipf), in a
    random order of ids. The useful sizes rise with frequency, or are dealt out
    without regard to it.

    Args:
        num_examples: Rows of the three parts together.
        vocabulary_size: Rows of the tables of user and item, above twice the
            number of sizes. Id 0 stands for unknown, as everywhere, and never
            occurs.
        largest_size: The largest useful size.
        correlation: Of size with frequency, -1 to 1: of the normal scores that
            both are ranked by. 1: the more frequent, the larger.
        shuffled: Whether sizes are dealt out at random instead, as at
            `correlation=0`.
        exponent: How fast frequencies fall; 0 for equal ones.
        strength: Standard deviation that one coordinate pair gives to the logit.
        seed: Seed of everything random.
        fractions: Shares of training, validation and test part.

    Returns:
        A `Dataset` whose `sizes` are the truth: for each field the size of each
        id, `(vocabulary_size,)`, and 0 for id 0.

    Raises:
        ValueError: If an argument breaks the rules above.

    Example:

    >>> dataset = make_planted_ids(100, vocabulary_size=20, largest_size=4)
    >>> int(dataset.sizes["user"].max()), dataset.train[0]["user"].shape
    (4, (80,))
    """
    _check(vocabulary_size, largest_size, correlation)
    rng = np.random.default_rng(seed)
    frequencies, sizes, latents = {}, {}, {}
    for name in _GRADED:
        frequencies[name] = _zipf(rng, vocabulary_size - 1, exponent)
        share = 0.0 if shuffled else correlation
        sizes[name] = _sizes(rng, frequencies[name], largest_size, share)
    frequencies[_CONTEXT] = np.full(50, 1 / 50)
    sizes[_CONTEXT] = np.full(50, largest_size)
    for name in sizes:
        latents[name] = _latents(rng, frequencies[name], sizes[name], largest_size)
    ids = {name: rng.choice(len(p), num_examples, p=p) for name, p in
           frequencies.items()}  # fmt: skip
    logit = planted_logit(latents, ids, strength)
    labels = rng.random(num_examples) < 1 / (1 + np.exp(-logit))
    fields = [FieldSpec(name, len(size) + 1) for name, size in sizes.items()]
    parts = split_rows(num_examples, "time", fractions, seed)
    columns = {name: column + 1 for name, column in ids.items()}
    truth = {name: np.append(0, size) for name, size in sizes.items()}
    source = f"planted ids, seed {seed}"
    return deal_out(fields, columns, labels, parts, source, sizes=truth)


def planted_logit(
    latents: dict[str, np.ndarray], ids: dict[str, np.ndarray], strength: float
) -> np.ndarray:
    """The interactions of all pairs of fields, shape `(examples,)`."""
    vectors = np.stack([latents[name][column] for name, column in ids.items()])
    squares = np.square(vectors).sum(axis=0)
    pairs = (np.square(vectors.sum(axis=0)) - squares).sum(axis=1) / 2
    return np.asarray(strength * pairs)


def _zipf(rng: np.random.Generator, number: int, exponent: float) -> np.ndarray:
    share = np.arange(1.0, number + 1) ** -exponent
    return np.asarray(rng.permutation(share / share.sum()))


def _sizes(
    rng: np.random.Generator, frequency: np.ndarray, largest: int, correlation: float
) -> np.ndarray:
    """Sizes 0 to `largest`, each for as many ids, by a score of the frequency."""
    number = len(frequency)
    scores = np.sort(rng.normal(size=number))[_ranks(frequency)]
    noise = rng.normal(size=number)
    mixed = correlation * scores + np.sqrt(1 - correlation**2) * noise
    return np.asarray(_ranks(mixed) * (largest + 1) // number)


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.argsort(np.argsort(values, kind="stable")))


def _latents(
    rng: np.random.Generator, frequency: np.ndarray, sizes: np.ndarray, width: int
) -> np.ndarray:
    """Vectors `(ids, width)`, zero beyond each id's size, of mean 0 over examples."""
    used = np.arange(width) < sizes[:, None]
    raw = rng.choice([-1.0, 1.0], used.shape) * rng.uniform(0.8, 1.2, used.shape)
    share = frequency[:, None] * used
    share /= share.sum(axis=0)
    raw -= (share * raw).sum(axis=0)
    raw /= np.sqrt((share * raw**2).sum(axis=0))
    return np.where(used, raw, 0.0)


def _check(vocabulary_size: int, largest_size: int, correlation: float) -> None:
    if largest_size < 1 or vocabulary_size <= 2 * (largest_size + 1):
        raise ValueError(
            "`vocabulary_size` must be above twice the number of sizes, 0 to "
            f"`largest_size`. Received: vocabulary_size={vocabulary_size}, "
            f"largest_size={largest_size}. Use more ids."
        )
    if not -1 <= correlation <= 1:
        raise ValueError(
            "`correlation` must be from -1 to 1. "
            f"Received: correlation={correlation}. Use 1 for sizes by frequency."
        )
