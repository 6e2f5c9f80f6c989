from __future__ import annotations

import doctest
import importlib

import keras
import numpy as np
import pytest

from keras_eds.models import (
    FM,
    DeepCrossing,
    DeepFM,
    FactorizationInteraction,
    FieldSpec,
    FirstOrder,
    LookedUpL2,
    MaskedMean,
    SplitFirstOrder,
    WideDeep,
)

FIELDS = (
    FieldSpec("user", 7),
    FieldSpec("item", 11),
    FieldSpec("genres", 5, multi_hot=True),
)
MODELS = [FM, DeepFM, WideDeep, DeepCrossing]
MODULES = [
    "deep_crossing",
    "deep_fm",
    "factorization_interaction",
    "field_spec",
    "first_order",
    "fm",
    "looked_up_l2",
    "masked_mean",
    "split_first_order",
    "unit_vector",
    "wide_deep",
]


def make_inputs(batch: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    genres = rng.integers(1, 5, (batch, 3))
    genres[0] = 0
    genres[1, 1:] = 0
    return {
        "user": rng.integers(0, 7, batch).astype("int32"),
        "item": rng.integers(0, 11, batch).astype("int32"),
        "genres": genres.astype("int32"),
    }


def randomize(model: keras.Model) -> None:
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])


def weight(model: keras.Model, layer: str, index: int = 0) -> np.ndarray:
    return model.get_layer(layer).get_weights()[index].astype("float64")


def numpy_rows(model: keras.Model, x: dict[str, np.ndarray], example: int):
    """One looked-up row a field, padding left out of the mean."""
    rows = []
    for field in FIELDS:
        table = weight(model, field.embedding_name)
        ids = np.atleast_1d(x[field.name][example])
        if field.multi_hot:
            ids = ids[ids > 0]
        rows.append(table[ids].mean(axis=0) if len(ids) else 0 * table[0])
    return rows


def numpy_fm(model: keras.Model, rows: list[np.ndarray]) -> float:
    logit = weight(model, "first_order")[0] + sum(row[0] for row in rows)
    for f in range(len(rows)):
        for g in range(f + 1, len(rows)):
            logit += rows[f][1:] @ rows[g][1:]
    return logit


def numpy_mlp(model: keras.Model, h: np.ndarray) -> float:
    for name in ("hidden_0", "hidden_1"):
        h = np.maximum(h @ weight(model, name) + weight(model, name, 1), 0)
    return (h @ weight(model, "deep"))[0]


def numpy_logit(model: keras.Model, rows: list[np.ndarray]) -> float:
    factors = np.concatenate([row[1:] for row in rows])
    if model.name == "fm":
        return numpy_fm(model, rows)
    if model.name == "deep_fm":
        return numpy_fm(model, rows) + numpy_mlp(model, factors)
    if model.name == "wide_deep":
        wide = weight(model, "wide")[0] + sum(row[0] for row in rows)
        return wide + numpy_mlp(model, factors)
    h = np.concatenate(rows)
    for i in (0, 1):
        inner = h @ weight(model, f"inner_{i}") + weight(model, f"inner_{i}", 1)
        inner = np.maximum(inner, 0)
        outer = inner @ weight(model, f"outer_{i}") + weight(model, f"outer_{i}", 1)
        h = np.maximum(h + outer, 0)
    return (h @ weight(model, "logit"))[0] + weight(model, "logit", 1)[0]


@pytest.mark.parametrize("make_model", MODELS)
def test_logits_match_plain_numpy(make_model):
    model = make_model(FIELDS, embedding_dim=3, output_activation=None)
    randomize(model)
    x = make_inputs()
    logits = keras.ops.convert_to_numpy(model(x))
    assert logits.shape == (6, 1)
    for example in range(6):
        expected = numpy_logit(model, numpy_rows(model, x, example))
        np.testing.assert_allclose(logits[example, 0], expected, rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("make_model", MODELS)
def test_default_output_is_sigmoid_of_logits(make_model):
    logits = make_model(FIELDS, 4, output_activation=None, seed=3)
    probabilities = make_model(FIELDS, 4, seed=3)
    x = make_inputs()
    z = keras.ops.convert_to_numpy(logits(x))
    y = keras.ops.convert_to_numpy(probabilities(x))
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-z)), rtol=1e-5)


@pytest.mark.parametrize("make_model", MODELS)
def test_one_table_a_field(make_model):
    model = make_model(FIELDS, embedding_dim=4)
    width = 4 if make_model is DeepCrossing else 5
    found = {
        layer.name: (layer.input_dim, layer.output_dim)
        for layer in model.layers
        if isinstance(layer, keras.layers.Embedding)
    }
    assert found == {f.embedding_name: (f.vocabulary_size, width) for f in FIELDS}


