from __future__ import annotations

import doctest
import importlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_eds
from keras_eds.errors import DataError, FieldError
from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.retrieval import ExactIndex, FaissIndex, index_recall

ITEMS, WIDTH = 60, 8
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(ITEMS, WIDTH)).astype("float32")
PROJECTION = RANDOM.normal(size=(WIDTH, 12)).astype("float32")
CONSTANT = RANDOM.normal(size=12).astype("float32")
SIZES = RANDOM.integers(0, WIDTH + 1, ITEMS)
KEPT = np.where(np.arange(WIDTH) < SIZES[:, None], TABLE, 0)


def dense():
    return TABLE, TABLE


def embedding():
    layer = keras.layers.Embedding(ITEMS, WIDTH)
    layer.build()
    layer.embeddings.assign(TABLE)
    return layer, TABLE


def by_field():
    layer = PrunedFieldEmbedding(ITEMS, WIDTH, 12, use_constant=True)
    layer.build()
    layer.set_weights([TABLE, PROJECTION, CONSTANT])
    return layer, TABLE @ PROJECTION + CONSTANT


def dropped():
    layer = PrunedFieldEmbedding(ITEMS, 0, 12, use_constant=True)
    layer.build()
    layer.set_weights([CONSTANT])
    return layer, np.tile(CONSTANT, (ITEMS, 1))


def by_row():
    return RowSizedEmbedding.from_dense(TABLE, SIZES), KEPT


def rotated():
    layer = RowSizedEmbedding.from_dense(TABLE, SIZES, PROJECTION, CONSTANT)
    return layer, KEPT @ PROJECTION + CONSTANT


def nothing():
    layer = RowSizedEmbedding(ITEMS, WIDTH, np.zeros(ITEMS, int))
    layer.build()
    return layer, np.zeros((ITEMS, WIDTH))


def queries_for(wide, number=5):
    return np.random.default_rng(1).normal(size=(number, wide.shape[1])).astype("f4")


def arrays(found):
    scores, items = found
    return ops.convert_to_numpy(scores), ops.convert_to_numpy(items)


def check(found, wide, queries, k):
    """Scores are those of the items named, and no better item is left out."""
    scores, items = found
    truth = queries.astype("float64") @ wide.T.astype("float64")
    assert scores.shape == items.shape == (len(queries), k)
    assert all(len(set(row)) == k for row in items.tolist())
    best = -np.sort(-truth, axis=1)[:, :k]
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-4)
    named = np.take_along_axis(truth, items.astype(int), axis=1)
    np.testing.assert_allclose(named, best, rtol=1e-4, atol=1e-4)


SOURCES = pytest.mark.parametrize(
    "make", [dense, embedding, by_field, dropped, by_row, rotated, nothing]
)


@SOURCES
@pytest.mark.parametrize("k", [1, 10, ITEMS])
def test_exact_index_finds_the_largest_inner_products(make, k):
    source, wide = make()
    queries = queries_for(wide)
    check(arrays(ExactIndex.of(source, k)(queries)), wide, queries, k)


def half_by_field():
    layer = PrunedFieldEmbedding(ITEMS, WIDTH, WIDTH, dtype="bfloat16")
    layer.build()
    return layer


def half_by_row():
    return RowSizedEmbedding.from_dense(TABLE, SIZES, dtype="bfloat16")


def half():
    layer = keras.layers.Embedding(ITEMS, WIDTH, dtype="bfloat16")
    layer.build()
    return layer


@pytest.mark.parametrize("make", [half, half_by_field, half_by_row])
@pytest.mark.parametrize("kind", [ExactIndex, FaissIndex])
def test_half_precision_tables_are_searched(make, kind):
    layer = make()
    wide = ops.convert_to_numpy(ops.cast(layer(np.arange(ITEMS)), "float32"))
    queries = queries_for(wide)
    if kind is ExactIndex:
        found = arrays(ExactIndex.of(layer, 5)(queries))
    else:
        pytest.importorskip("faiss")
        found = FaissIndex(layer, "Flat").search(queries, 5)
    check(found, wide, queries, 5)


