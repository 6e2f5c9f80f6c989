"""The closed-form subspace, against the loss that it is to minimise."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_eds
from keras_eds import Field
from keras_eds.measurements import FieldMeasurement
from keras_eds.methods import SSEDS, principal
from keras_eds.methods.principal import SHRINKAGE, PrincipalBasis

WIDTH = 6
FIELD = Field("word", 100, WIDTH)


def measured(vectors, slopes):
    gates = np.ones(vectors.shape[1])
    moments = vectors.T @ vectors / len(vectors), slopes.T @ slopes
    return FieldMeasurement(gates, gates, vectors.mean(axis=0), *moments, 1.0)


def sample(seed=0, rank=WIDTH, slope_rank=WIDTH):
    random = np.random.default_rng(seed)
    mix, tilt = random.normal(size=(2, WIDTH, WIDTH))
    vectors = random.normal(size=(400, rank)) @ mix[:rank] + random.normal(size=WIDTH)
    slopes = random.normal(size=(50, slope_rank)) @ tilt[:slope_rank]
    return vectors, slopes


def curvature_of(slopes):
    h = slopes.T @ slopes
    return h + SHRINKAGE * np.trace(h) / WIDTH * np.eye(WIDTH)


def loss(vectors, replaced, h):
    """E[(e - e')^T H (e - e')] / 2."""
    off = vectors - replaced
    return np.einsum("ni,ij,nj->", off, h, off) / (2 * len(vectors))


@pytest.mark.parametrize("fill", ["mean", "zero"])
@pytest.mark.parametrize("kept", range(WIDTH))
def test_costs_half_of_what_is_dropped_and_no_subspace_costs_less(fill, kept):
    vectors, slopes = sample()
    h = curvature_of(slopes)
    basis = PrincipalBasis.of(measured(vectors, slopes), fill)
    assert np.all(np.diff(basis.gains) <= 0)
    plan = basis.plan(FIELD, kept, constant=fill == "mean")
    cost = loss(vectors, plan.masked(vectors), h)
    assert cost == pytest.approx(basis.gains[kept:].sum() / 2, rel=1e-3)

    centre = vectors.mean(axis=0) if fill == "mean" else np.zeros(WIDTH)
    random = np.random.default_rng(kept)
    roots = np.linalg.cholesky(h)
    for _ in range(200):
        # Any subspace, with the best encoder that it can have under H.
        frame = np.linalg.qr(roots.T @ random.normal(size=(WIDTH, kept)))[0]
        projector = roots @ frame @ frame.T @ np.linalg.inv(roots)
        assert loss(vectors, centre + (vectors - centre) @ projector, h) >= cost * 0.999


def test_the_decoder_is_orthonormal_and_nothing_is_lost_at_full_rank():
    vectors, slopes = sample()
    basis = PrincipalBasis.of(measured(vectors, slopes), "mean")
    for kept in range(1, WIDTH):
        plan = basis.plan(FIELD, kept, constant=True)
        np.testing.assert_allclose(
            plan.decoder @ plan.decoder.T, np.eye(kept), atol=1e-5
        )
        # A projection: what it keeps stays as it is.
        once = plan.masked(vectors)
        np.testing.assert_allclose(plan.masked(once), once, atol=1e-3)
    assert basis.plan(FIELD, WIDTH, constant=True).is_full


def test_a_dropped_field_has_its_mean_or_zero():
    vectors, slopes = sample()
    values = measured(vectors, slopes)
    mean = PrincipalBasis.of(values, "mean").plan(FIELD, 0, constant=True)
    np.testing.assert_allclose(mean.constant, vectors.mean(axis=0), rtol=1e-5)
    zero = PrincipalBasis.of(values, "zero").plan(FIELD, 0, constant=False)
    np.testing.assert_array_equal(zero.masked(vectors), np.zeros_like(vectors))
    # Where something is kept, the mean vector still stays itself.
    plan = PrincipalBasis.of(values, "mean").plan(FIELD, 2, constant=True)
    np.testing.assert_allclose(plan.masked(values.mean), values.mean, atol=1e-4)


@pytest.mark.parametrize(
    ("rank", "slope_rank"), [(0, 6), (6, 0), (0, 0), (2, 1), (3, 6)]
)
@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_low_ranks_are_safe(rank, slope_rank, fill):
    vectors, slopes = sample(1, rank, slope_rank)
    basis = PrincipalBasis.of(measured(vectors, slopes), fill)
    assert np.all(np.isfinite(basis.gains)) and np.all(basis.gains >= 0)
    for kept in range(WIDTH):
        plan = basis.plan(FIELD, kept, constant=fill == "mean")
        assert np.all(np.isfinite(plan.masked(vectors)))
        if slope_rank and kept >= rank + (fill == "zero"):
            np.testing.assert_allclose(plan.masked(vectors), vectors, atol=1e-2)


@pytest.mark.parametrize(("shrinkage", "share"), [(1e-7, 1e-5), (SHRINKAGE, 2e-2)])
def test_finds_the_subspace_that_a_linear_model_reads(monkeypatch, shrinkage, share):
    """Of 6 directions the model reads 2: keeping 2 loses (next to) nothing."""
    monkeypatch.setattr(principal, "SHRINKAGE", shrinkage)
    random = np.random.default_rng(2)
    inputs = keras.Input((), dtype="int32")
    read = layers.Dense(2, use_bias=False, trainable=False)
    outputs = layers.Dense(2, use_bias=False)(
        read(layers.Embedding(100, WIDTH, name="word")(inputs))
    )
    model = keras.Model(inputs, outputs)
    for variable in model.weights:
        variable.assign(random.normal(size=variable.shape))
    model.compile("sgd", "mse", run_eagerly=True)
    x, y = random.integers(0, 100, 512), random.normal(size=(512, 2))
    data = {"x": x, "y": y, "batch_size": 128, "shuffle": False}
    values = keras_eds.measure(model, data, batches=4)
    basis = PrincipalBasis.of(values["word"], "mean")
    plan = keras_eds.DimensionPlan((basis.plan(FIELD, 2, constant=True),))
    small = keras_eds.apply_plan(model, plan)
    full, ours = model.predict(x, verbose=0), small.predict(x, verbose=0)
    variance = np.var(full, axis=0).sum()
    assert np.mean((ours - full) ** 2) * 2 < share * variance
    by_columns = keras_eds.DimensionPlan.of_sizes([FIELD], {"word": 2})
    lossy = keras_eds.apply_plan(model, by_columns).predict(x, verbose=0)
    assert np.mean((lossy - full) ** 2) * 2 > 0.2 * variance


def test_is_the_default_basis():
    assert SSEDS().basis == "principal" and SSEDS().score_per_byte is True
    assert SSEDS(basis="columns").score_per_byte is False
