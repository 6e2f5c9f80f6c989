"""FNN: a perceptron on the weights and factors of a factorisation machine."""

from __future__ import annotations

import doctest

import keras
import numpy as np
import pytest

import keras_eds
from keras_eds.datasets import make_planted
from keras_eds.errors import FieldError
from keras_eds.models import FM, FNN, FieldSpec, fnn

# So few steps are not worth compiling.
JIT = keras.backend.backend() == "jax"

FIELDS = (
    FieldSpec("user", 7),
    FieldSpec("item", 11),
    FieldSpec("genres", 5, multi_hot=True),
)


def make_inputs(batch=6):
    random = np.random.default_rng(0)
    genres = random.integers(1, 5, (batch, 3))
    genres[0] = 0
    genres[1, 1:] = 0
    return {
        "user": random.integers(0, 7, batch).astype("int32"),
        "item": random.integers(0, 11, batch).astype("int32"),
        "genres": genres.astype("int32"),
    }


def randomize(model):
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])


def weights(model, layer):
    return [w.astype("float64") for w in model.get_layer(layer).get_weights()]


def table(model, field):
    return weights(model, f"{field.name}_embedding")[0]


def numpy_logit(model, x, example):
    rows = []
    for field in FIELDS:
        ids = np.atleast_1d(x[field.name][example])
        ids = ids[ids > 0] if field.multi_hot else ids
        vectors = table(model, field)
        rows.append(vectors[ids].mean(axis=0) if len(ids) else 0 * vectors[0])
    h = np.concatenate(rows)
    for name in ("hidden_0", "hidden_1"):
        kernel, bias = weights(model, name)
        h = np.maximum(h @ kernel + bias, 0)
    kernel, bias = weights(model, "logit")
    return (h @ kernel + bias)[0]


def test_logits_match_plain_numpy():
    model = FNN(FIELDS, 3, output_activation=None)
    randomize(model)
    x = make_inputs()
    logits = keras.ops.convert_to_numpy(model(x))
    expected = [[numpy_logit(model, x, example)] for example in range(6)]
    np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=1e-3)


def test_starts_from_the_weights_and_factors_of_an_fm():
    fm, model = FM(FIELDS, 3), FNN(FIELDS, 3)
    randomize(fm)
    hidden = weights(model, "hidden_0")[0]
    assert keras_eds.load_tables(model, fm) is model
    for field in FIELDS:
        np.testing.assert_array_equal(table(model, field), table(fm, field))
    np.testing.assert_array_equal(weights(model, "hidden_0")[0], hidden)


def test_an_fm_of_another_width_is_refused():
    fm, model = FM(FIELDS, 4), FNN(FIELDS, 3)
    before = [table(model, field) for field in FIELDS]
    with pytest.raises(FieldError, match=r"Received: shape \(\d+, 5\)"):
        keras_eds.load_tables(model, fm)
    for field, values in zip(FIELDS, before, strict=True):
        np.testing.assert_array_equal(table(model, field), values)


def test_one_field_trains_saves_and_reloads(tmp_path):
    model = FNN([FieldSpec("user", 7)], 3, (4,), dropout=0.1, embeddings_l2=1e-3)
    optimizer = keras.optimizers.Adam(0.05)
    model.compile(optimizer, "binary_crossentropy", jit_compile=JIT)
    x = {"user": np.arange(64, dtype="int32") % 7}
    y = x["user"] % 2
    history = model.fit(x, y, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "fnn.keras")
    again = keras.models.load_model(tmp_path / "fnn.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6
    )


def test_seed_fixes_all_weights():
    first, same, other = (FNN(FIELDS, 3, seed=s).get_weights() for s in (0, 0, 1))
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_an_fm_start_is_ahead_of_a_random_one():
    data = make_planted(8000, {"a": 3, "b": 3, "c": 0}, vocabulary_size=30)

    def loss_after(build, epochs, **start):
        model = build(data.fields, 4, seed=0)
        optimizer = keras.optimizers.Adam(0.03)
        model.compile(optimizer, "binary_crossentropy", jit_compile=JIT)
        if start:
            keras_eds.load_tables(model, start["fm"])
        model.fit(*data.train, batch_size=640, epochs=epochs, verbose=0)
        return model, model.evaluate(*data.test, batch_size=800, verbose=0)

    fm, _ = loss_after(FM, 12)
    _, random = loss_after(FNN, 2)
    _, warm = loss_after(FNN, 2, fm=fm)
    assert warm < random - 0.05


def test_bad_arguments_are_named():
    for arguments, message in (
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"hidden_units": (8, 0)}, "hidden_units=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            FNN(FIELDS, **arguments)


def test_docstring_example_runs():
    results = doctest.testmod(fnn, extraglobs={"keras_eds": keras_eds})
    assert results.attempted and not results.failed