@pytest.mark.parametrize("make", [by_field, by_row, rotated])
def test_exact_index_agrees_with_keras_rs_on_wide_vectors(make):
    keras_rs = pytest.importorskip("keras_rs")
    source, wide = make()
    queries = queries_for(wide)
    theirs = keras_rs.layers.BruteForceRetrieval(wide.astype("float32"), k=5)
    scores, items = arrays(theirs(queries))
    ours = arrays(ExactIndex.of(source, 5)(queries))
    np.testing.assert_allclose(ours[0], scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours[1], items)


@pytest.mark.parametrize("make", [by_field, by_row, rotated])
def test_the_index_holds_what_the_table_holds(make):
    source, wide = make()
    index = ExactIndex.of(source)
    values = sum(int(np.prod(v.shape)) for v in index.variables if v.dtype != "int32")
    assert values <= source.count_params()
    most = max(int(np.prod(v.shape)) for v in index.variables)
    assert most < ITEMS * wide.shape[1]
    ids = 4 * ITEMS if index.ids is not None else 0
    assert index.num_bytes() == 4 * values + ids


@pytest.mark.parametrize("make", [embedding, by_row, rotated])
def test_an_index_is_saved_inside_a_model(make, tmp_path):
    source, wide = make()
    inputs = keras.Input((wide.shape[1],))
    model = keras.Model(inputs, ExactIndex.of(source, 4)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    queries = queries_for(wide)
    check(arrays(again(queries)), wide, queries, 4)


@pytest.mark.parametrize("make", [by_field, dropped, rotated, nothing])
def test_a_quantized_index_is_saved_inside_a_model(make, tmp_path):
    source, wide = make()
    inputs = keras.Input((wide.shape[1],))
    model = keras.Model(inputs, ExactIndex.of(source, ITEMS)(inputs))
    small = keras_eds.quantize_tables(model)
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    queries = queries_for(wide)
    scores, items = arrays(again(queries))
    truth = np.take_along_axis(queries @ wide.T, items, axis=1)
    np.testing.assert_allclose(scores, truth, atol=0.3)
    expected = arrays(small(queries))
    np.testing.assert_array_equal(scores, expected[0])
    np.testing.assert_array_equal(items, expected[1])


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
def test_an_index_in_float16_is_not_quantized(dtype):
    index = ExactIndex.of(TABLE, 3, name="items", dtype=dtype)
    with pytest.raises(FieldError, match=f"'items' must.*{dtype!r}.*float32 or mixed"):
        index.quantize("int8")
    assert index.quantization_mode is None
    assert index(queries_for(TABLE))[1].shape == (5, 3)


@pytest.mark.parametrize("make", [embedding, by_row, rotated])
def test_an_index_is_quantized(make):
    source, wide = make()
    index = ExactIndex.of(source, ITEMS)
    before, queries = index.num_bytes(), queries_for(wide)
    exact = np.sort(queries @ wide.T)[:, ::-1]
    index.quantize("int8")
    scores, _ = arrays(index(queries))
    np.testing.assert_allclose(scores, exact, atol=0.3)
    assert abs(scores - exact).max() > 1e-4
    assert index.num_bytes() < before


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="export")
def test_an_index_is_exported_with_its_tower(tmp_path):
    import tensorflow as tf

    source, wide = rotated()
    users = keras.Input((), dtype="int32", name="user")
    rows = keras.layers.Embedding(9, 12)(users)
    scores, items = ExactIndex.of(source, 5)(rows)
    model = keras.Model({"user": users}, {"scores": scores, "items": items})
    path = keras_eds.export(model, tmp_path / "served")
    ids = np.arange(9, dtype="int32")
    served = tf.saved_model.load(str(path))
    found = served.serve({"user": ids})
    expected = model({"user": ids})
    np.testing.assert_array_equal(found["items"], expected["items"])


@SOURCES
def test_faiss_that_searches_all_is_exact(make):
    pytest.importorskip("faiss")
    source, wide = make()
    queries = queries_for(wide)
    found = FaissIndex(source, "Flat").search(queries, 10)
    check(found, wide, queries, 10)


