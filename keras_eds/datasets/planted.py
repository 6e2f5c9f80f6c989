"""Synthetic clicks whose fields have known useful widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_eds.datasets.dataset import Dataset, deal_out, split_rows
from keras_eds.models.field_spec import FieldSpec

DEFAULT_WIDTHS = (0, 0, 1, 2, 3, 6, 8, 12)


def make_planted(
    num_examples: int = 40_000,
    widths: Mapping[str, int] | None = None,
    vocabulary_size: int | Mapping[str, int] = 200,
    strength: float = 1.0,
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
) -> Dataset:
    rng = np.random.default_rng(seed)
    if widths is None:
        names = [f"field_{i}" for i in range(len(DEFAULT_WIDTHS))]
        shuffled = rng.permutation(DEFAULT_WIDTHS).tolist()
        widths = dict(zip(names, shuffled, strict=True))
    sizes = {
        name: vocabulary_size[name] if isinstance(vocabulary_size, Mapping) else vocabulary_size
        for name in widths
    }
    ids = {name: rng.integers(1, size, num_examples) for name, size in sizes.items()}
    latents = {
        name: _latents(rng, sizes[name], width) for name, width in widths.items()
    }
    logit = np.zeros(num_examples)
    used = dict.fromkeys(widths, 0)
    for left, right in _pair_coordinates(widths):
        a = latents[left][ids[left], used[left]]
        b = latents[right][ids[right], used[right]]
        logit += strength * a * b
        used[left] += 1
        used[right] += 1
    labels = rng.random(num_examples) < 1 / (1 + np.exp(-logit))
    fields = [FieldSpec(name, size) for name, size in sizes.items()]
    parts = split_rows(num_examples, "time", fractions, seed)
    return deal_out(fields, ids, labels, parts, "planted", dict(widths)), logit


def _latents(rng, size, width):
    raw = rng.normal(size=(size - 1, width))
    raw -= raw.mean(0)
    q = np.linalg.qr(raw)[0] if width else raw
    table = np.zeros((size, width))
    table[1:] = q * np.sqrt(size - 1)
    return table


def _pair_coordinates(widths):
    left = dict(widths)
    pairs = []
    while any(left.values()):
        a, b = sorted(left, key=lambda n: -left[n])[:2]
        if not left[b]:
            raise ValueError
        pairs.append((a, b))
        left[a] -= 1
        left[b] -= 1
    return pairs
