from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from plans import plan_of
from zoo import ZOO

import keras_eds
from keras_eds.errors import FieldError
from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.layers.int8_tables import to_int8
from keras_eds.surgery.keras_private import all_layers

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(40, 6)).astype("float32") * [8, 4, 2, 1, 0.5, 0.25]
SIZES = RANDOM.integers(0, 7, 40)
PROJECTION = RANDOM.normal(size=(6, 8)).astype("float32")
IDS = np.arange(40).reshape(8, 5)


def narrow(**kwargs):
    layer = PrunedFieldEmbedding(40, 6, 8, use_constant=True, **kwargs)
    layer.build()
    layer.set_weights([TABLE, PROJECTION, np.arange(8)])
    return layer


def packed(**kwargs):
    return RowSizedEmbedding.from_dense(TABLE, SIZES, **kwargs)


def rotated(**kwargs):
    return RowSizedEmbedding.from_dense(
        TABLE, SIZES, PROJECTION, np.arange(8), **kwargs
    )


def rounded(table):
    """The formula of the docstring, in float64."""
    scale = np.abs(table).max(axis=0) / 127
    return np.round(table.astype("float64") / scale) * scale


def expected(make):
    kept = np.arange(6) < SIZES[:, None]
    if make is narrow:
        return rounded(TABLE) @ PROJECTION + np.arange(8)
    rows = rounded(TABLE * kept)
    return rows if make is packed else rows @ PROJECTION + np.arange(8)


def model_of(layer, combined=False):
    ids = keras.Input((5,), dtype="int32")
    return keras.Model(ids, layer(ids))


LAYERS = pytest.mark.parametrize("make", [narrow, packed, rotated])


@LAYERS
def test_lookups_are_those_of_rounded_tables(make):
    layer = make()
    before = layer.count_params()
    layer.quantize("int8")
    vectors = ops.convert_to_numpy(layer(IDS)).reshape(40, -1)
    np.testing.assert_allclose(vectors, expected(make), rtol=1e-4, atol=1e-4)
    kinds = {keras.backend.standardize_dtype(v.dtype) for v in layer._tables()}
    assert kinds == {"int8"}
    assert layer.count_params() == before + 6


@LAYERS
def test_quantized_models_save_and_load(make, tmp_path):
    model = keras_eds.quantize_tables(model_of(make()))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    a, b = (ops.convert_to_numpy(m(IDS)) for m in (model, again))
    np.testing.assert_array_equal(a, b)
    assert again.count_params() == model.count_params()


@pytest.mark.parametrize("variant", [None, "subspace", "prefixes"])
@pytest.mark.parametrize(
    "kind", ["nested", "subclassed", "custom_layer", "own_graph", "custom_step"]
)
def test_models_of_every_kind_save_and_load(kind, variant, tmp_path):
    model, x, _ = ZOO[kind]()
    if variant is not None:
        model = keras_eds.apply_plan(model, plan_of(model, variant))
    small = keras_eds.quantize_tables(model)
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    expected, given = (ops.convert_to_numpy(m(x)) for m in (small, again))
    np.testing.assert_array_equal(given, expected)
    assert modes(again) == modes(small) and set(modes(small)) == {"int8"}


def modes(model):
    kinds = (keras.layers.Embedding, PrunedFieldEmbedding, RowSizedEmbedding)
    tables = [t for t in all_layers(model) if isinstance(t, kinds)]
    return [table.quantization_mode for table in tables]


def test_padding_and_combiners_stay():
    ids = np.array([[1, 0], [2, 3]])
    layer = packed(mask_zero=True, combiner="sum")
    layer.quantize("int8")
    kept = np.arange(6) < SIZES[:, None]
    wanted = (rounded(TABLE * kept)[ids] * (ids > 0)[..., None]).sum(axis=1)
    given = ops.convert_to_numpy(layer(ids))
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-4)
    assert layer.compute_mask(ids) is None


def test_half_precision_policies_are_kept():
    layer = narrow(dtype="mixed_bfloat16")
    layer.quantize("int8")
    assert layer.dtype_policy.name == "int8_from_mixed_bfloat16"
    assert keras.backend.standardize_dtype(layer(IDS).dtype) == "bfloat16"


def test_a_field_without_values_has_nothing_to_round():
    layer = PrunedFieldEmbedding(5, 0, 3, use_constant=True)
    layer.build()
    layer.quantize("int8")
    assert layer(np.array([1])).shape == (1, 3)
    assert layer.embeddings_scale is None


def test_zeros_stay_zeros():
    (integers,), scale = to_int8([np.zeros((3, 2), "float32")])
    assert not integers.any() and scale.tolist() == [1, 1]


def two_tables():
    ids = keras.Input((), dtype="int32")
    rows = [
        keras.layers.Embedding(40, 8, name=name)(ids) for name in ("first", "second")
    ]
    model = keras.Model(ids, keras.layers.Dense(1)(keras.layers.Add()(rows)))
    model.compile("adam", "mse")
    return model


