"""Counts of ids against NumPy's, for every kind of model and data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from zoo import ZOO

import keras_eds
from keras_eds.errors import DataError
from keras_eds.surgery.count import _inputs, count_ids
from keras_eds.surgery.sites import all_sites

ROWS = 20


def shared_table():
    """One table that two inputs share, one with padding, one behind a tower."""
    left = keras.Input((), dtype="int32", name="left")
    right = keras.Input((2,), dtype="int32", name="right")
    shared = keras.layers.Embedding(ROWS, 3, name="shared")
    padded = keras.layers.Embedding(ROWS, 4, mask_zero=True, name="padded")
    pooled = keras.layers.GlobalAveragePooling1D()
    parts = [shared(left), pooled(shared(right)), pooled(padded(right))]
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()(parts))
    model = keras.Model([left, right], outputs)
    model.compile("sgd", "mse")
    return model


def data(rows=50):
    random = np.random.default_rng(0)
    left = random.integers(0, ROWS, rows).astype("int32")
    return [left, random.integers(0, ROWS, (rows, 2)).astype("int32")]


def expected(x):
    counts = [np.bincount(part.ravel(), minlength=ROWS) for part in x]
    padded = counts[1].copy()
    padded[0] = 0
    return {"shared": counts[0] + counts[1], "padded": padded}


def assert_counts(counts, wanted):
    assert set(counts) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(counts[name], values, err_msg=name)


def test_arrays():
    x = data()
    assert_counts(count_ids(shared_table(), {"x": x, "batch_size": 8}), expected(x))


def test_data_sets_and_steps():
    tf = pytest.importorskip("tensorflow")
    x = data(48)
    rows = ({"left": x[0], "right": x[1]}, np.zeros((48, 1), "float32"))
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(8)
    model = shared_table()
    assert_counts(count_ids(model, {"x": batches}), expected(x))
    some = count_ids(model, {"x": batches.repeat(), "steps_per_epoch": 3})
    assert_counts(some, expected([part[:24] for part in x]))


class Tags(keras.Model):
    """The mean vector of as many tags as an example has, one at least."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = keras.layers.Embedding(ROWS, 4)
        self.head = keras.layers.Dense(1, activation="sigmoid")

    def call(self, tags):
        import tensorflow as tf

        if isinstance(tags, tf.SparseTensor):
            rows, examples = tags.indices[:, 0], tags.dense_shape[0]
        else:
            rows, examples = tags.value_rowids(), tags.nrows()
        vectors = self.table(tags.values)
        return self.head(tf.math.unsorted_segment_mean(vectors, rows, examples))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its tensors")
@pytest.mark.parametrize("kind", ["ragged", "sparse"])
def test_gaps_are_no_ids(kind, tmp_path):
    tf = pytest.importorskip("tensorflow")
    random = np.random.default_rng(0)
    tags = [random.integers(1, ROWS, n).tolist() for n in random.integers(1, 5, 60)]
    ragged = tf.ragged.constant(tags, dtype="int32")
    x = ragged if kind == "ragged" else ragged.to_sparse()
    y = random.integers(0, 2, (60, 1)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)

    def build():
        model = Tags()
        model(next(iter(batches))[0])
        model.compile("adam", "binary_crossentropy", metrics=["auc"], run_eagerly=True)
        return model

    model = build()
    wanted = np.bincount(np.concatenate(tags), minlength=ROWS)
    for given in ({"x": batches}, {"x": x}):
        assert_counts(count_ids(model, given), {"table": wanted})
    search = keras_eds.EDSSearch(
        build, 0.5, "random_rows", "val_auc", directory=tmp_path
    )
    search.search(batches, validation_data=batches, epochs=1, verbose=0)
    small = search.load_model(search.oracle.get_best_trials()[0])
    assert small.count_params() < model.count_params()
    assert small(x).shape == (60, 1)
    ciess = keras_eds.methods.CIESS(low=0)
    search = keras_eds.EDSSearch(build, 0.5, ciess, "val_auc", directory=tmp_path / "c")
    with pytest.raises(DataError, match="one example after the other"):
        search.search(batches, validation_data=batches, epochs=1, verbose=0)


def test_filters():
    counts = count_ids(shared_table(), {"x": data()}, filters="padded")
    assert_counts(counts, {"padded": expected(data())["padded"]})


@pytest.mark.parametrize("kind", ZOO)
def test_every_lookup_is_counted_and_nothing_stays(kind):
    model, x, _ = ZOO[kind]()
    layers = [site.layer for site in all_sites(model)]
    before = [ops.convert_to_numpy(v) for v in model.variables]
    seen = {}

    def watched(layer, lookup):
        def call(inputs, *args, **kwargs):
            ids = ops.convert_to_numpy(inputs).ravel()
            seen.setdefault(id(layer), []).extend(ids.tolist())
            return lookup(inputs, *args, **kwargs)

        return call

    for layer in layers:
        layer.call = watched(layer, layer.call)
    model(x)
    for layer in layers:
        del layer.call
    counts = count_ids(model, {"x": x})
    for site in all_sites(model):
        ids = np.array(seen[id(site.layer)], "int64")
        wanted = np.bincount(ids, minlength=site.field.input_dim)
        if site.layer.mask_zero:
            wanted[0] = 0
        np.testing.assert_array_equal(counts[site.field.name], wanted)
    assert not any("call" in vars(layer) for layer in layers)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable))


def test_ids_out_of_range_are_refused():
    x = data()
    x[0][30] = ROWS
    model = shared_table()
    if keras.backend.backend() == "tensorflow":
        model = keras_eds.use_sparse_lookups(model)
    with pytest.raises(DataError, match=f"`x` must hold ids from 0 to {ROWS - 1}"):
        count_ids(model, {"x": x})
    assert_counts(count_ids(model, {"x": data()}), expected(data()))


def test_long_examples_come_in_small_batches():
    """What stands between two lookups is run on a whole batch."""
    for shape, size in (((), 65536), ((26,), 10082), ((200,), 1310), ((5000,), 1024)):
        x = np.zeros((70_000, *shape), "int8")
        assert len(next(_inputs({"x": x}, once=True))) == size
        assert len(next(_inputs({"x": x, "batch_size": 2000}, once=False))) == 2000