def clusters():
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 8))
    table = centres[random.integers(0, 40, 4_000)] + 0.3 * random.normal(size=(4000, 8))
    sizes = random.choice([4, 8], 4_000)
    return RowSizedEmbedding.from_dense(table.astype("float32"), sizes), random


def test_faiss_finds_nearly_all_in_a_quarter_of_the_lists():
    pytest.importorskip("faiss")
    source, random = clusters()
    queries = random.normal(size=(100, 8)).astype("float32")
    _, exact = arrays(ExactIndex.of(source)(queries))
    index = FaissIndex(source)
    assert all(name.startswith("IVF") for name in index.factories)
    found = index.search(queries)[1]
    assert 0.95 <= index_recall(found, exact) <= 1
    few = FaissIndex(source, probes=1).search(queries)[1]
    assert index_recall(few, exact) < index_recall(found, exact)
    graph = FaissIndex(source, "HNSW16")
    assert index_recall(graph.search(queries)[1], exact) > 0.8
    assert graph.num_bytes() > index.num_bytes() > 4 * source.sizes().sum()


@pytest.mark.parametrize(
    ("factory", "without_lists"),
    [("PCA8,IVF40,Flat", "PCA8,Flat"), ("IVF40,Flat,RFlat", "Flat")],
)
def test_lists_that_are_wrapped_are_probed(factory, without_lists):
    pytest.importorskip("faiss")
    source, random = clusters()
    table = ops.convert_to_numpy(source(np.arange(4_000)))
    queries = random.normal(size=(50, 8))

    def found(name, probes=None, seed=0):
        return FaissIndex(table, name, probes, seed).search(queries)[1]

    whole = found(without_lists)
    one, quarter, every = (
        index_recall(found(factory, probes), whole) for probes in (1, None, 40)
    )
    assert one + 0.1 < quarter <= every == 1
    assert (found(factory, 1) == found(factory, 1)).all()
    assert (found(factory, 1) != found(factory, 1, seed=1)).any()


def far_off():
    """Rows whose mean is far from 0, of one width and of two."""
    random = np.random.default_rng(0)
    table = random.normal(size=(600, 16)).astype("float32") + 3
    sizes = np.repeat([16, 8], 300)
    return table, RowSizedEmbedding.from_dense(table, sizes)


@pytest.mark.parametrize(
    "factory",
    ["PCA16,Flat", "PCAR16,Flat", "PCA16,RR16,Flat", "RR16,Flat", "OPQ4_16,Flat",
     "PCA16,Flat,Refine(PCA16,Flat)"],
)  # fmt: skip
def test_faiss_that_rotates_all_is_exact(factory):
    pytest.importorskip("faiss")
    table, _ = far_off()
    queries = queries_for(table, 50)
    check(FaissIndex(table, factory).search(queries, 10), table, queries, 10)


def test_blocks_are_rotated_each_about_its_own_mean():
    pytest.importorskip("faiss")
    _, source = far_off()
    wide = ops.convert_to_numpy(source(np.arange(600)))
    queries = queries_for(wide, 50)
    index = FaissIndex(source, "PCA8,Flat")
    assert len(index.factories) == 2
    scores, items = index.search(queries, 600)
    truth = np.take_along_axis(queries @ wide.T, items, axis=1)
    # The narrow block loses nothing, the wide one what varies in 8 directions.
    narrow = items >= 300
    np.testing.assert_allclose(scores[narrow], truth[narrow], rtol=1e-4, atol=1e-4)
    errors = np.where(narrow, 0, scores - truth).sum(axis=1) / 300
    np.testing.assert_allclose(errors, 0, atol=1e-3)