def test_the_model_is_not_changed_and_keras_rounds_full_tables(tmp_path):
    model = two_tables()
    fields = keras_eds.find_fields(model)
    kept = {"first": 8, "second": 3}
    plan = keras_eds.DimensionPlan.of_sizes(fields, kept)
    cut = keras_eds.apply_plan(model, plan)
    ids = np.arange(40)
    before = ops.convert_to_numpy(cut(ids))
    small = keras_eds.quantize_tables(cut)
    np.testing.assert_array_equal(ops.convert_to_numpy(cut(ids)), before)
    assert cut.get_layer("first").quantization_mode is None
    assert small.get_layer("first").embeddings_scale.shape == (40,)  # a row
    assert small.get_layer("second").embeddings_scale.shape == (3,)  # a column
    outputs = ops.convert_to_numpy(small(ids))[:, 0].astype("float64")
    error = ((outputs - ids) ** 2).mean()  # what the model is compiled with
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    for found in (small, again):
        assert found.evaluate(ids, ids, verbose=0) == pytest.approx(error, rel=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(small(ids)), before, atol=2e-3)


def test_keras_quantizes_cut_tables_too():
    model = model_of(packed())
    model.quantize("int8", filters=lambda layer: isinstance(layer, RowSizedEmbedding))
    vectors = ops.convert_to_numpy(model(IDS)).reshape(40, -1)
    np.testing.assert_allclose(vectors, expected(packed), rtol=1e-4, atol=1e-4)


def test_layers_refuse_what_they_cannot_do():
    layer = narrow()
    with pytest.raises(NotImplementedError, match="`mode` must be 'int8'.*'int4'"):
        layer.quantize("int4")
    assert layer.quantization_mode is None
    layer.quantize("int8")
    with pytest.raises(ValueError, match="already quantized"):
        layer.quantize("int8")
    with pytest.raises(ValueError, match="built"):
        PrunedFieldEmbedding(5, 2).quantize("int8")


def test_models_that_cannot_be_quantized_are_refused():
    with pytest.raises(ValueError, match="`mode` must be 'int8'.*'int2'"):
        keras_eds.quantize_tables(two_tables(), "int2")
    with pytest.raises(ValueError, match="`mode` must be 'int8'.*None"):
        keras_eds.quantize_tables(two_tables(), None)
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(FieldError, match="must have a table"):
        keras_eds.quantize_tables(dense)
    twice = keras_eds.quantize_tables(two_tables())
    with pytest.raises(FieldError, match="'first'.*quantized already"):
        keras_eds.quantize_tables(twice)


def whole(**kwargs):
    layer = keras.layers.Embedding(40, 6, **kwargs)
    layer.build()
    return layer


@pytest.mark.parametrize("make", [whole, narrow, packed, rotated])
@pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
def test_float16_is_refused_by_name(make, dtype):
    layer = make(name="user", dtype=dtype)
    message = f"'user' must.*{dtype!r}.*float32 or mixed_bfloat16"
    with pytest.raises(FieldError, match=message):
        keras_eds.quantize_tables(model_of(layer))
    if make is not whole:  # of this Keras itself says no
        with pytest.raises(FieldError, match=message):
            layer.quantize("int8")
    assert layer.quantization_mode is None
    assert layer(IDS).shape[:2] == IDS.shape


def test_float16_is_refused_after_a_cut():
    ids = keras.Input((5,), dtype="int32")
    table = keras.layers.Embedding(40, 6, name="user", dtype="mixed_float16")
    model = keras.Model(ids, table(ids))
    fields = keras_eds.find_fields(model)
    plan = keras_eds.DimensionPlan.of_sizes(fields, {"user": 3})
    layer = keras_eds.apply_plan(model, plan).get_layer("user")
    before = ops.convert_to_numpy(layer(IDS))
    with pytest.raises(FieldError, match="'user' must.*'mixed_float16'"):
        layer.quantize("int8")
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(IDS)), before)


def with_bad_rows(layer):
    """Spoils two rows of each table."""
    tables = layer._tables() if hasattr(layer, "_tables") else [layer.embeddings]
    for table in tables:
        values = ops.convert_to_numpy(table).copy()
        values[0, :] = np.nan
        values[1, -1] = -np.inf
        table.assign(values)
    return 2 * len(tables)


@pytest.mark.parametrize("make", [whole, narrow, packed, rotated])
def test_rows_that_are_not_finite_are_refused(make):
    layer = make(name="user")
    rows = with_bad_rows(layer)
    with pytest.raises(FieldError, match=f"'user' must be finite.*: {rows} rows"):
        keras_eds.quantize_tables(model_of(layer))
    if make is not whole:
        with pytest.raises(FieldError, match=f"'user' must be finite.*: {rows} rows"):
            layer.quantize("int8")
    assert layer.quantization_mode is None


def test_reducing_tables_of_keras_rs_are_refused():
    keras_rs = pytest.importorskip("keras_rs")
    ids = keras.Input((3,), dtype="int32")
    model = keras.Model(ids, keras_rs.layers.EmbedReduce(9, 4, name="bag")(ids))
    with pytest.raises(FieldError, match="'bag'.*EmbedReduce"):
        keras_eds.quantize_tables(model)