@pytest.mark.parametrize("make_model", MODELS)
def test_trains_saves_and_reloads(make_model, tmp_path):
    extra = {} if make_model is FM else {"dropout": 0.1}
    model = make_model(FIELDS, 4, embeddings_l2=1e-3, seed=0, **extra)
    model.compile("adam", "binary_crossentropy")
    x, y = make_inputs(64), np.arange(64) % 2
    history = model.fit(x, y, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize("make_model", MODELS)
def test_seed_fixes_all_weights(make_model):
    first, same, other = (
        make_model(FIELDS, 4, seed=s).get_weights() for s in (0, 0, 1)
    )
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_fields_of_one_size_start_differently():
    model = FM([FieldSpec("a", 5), FieldSpec("b", 5)], seed=0)
    assert (weight(model, "a_embedding") != weight(model, "b_embedding")).all()


def test_penalty_is_mean_square_of_looked_up_rows():
    model = FM(FIELDS, 3, embeddings_l2=0.5)
    randomize(model)
    x = make_inputs()
    expected = 0.0
    for field in FIELDS:
        rows = weight(model, field.embedding_name)[x[field.name]]
        if field.multi_hot:
            rows = rows * (x[field.name] > 0)[..., None]
        expected += 0.5 * np.square(rows).sum() / 6
    model(x, training=True)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(sum(model.losses)), expected, rtol=1e-5
    )


def test_penalty_is_not_part_of_validation_loss():
    model = FM(FIELDS, 3, embeddings_l2=100.0, seed=0)
    plain = FM(FIELDS, 3, seed=0)
    for each in (model, plain):
        randomize(each)
        each.compile("sgd", "binary_crossentropy")
    x, y = make_inputs(), np.zeros(6)
    score = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(score, plain.evaluate(x, y, verbose=0), rtol=1e-6)


def test_penalty_leaves_unused_rows_alone():
    model = FM([FieldSpec("user", 4)], 2, embeddings_l2=0.1)
    randomize(model)
    before = weight(model, "user_embedding")
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    model.fit({"user": np.array([1, 1])}, np.array([0.0, 1.0]), verbose=0)
    changed = (weight(model, "user_embedding") != before).any(axis=1)
    assert changed.tolist() == [False, True, False, False]


def test_penalty_survives_its_config():
    layer = LookedUpL2.from_config(LookedUpL2(0.25, name="x").get_config())
    assert (layer.l2, layer.name) == (0.25, "x")


def test_mean_without_mask_counts_everything():
    x = np.arange(12, dtype="float32").reshape(2, 3, 2)
    y = keras.ops.convert_to_numpy(MaskedMean()(x))
    np.testing.assert_allclose(y, x.mean(axis=1))


def test_mean_of_nothing_is_zero():
    y = MaskedMean()(np.ones((1, 2, 3), "float32"), mask=np.zeros((1, 2), bool))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y), np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (FactorizationInteraction(), (2, 3, 4)),
        (FirstOrder(), (2, 3)),
        (LookedUpL2(0.1), (2, 3, 4)),
        (MaskedMean(), (2, 3, 4)),
        (SplitFirstOrder(), [(2, 4), (2, 4), (2, 4)]),
    ],
)
def test_declared_shape_is_the_real_one(layer, shapes):
    if isinstance(shapes, list):
        y = layer([keras.ops.ones(shape) for shape in shapes])
    else:
        y = layer(keras.ops.ones(shapes))
    real = [tuple(part.shape) for part in keras.tree.flatten(y)]
    declared = layer.compute_output_shape(shapes)
    assert real == (list(declared) if isinstance(declared[0], tuple) else [declared])


def test_half_precision_gives_float32_probabilities():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = DeepFM(FIELDS, 4, embeddings_l2=1e-3)
    finally:
        keras.config.set_dtype_policy("float32")
    y = model(make_inputs())
    assert keras.backend.standardize_dtype(y.dtype) == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fields": []}, "at least one field"),
        ({"fields": [FieldSpec("a", 3), FieldSpec("a", 4)]}, "different names"),
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"embedding_dim": 2.5}, "embedding_dim=2.5"),
        ({"hidden_units": (8, 0)}, "hidden_units=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"embeddings_l2": -1.0}, "embeddings_l2=-1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepFM(**{"fields": FIELDS, **arguments})


@pytest.mark.parametrize("make_model", MODELS)
def test_fields_called_like_layers_are_refused(make_model):
    for name in ("output", "logit", "a_embedding"):
        fields = [FieldSpec("a", 3), FieldSpec(name, 4)]
        with pytest.raises(ValueError, match=f'`fields` must not be.*"{name}"'):
            make_model(fields, embedding_dim=2)


def test_fields_must_be_specs():
    with pytest.raises(TypeError, match="FieldSpec"):
        FM([("user", 10)])


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_vocabulary_must_be_positive(size):
    with pytest.raises(ValueError, match="vocabulary_size="):
        FieldSpec("user", size)


@pytest.mark.parametrize("name", ["", "a/b", 3])
def test_field_name_must_be_usable(name):
    with pytest.raises(ValueError, match="name="):
        FieldSpec(name, 3)


def test_negative_penalty_is_refused():
    with pytest.raises(ValueError, match="l2=-1"):
        LookedUpL2(-1)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(f"keras_eds.models.{name}")
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