def test_rounded_rows_lie_in_the_range_that_was_trained():
    pytest.importorskip("faiss")
    table, _ = far_off()
    queries = queries_for(table, 50)
    scores, items = FaissIndex(table, "PCA16,SQ8").search(queries, 10)
    truth = np.take_along_axis(queries @ table.T, items, axis=1)
    np.testing.assert_allclose(scores, truth, atol=0.2)


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        ("ITQ16,Flat", "ITQTransform"),
        ("L2norm,Flat", "NormalizationTransform"),
        ("PCAW16,Flat", "PCAMatrix"),
        ("PCA16,Flat,Refine(ITQ16,Flat)", "ITQTransform"),
    ],
)
def test_faiss_that_changes_inner_products_is_refused(factory, named):
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match="`factory` must keep inner products") as error:
        FaissIndex(far_off()[0], factory)
    assert repr(factory) in str(error.value) and named in str(error.value)


def test_what_the_lists_do_not_hold_is_marked():
    pytest.importorskip("faiss")
    table = np.eye(4, dtype="float32")[np.arange(400) % 4]
    scores, items = FaissIndex(table, "IVF4,Flat", probes=1).search(table[:1], 150)
    assert (items[0, :100] >= 0).all() and (items[0, 100:] == -1).all()
    assert np.isneginf(scores[0, 100:]).all()


@pytest.mark.parametrize("make", [ExactIndex.of, FaissIndex])
def test_sources_that_cannot_be_searched_are_refused(make):
    if make is FaissIndex:
        pytest.importorskip("faiss")
    quantized = by_field()[0]
    quantized.quantize("int8")
    for source, message in (
        (keras.layers.Embedding(3, 2, name="new"), "'new'.*not built"),
        (keras.layers.Dense(2, name="top"), "'top'.*is a Dense"),
        (quantized, "is quantized"),
        (np.ones(3), r"\(num_items, query_dim\).*\(3,\)"),
        (np.ones((0, 3)), "row for every item"),
        (np.array([["a"]]), "dtype"),
        (np.array([[1.0, np.nan]]), "`source` must be finite.*1 values"),
    ):
        with pytest.raises(DataError, match=message):
            make(source)


@pytest.mark.parametrize("k", [0, 4, -1, 2.0, True])
def test_more_items_than_there_are_cannot_be_found(k):
    with pytest.raises(ValueError, match="`k` must be .* number of items, 3"):
        ExactIndex.of(np.eye(3), k)
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match="`k` must be .* number of items, 3"):
        FaissIndex(np.eye(3)).search(np.eye(3), k)


def test_queries_of_another_width_are_refused():
    index = ExactIndex.of(by_field()[0])
    with pytest.raises(ValueError, match=r"\(batch, 12\).*\(5, 8\)"):
        index(np.ones((5, 8)))
    pytest.importorskip("faiss")
    index = FaissIndex(by_field()[0])
    for queries in (np.ones((5, 8)), np.ones(12), np.full((1, 12), np.nan)):
        with pytest.raises(DataError, match=r"`queries` must be finite.*\(batch, 12\)"):
            index.search(queries)


def test_faiss_refuses_what_it_does_not_know():
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match="`factory`.*'Tree7'"):
        FaissIndex(np.eye(3), "Tree7")
    with pytest.raises(ValueError, match="`factory`.*'IVF64,Flat' for 3 items"):
        FaissIndex(np.eye(3), "IVF64,Flat")
    for probes in (0, 2.5, "a"):
        with pytest.raises(ValueError, match=f"`probes` must be.*probes={probes!r}"):
            FaissIndex(np.eye(3), probes=probes)
    with pytest.raises(ValueError, match="`probes` must be None.*'HNSW8'"):
        FaissIndex(np.eye(3), "HNSW8", probes=2)


def test_a_missing_faiss_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"keras-eds\[faiss\]"):
        FaissIndex(np.eye(3))


def test_recall_counts_what_both_have():
    assert index_recall([[1, 2], [3, -1]], [[2, 1], [3, 4]]) == 0.75
    with pytest.raises(ValueError, match="shapes"):
        index_recall([[1, 2]], [[1, 2, 3]])


@pytest.mark.parametrize("name", ["recall", "exact_index"])
def test_docstring_examples_run(name):
    module = importlib.import_module(f"keras_eds.retrieval.{name}")
    results = doctest.testmod(module, extraglobs={"keras_eds": keras_eds, "np": np})
    assert results.attempted and not results.failed
