"""Synthetic clicks whose fields have known useful widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_eds.datasets.dataset import Dataset, deal_out, split_rows
from keras_eds.models.field_spec import FieldSpec

_DEFAULT_WIDTHS = (0, 0, 1, 2, 3, 6, 8, 10)


def make_planted(
    num_examples: int = 100_000,
    widths: Mapping[str, int] | None = None,
    vocabulary_size: int | Mapping[str, int] = 100,
    strength: float = 1.3,
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
) -> Dataset:
    """Make click-through data in which each field's useful width is known.

    `P(y = 1) = sigmoid(strength * sum_k u_{f_k}[i, k] u_{g_k}[j, k])`, with
    `i` and `j` the example's ids of the fields `f_k` and `g_k`. Coordinate
    `k` joins one pair of fields; a field of width `r` takes part in `r` of
    them. Its latent vectors `u_f` are centred and white over its ids, so

    - what the label needs of the field has rank exactly `r`: no table with
      fewer than `r` columns does, in any model that is linear in the table;
    - every coordinate carries the same energy, whatever the field;
    - no field has a main effect on the logit, and a field of width 0 is pure noise;
    - a factorisation machine as wide as half the sum of the widths is exact.

    Ids are uniform and the fields equally large by default: neither sizes
    nor frequencies tell the widths. A model needs some 10 examples for each
    number in the latent vectors, or it learns nothing: more ids or more
    width want more examples. A good start at the defaults is a `DeepFM` of
    width 16, Adam at 0.003, batches of 512, 10 epochs.

    Args:
        num_examples: Rows of the three parts together.
        widths: Useful width by field name. Their sum must be even, and none
            more than all others together, or the coordinates find no
            partners. `None` deals 0, 0, 1, 2, 3, 6, 8 and 10 out to eight
            fields in an order that depends on `seed`.
        vocabulary_size: Rows of each field's table, one number or one a
            field. Id 0 stands for unknown, as everywhere, and never occurs.
        strength: Standard deviation that a coordinate gives to the logit.
        seed: Seed of everything random.
        fractions: Shares of training, validation and test part.

    Returns:
        A `Dataset` whose `widths` are the truth.

    Raises:
        ValueError: If an argument breaks the rules above.

    Example:

    >>> dataset = make_planted(100, widths={"a": 2, "b": 2, "c": 0})
    >>> dataset.widths["c"], dataset.train[0]["a"].shape
    (0, (80,))
    """
    rng = np.random.default_rng(seed)
    if widths is None:
        shuffled = rng.permutation(_DEFAULT_WIDTHS).tolist()
        widths = {f"field_{i}": width for i, width in enumerate(shuffled)}
    sizes = _vocabulary_sizes(widths, vocabulary_size)
    pairs = _pair_coordinates(widths)
    ids = {name: rng.integers(1, size, num_examples) for name, size in sizes.items()}
    latents = {name: _latents(rng, sizes[name], widths[name]) for name in widths}
    logit = np.zeros(num_examples)
    for (left, i), (right, j) in pairs:
        logit += latents[left][ids[left], i] * latents[right][ids[right], j]
    labels = rng.random(num_examples) < 1 / (1 + np.exp(-strength * logit))
    fields = [FieldSpec(name, size) for name, size in sizes.items()]
    parts = split_rows(num_examples, "time", fractions, seed)
    source = f"planted, seed {seed}"
    return deal_out(fields, ids, labels, parts, source, dict(widths))


def _vocabulary_sizes(
    widths: Mapping[str, int], vocabulary_size: int | Mapping[str, int]
) -> dict[str, int]:
    if isinstance(vocabulary_size, Mapping):
        sizes = dict(vocabulary_size)
    else:
        sizes = dict.fromkeys(widths, vocabulary_size)
    if set(sizes) != set(widths):
        raise ValueError(
            "`vocabulary_size` must name the same fields as `widths`. Received: "
            f"{sorted(sizes)} and {sorted(widths)}. Give one number for all."
        )
    for name, width in widths.items():
        # Centring takes one of the `size - 1` degrees of freedom.
        if sizes[name] < width + 2:
            raise ValueError(
                "`vocabulary_size` must be at least the width plus 2. Received: "
                f"vocabulary_size={sizes[name]} for the width {width} of "
                f"{name!r}. Use more ids."
            )
    return {name: sizes[name] for name in widths}


def _latents(rng: np.random.Generator, size: int, width: int) -> np.ndarray:
    """Return vectors `(size, width)`: over ids 1.., mean 0 and covariance I."""
    raw = rng.normal(size=(size - 1, width))
    table = np.zeros((size, width))
    if width:
        orthonormal = np.linalg.qr(raw - raw.mean(axis=0))[0]
        table[1:] = orthonormal * np.sqrt(size - 1)
    return table


def _pair_coordinates(
    widths: Mapping[str, int],
) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Give each coordinate of a field a partner in another field.

    The two fields with most coordinates left are paired each time, which
    comes out even whenever that is possible, and mixes the partners.
    """
    total = sum(widths.values())
    largest = max(widths.values(), default=0)
    is_bad = min(widths.values(), default=-1) < 0
    if is_bad or total % 2 or largest > total - largest:
        raise ValueError(
            "`widths` must be at least 0, with an even sum and none above the "
            f"sum of the others. Received: widths={dict(widths)}. "
            "Give the widest field partners as wide as itself in all."
        )
    left = dict(widths)
    pairs = []
    for _ in range(total // 2):
        first, second = sorted(left, key=lambda name: -left[name])[:2]
        left[first] -= 1
        left[second] -= 1
        pairs.append(((first, left[first]), (second, left[second])))
    return pairs
