from __future__ import annotations

import doctest
import importlib

import keras
import numpy as np
import pytest

import keras_eds
from keras_eds.models import FieldSpec, ScaledDot, TwoTower

QUERY = (FieldSpec("user", 7), FieldSpec("history", 11, multi_hot=True))
CANDIDATE = (FieldSpec("item", 11),)


def make_inputs(batch: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    history = rng.integers(0, 11, (batch, 3))
    history[0] = 0
    return {
        "user": rng.integers(0, 7, batch).astype("int32"),
        "history": history.astype("int32"),
        "item": rng.integers(0, 11, batch).astype("int32"),
    }


def randomize(model: keras.Model) -> None:
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])


def values(layer) -> list[np.ndarray]:
    return [w.astype("float64") for w in layer.get_weights()]


def numpy_vector(tower, fields, x, example):
    rows = []
    for field in fields:
        table = values(tower.get_layer(field.embedding_name))[0]
        ids = np.atleast_1d(x[field.name][example])
        ids = ids[ids > 0] if field.multi_hot else ids
        rows.append(table[ids].mean(axis=0) if len(ids) else 0 * table[0])
    h = np.concatenate(rows)
    kernel, bias = values(tower.get_layer("hidden_0"))
    h = np.maximum(h @ kernel + bias, 0)
    kernel, bias = values(tower.get_layer("vector"))
    return h @ kernel + bias


@pytest.mark.parametrize("normalize", [False, True])
def test_logits_match_plain_numpy(normalize):
    model = TwoTower(
        QUERY, CANDIDATE, 3, (5,), 4, temperature=0.5, normalize=normalize,
        output_activation=None,
    )  # fmt: skip
    randomize(model)
    x = make_inputs()
    logits = keras.ops.convert_to_numpy(model(x))
    assert logits.shape == (6, 1)
    bias = values(model.get_layer("logit"))[0][0]
    for example in range(6):
        q = numpy_vector(model.get_layer("query_tower"), QUERY, x, example)
        c = numpy_vector(model.get_layer("candidate_tower"), CANDIDATE, x, example)
        if normalize:
            q, c = q / np.linalg.norm(q), c / np.linalg.norm(c)
        np.testing.assert_allclose(
            logits[example, 0], q @ c / 0.5 + bias, rtol=2e-4, atol=1e-3
        )


def test_default_output_is_sigmoid_of_logits():
    logits = TwoTower(QUERY, CANDIDATE, output_activation=None, seed=3)
    probabilities = TwoTower(QUERY, CANDIDATE, seed=3)
    for model in (logits, probabilities):
        randomize(model)
    x = make_inputs()
    z = keras.ops.convert_to_numpy(logits(x)).astype("float64")
    y = keras.ops.convert_to_numpy(probabilities(x))
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-z)), rtol=1e-4, atol=1e-6)


def test_towers_alone_give_the_score():
    model = TwoTower(QUERY, CANDIDATE, seed=0, output_activation=None)
    randomize(model)
    x = make_inputs()
    queries = model.get_layer("query_tower")(
        {name: x[name] for name in ("user", "history")}
    )
    candidates = model.get_layer("candidate_tower")({"item": x["item"]})
    q, c = map(keras.ops.convert_to_numpy, (queries, candidates))
    scores = (q * c).sum(axis=1) + values(model.get_layer("logit"))[0][0]
    expected = keras.ops.convert_to_numpy(model(x))[:, 0]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)


def test_tables_are_found_and_cut():
    model = TwoTower(QUERY, CANDIDATE, 4, seed=0)
    fields = keras_eds.find_fields(model)
    assert {f.name: (f.input_dim, f.output_dim) for f in fields} == {
        "query_tower/user_embedding": (7, 4),
        "query_tower/history_embedding": (11, 4),
        "candidate_tower/item_embedding": (11, 4),
    }
    plan = keras_eds.DimensionPlan.of_sizes(fields, {f.name: 2 for f in fields})
    small = keras_eds.apply_plan(model, plan)
    assert small.count_params() < model.count_params()
    assert small(make_inputs()).shape == (6, 1)


def test_learns_which_pairs_match_then_saves_and_reloads(tmp_path):
    model = TwoTower(
        [FieldSpec("user", 8)], [FieldSpec("item", 8)], 8, (), 8,
        embeddings_l2=1e-4, dropout=0.1, seed=0,
    )  # fmt: skip
    user, item = np.divmod(np.arange(64, dtype="int32"), 8)
    x, y = {"user": user, "item": item}, (user % 2 == item % 2).astype("float32")
    model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy")
    model.fit(x, y, epochs=60, batch_size=64, verbose=0)
    predicted = model.predict(x, verbose=0)
    assert ((predicted[:, 0] > 0.5) == y).mean() > 0.95
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), predicted, rtol=1e-6)
    assert again.get_layer("query_tower").name == "query_tower"


def test_seed_fixes_all_weights():
    first, same, other = (
        TwoTower(QUERY, CANDIDATE, seed=s).get_weights() for s in (0, 0, 1)
    )
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query_fields": []}, "at least one field"),
        ({"candidate_fields": [FieldSpec("user", 3)]}, "`candidate_fields`.*'user'"),
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"hidden_units": (8, 0)}, "hidden_units=0"),
        ({"output_dim": 0}, "output_dim=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"embeddings_l2": -1.0}, "embeddings_l2=-1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    given = {"query_fields": QUERY, "candidate_fields": CANDIDATE, **arguments}
    with pytest.raises(ValueError, match=message):
        TwoTower(**given)


def test_dot_keeps_its_temperature_and_declares_its_shape():
    layer = ScaledDot.from_config(ScaledDot(0.25, name="x").get_config())
    assert (layer.temperature, layer.name) == (0.25, "x")
    assert layer.compute_output_shape([(3, 4), (3, 4)]) == (3, 1)


@pytest.mark.parametrize("name", ["scaled_dot", "two_tower"])
def test_docstring_examples_run(name):
    module = importlib.import_module(f"keras_eds.models.{name}")
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
