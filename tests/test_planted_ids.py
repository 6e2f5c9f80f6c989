"""Planted ids: the sizes are the truth, and a model can find what they carry."""

from __future__ import annotations

import doctest

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from keras_eds.datasets import make_planted_ids, planted_ids
from keras_eds.datasets.planted_ids import planted_logit
from keras_eds.models import FM


def drawn(monkeypatch, **arguments):
    """A data set, and the latent vectors that its labels were drawn from."""
    seen = {}

    def spy(latents, ids, strength):
        seen.update(latents=latents, ids=ids)
        seen["logit"] = planted_logit(latents, ids, strength)
        return seen["logit"]

    monkeypatch.setattr(planted_ids, "planted_logit", spy)
    return make_planted_ids(**arguments), seen


def test_the_example_runs():
    result = doctest.testmod(planted_ids)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("shuffled", [False, True])
def test_vectors_end_where_the_sizes_say(shuffled, monkeypatch):
    data, seen = drawn(monkeypatch, num_examples=50_000, shuffled=shuffled, seed=3)
    labels = np.concatenate([data.train[1], data.validation[1], data.test[1]])
    for field in data.fields:
        vectors, sizes = seen["latents"][field.name], data.sizes[field.name]
        assert sizes.shape == (field.vocabulary_size,) and sizes[0] == 0
        for vector, size in zip(vectors, sizes[1:], strict=True):
            assert (vector[:size] != 0).all() and not vector[size:].any()
        ids = seen["ids"][field.name]
        np.testing.assert_array_equal(ids[:40_000] + 1, data.train[0][field.name])
        # Centred and white over the examples where a coordinate is used.
        used = vectors[ids]
        for k in range(used.shape[1]):
            own = used[sizes[ids + 1] > k, k]
            assert abs(own.mean()) < 0.08 and own.var() == pytest.approx(1, abs=0.15)
        counts = np.bincount(ids, minlength=len(vectors))
        if field.name == "context":
            assert set(sizes[1:]) == {6}
            continue
        correlation = spearmanr(counts, sizes[1:]).statistic
        assert (abs(correlation) < 0.25) if shuffled else (correlation > 0.95)
        assert set(np.bincount(sizes[1:])) <= {28, 29}
        assert counts.max() > 15 * counts.min() > 0
    assert roc_auc_score(labels, seen["logit"]) > 0.8


def test_the_logit_is_the_sum_over_pairs():
    random = np.random.default_rng(0)
    latents = {name: random.normal(size=(5, 3)) for name in "abc"}
    ids = {name: random.integers(0, 5, 20) for name in "abc"}
    rows = {name: latents[name][ids[name]] for name in "abc"}
    pairs = sum((rows[f] * rows[g]).sum(axis=1) for f, g in ("ab", "ac", "bc"))
    np.testing.assert_allclose(planted_logit(latents, ids, 0.5), 0.5 * pairs)


@pytest.mark.parametrize("correlation", [-1.0, 0.5])
def test_correlation_orders_sizes(correlation):
    data = make_planted_ids(60_000, correlation=correlation, seed=1)
    counts = np.bincount(data.train[0]["user"], minlength=200)
    found = spearmanr(counts[1:], data.sizes["user"][1:]).statistic
    assert found == pytest.approx(correlation, abs=0.2)


def test_a_factorisation_machine_learns_it(monkeypatch):
    data, seen = drawn(monkeypatch, num_examples=60_000, vocabulary_size=60)
    model = FM(data.fields, 8, seed=0)
    auc = keras.metrics.AUC(name="auc")
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=[auc])
    model.fit(*data.train, batch_size=1024, epochs=6, verbose=0)
    best = roc_auc_score(data.test[1], seen["logit"][-6000:])
    assert model.evaluate(*data.test, 6000, verbose=0)[1] > best - 0.03


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"vocabulary_size": 14}, "vocabulary_size"),
        ({"largest_size": 0}, "vocabulary_size"),
        ({"correlation": 1.5}, "correlation"),
    ],
)
def test_impossible_plantings_are_refused(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received: "):
        make_planted_ids(100, **arguments)
