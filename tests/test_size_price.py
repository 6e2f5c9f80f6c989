"""The price of every further value of an id, against the equations in plain NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_eds.surgery.masking import masks_on
from keras_eds.surgery.sites import find_sites
from keras_eds.tuners.size_price import SizePrice

COUNTS = {
    "small": np.array([900.0, 600.0, 300.0, 0.0]),
    "large": np.repeat([400.0, 20.0, 3.0, 0.0], 10),
}
WIDTH = 6


def model():
    inputs = {name: keras.Input((), dtype="int32", name=name) for name in COUNTS}
    tables = [
        keras.layers.Embedding(len(counts), WIDTH, name=f"{name}_table")(inputs[name])
        for name, counts in COUNTS.items()
    ]
    return keras.Model(inputs, keras.layers.Concatenate()(tables))


def masked(**options):
    counts = {f"{name}_table": counts for name, counts in COUNTS.items()}
    return masks_on(find_sites(model()), counts, seed=0, min_size=0, **options)


def softmax(logits):
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)


def test_all_ids_pay_by_how_rare_they_are():
    places = np.arange(WIDTH + 1)
    with masked() as maskings:
        free = [m.masks.group_logits()[m.masks.group_of_id] for m in maskings]
        price = SizePrice(maskings)
        first = price.read()
        assert price.meet(0.5 * first) == pytest.approx(0.5 * first, rel=2e-3)
        paid = []
        for masking, before, counts in zip(
            maskings, free, COUNTS.values(), strict=True
        ):
            now = masking.masks.group_logits()[masking.masks.group_of_id]
            seen = np.flatnonzero(counts)
            slope = (before - now)[seen, 1:] / places[1:]
            np.testing.assert_allclose(slope, slope[:, :1] * np.ones(WIDTH), rtol=1e-4)
            paid.append(slope[:, 0] * np.sqrt(counts[seen] / 900))
        # The same price for all, times the square root of how much rarer the id is.
        np.testing.assert_allclose(np.concatenate(paid), paid[0][0], rtol=1e-4)


def test_what_is_met_is_what_expected_sizes_cost():
    with masked() as maskings:
        price = SizePrice(maskings)
        target = 0.6 * price.read()
        price.meet(target)
        values = 0.0
        for masking in maskings:
            logits = masking.masks.group_logits()[masking.masks.group_of_id]
            values += float((softmax(logits) @ np.arange(WIDTH + 1)).sum())
        # Packed rows of up to 2**8 ids: the bytes left are those of the index.
        index = (target - 4 * values) / sum(len(c) for c in COUNTS.values())
        assert 0 <= index <= 12
        assert price.read() == pytest.approx(target, rel=2e-3)


def test_ids_of_small_tables_that_come_often_pay_least():
    with masked() as maskings:
        price = SizePrice(maskings)
        price.meet(0.4 * price.read())
        small, large = (masking.masks.sizes() for masking in maskings)
    assert small[0] >= small[2] and small[2] >= large[0] > large[10] >= large[20]
    assert small[3] == large[30] == 0


def test_sizes_are_learned_below_what_indexes_take():
    with masked() as maskings:
        price = SizePrice(maskings)
        price.read()
        target = 4.0 * 8  # for 44 ids, whose indexes take 44 bytes and more
        assert price.meet(target) == pytest.approx(target, rel=2e-3)
        chances = [
            softmax(m.masks.group_logits()[m.masks.group_of_id]) for m in maskings
        ]
    small, large = (chance @ np.arange(WIDTH + 1) for chance in chances)
    # Half of it is for values, and common ids still have most of them.
    assert small.sum() + large.sum() == pytest.approx(target / 4 / 2, rel=2e-3)
    assert small[0] > small[1] > large[0] > small[2] > large[10] > large[20]
