"""The row-sized layer against a dense table with a mask, in plain NumPy."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import keras_eds
from keras_eds.layers import RowSizedEmbedding, row_blocks
from keras_eds.optimizers import LazyAdagrad, LazyAdam

TENSORFLOW = keras.backend.backend() == "tensorflow"
tensorflow_only = pytest.mark.skipif(not TENSORFLOW, reason="looks into its graphs")
JIT = [False, True] if TENSORFLOW else ["auto"]
IDS, WIDTH, OUTPUT = 12, 5, 7
SIZES = {
    "mixed": [0, 5, 1, 1, 3, 0, 2, 5, 4, 1, 3, 2],
    "none": [0] * IDS,
    "full": [WIDTH] * IDS,
    "equal": [3] * IDS,
    "one": [0, 0, 0, 2] + [0] * 8,
    "no zero": [2, 5, 1, 1, 1, 1, 1, 3, 1, 1, 1, 4],
}
all_sizes = pytest.mark.parametrize("kind", SIZES)


def numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor))


def masked(table, sizes):
    return table * (np.arange(table.shape[1]) < np.asarray(sizes)[:, None])


def make(kind, rotate=True, shift=True, **kwargs):
    """The layer, and what it holds as a dense table, matrix and vector."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(IDS, WIDTH)).astype("float32")
    matrix = rng.normal(size=(WIDTH, OUTPUT)).astype("float32") if rotate else None
    vector = np.full(OUTPUT if rotate else WIDTH, 0.5, "float32") if shift else None
    args = (table, SIZES[kind], matrix, vector)
    layer = RowSizedEmbedding.from_dense(*args, **kwargs)
    matrix = np.eye(WIDTH) if matrix is None else matrix
    return layer, masked(table, SIZES[kind]), matrix, 0 if vector is None else vector


@all_sizes
@pytest.mark.parametrize(("rotate", "shift"), [(False, False), (True, True)])
def test_lookups_equal_a_masked_table(kind, rotate, shift):
    layer, table, matrix, vector = make(kind, rotate, shift)
    dense = table @ matrix + vector
    np.testing.assert_allclose(layer.to_dense(), dense, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer.sizes(), SIZES[kind])
    for shape in [(), (0,), (2, 1, 3)]:
        ids = np.random.default_rng(1).integers(0, IDS, shape)
        for inputs in (ids.astype("int32"), ids.astype("float32")):
            output = numpy(layer(keras.ops.convert_to_tensor(inputs)))
            np.testing.assert_allclose(output, dense[ids], rtol=1e-5, atol=1e-6)
        assert layer.compute_output_shape(shape) == output.shape


def assert_padding_is_zero(layer):
    start = 0
    for block, variable in zip(layer.blocks, layer.embeddings, strict=True):
        sizes = np.sort(layer.sizes())[::-1][start : start + block.ids]
        rows = numpy(variable.value)
        np.testing.assert_array_equal(rows[block.ids :], 0)
        np.testing.assert_array_equal(
            rows[: block.ids], masked(rows[: len(sizes)], sizes)
        )
        assert (rows != 0).sum() == sizes.sum()
        start += block.ids


class Twin(keras.layers.Layer):
    """A dense table, mask, matrix and vector, of Keras's own parts."""

    def __init__(self, table, sizes, matrix, vector):
        super().__init__()
        self.table = keras.layers.Embedding(IDS, WIDTH, weights=table)
        ones = masked(np.ones((IDS, WIDTH)), sizes)
        self.mask = keras.layers.Embedding(IDS, WIDTH, weights=ones, trainable=False)
        self.end = keras.layers.Dense(OUTPUT)
        self.end.build((None, WIDTH))
        self.end.set_weights([matrix, vector])

    def call(self, inputs):
        return self.end(self.table(inputs) * self.mask(inputs))


FITS = [
    (keras.optimizers.SGD, "mixed", JIT[0]),
    (keras.optimizers.Adam, "mixed", JIT[0]),
    (LazyAdam, "mixed", JIT[0]),
    (LazyAdam, "mixed", JIT[-1]),
    (LazyAdagrad, "mixed", JIT[0]),
    (LazyAdagrad, "no zero", JIT[-1]),
    (LazyAdam, "full", JIT[0]),
    (LazyAdagrad, "none", JIT[0]),
]


@pytest.mark.parametrize(("optimizer", "kind", "jit"), FITS)
def test_training_equals_that_of_a_masked_table(optimizer, kind, jit):
    layer, table, matrix, vector = make(kind)
    rng = np.random.default_rng(2)
    # Squared: low ids come more than once in a batch, others in none.
    ids = (rng.random((24, 2)) ** 2 * IDS).astype("int32")
    target = rng.normal(size=(24, 2, OUTPUT)).astype("float32")
    results = []
    for part in (layer, Twin(table, SIZES[kind], matrix, vector)):
        model = keras.Sequential([keras.layers.Input((2,), dtype="int32"), part])
        model.compile(optimizer(0.1), "mse", jit_compile=jit)
        model.fit(ids, target, batch_size=8, shuffle=False, verbose=0)
        results.append(model.predict(np.arange(IDS).reshape(-1, 2), verbose=0))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)
    assert abs(results[0].reshape(IDS, -1) - (table @ matrix + vector)).max() > 1e-3
    assert_padding_is_zero(layer)


def test_one_sgd_step_equals_numpy():
    layer, table, _, _ = make("mixed", rotate=False, shift=False)
    ids = np.array([1, 1, 4, 0, 2, 1], "int32")
    model = keras.Sequential([keras.layers.Input((), dtype="int32"), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=JIT[0])
    model.fit(ids, np.ones((6, WIDTH)), batch_size=6, verbose=0)
    gradient = np.zeros_like(table)
    np.add.at(gradient, ids, 2 * (table[ids] - 1) / (6 * WIDTH))
    expected = table - masked(gradient, SIZES["mixed"])
    np.testing.assert_allclose(layer.to_dense(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
@pytest.mark.parametrize("kind", ["mixed", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_combiners_equal_numpy(combiner, kind, weighted):
    layer, table, matrix, vector = make(kind, combiner=combiner)
    rng = np.random.default_rng(3)
    ids, weights = rng.integers(0, IDS, (4, 3)), rng.random((4, 3)) + 0.1
    weights = weights if weighted else np.ones((4, 3))
    total = {"mean": weights.sum(-1), "sqrtn": (weights**2).sum(-1) ** 0.5, "sum": 1.0}
    rows = (table @ matrix + vector)[ids]
    expected = (rows * weights[..., None]).sum(1) / np.reshape(total[combiner], (-1, 1))
    arguments = (ids, weights.astype("float32")) if weighted else (ids,)
    output = layer(*map(keras.ops.convert_to_tensor, arguments))
    np.testing.assert_allclose(numpy(output), expected, rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape((4, 3)) == (4, OUTPUT)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["mixed", "full", "none"])
def test_mixed_precision_casts_what_was_looked_up(policy, kind):
    layer, table, matrix, vector = make(kind, rotate=False, dtype=policy)
    output = layer(keras.ops.arange(IDS))
    assert keras.backend.standardize_dtype(output.dtype) == policy[len("mixed_") :]
    output = numpy(keras.ops.cast(output, "float32"))
    np.testing.assert_allclose(output, table + vector, rtol=0.01, atol=0.01)
    assert all(v.dtype == "float32" for v in layer.trainable_variables)


@tensorflow_only
@pytest.mark.parametrize("jit", [False, True])
def test_a_step_makes_nothing_of_the_size_of_a_table(jit):
    import tensorflow as tf

    sizes = np.repeat([0, 1, 3, 8], [101, 499, 307, 103])
    layer = RowSizedEmbedding(len(sizes), 8, sizes, dtype="mixed_float16")
    layer.build()
    heights = {v.shape[0] for v in layer.embeddings} | {len(sizes)}
    assert heights == {104, 308, 500, 1010}
    optimizer = LazyAdam(0.1)
    optimizer.build(layer.trainable_variables)

    @tf.function(jit_compile=jit)
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ids))
        variables = layer.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    step(tf.constant([1, 2, 700, 1009]))
    graph = step.get_concrete_function(tf.TensorSpec([4], "int32")).graph
    operations = graph.get_operations()
    assert ("DynamicPartition" in {o.type for o in operations}) is not jit
    for operation in operations:
        for output in operation.outputs:
            assert output.shape.rank is None or not (
                heights & set(output.shape.as_list())
            ), operation


class Subclassed(keras.Model):
    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)

    def get_config(self):
        return {"layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["layer"]))


@pytest.mark.parametrize("kind", ["mixed", "full", "none"])
@pytest.mark.parametrize("functional", [False, True])
def test_reload_from_config_and_weights(kind, functional, tmp_path):
    options = {"mask_zero": True, "embeddings_regularizer": "l2", "name": "ids"}
    layer, *_ = make(kind, **options)
    inputs = keras.Input((2,), dtype="int32")
    model = keras.Model(inputs, layer(inputs)) if functional else Subclassed(layer)
    ids = np.arange(IDS).reshape(-1, 2)
    output = model.predict(ids, verbose=0)
    model.save(tmp_path / "model.keras")
    custom = {"Subclassed": Subclassed}
    again = keras.models.load_model(tmp_path / "model.keras", custom_objects=custom)
    np.testing.assert_array_equal(again.predict(ids, verbose=0), output)
    loaded = again.get_layer("ids")
    assert loaded.get_config() == layer.get_config()
    np.testing.assert_array_equal(loaded.sizes(), SIZES[kind])
    fresh = RowSizedEmbedding.from_config(layer.get_config())
    fresh.build()
    assert fresh.sizes().sum() >= sum(SIZES[kind])
    assert (np.diff(fresh.sizes()) <= 0).all()
    fresh.set_weights(layer.get_weights())
    np.testing.assert_array_equal(fresh.to_dense(), layer.to_dense())
    np.testing.assert_array_equal(numpy(layer.compute_mask(ids)), ids != 0)


def cost(numbers, widths, cuts):
    """Values in tables of runs of `widths`, as the layout promises."""
    ids = [sum(numbers[a:b]) for a, b in itertools.pairwise(cuts)]
    return sum(
        (n + (n < sum(numbers))) * widths[a] for n, a in zip(ids, cuts, strict=False)
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0, 0.5))
def test_blocks_are_the_fewest_of_least_cost(sizes, most):
    sizes = np.array(sizes)
    widths = sorted({s for s in sizes.tolist() if s}, reverse=True)
    numbers = [int((sizes == w).sum()) for w in widths] + [int((sizes == 0).sum())]
    blocks = row_blocks.choose_blocks(sizes, most)
    assert sum(b.ids for b in blocks) == (sizes > 0).sum()
    least = {} if widths else {0: 0}
    for inner in itertools.product([0, 1], repeat=max(len(widths) - 1, 0)):
        if widths:
            cuts = [0, *(i + 1 for i, cut in enumerate(inner) if cut), len(widths)]
            value = cost(numbers, widths, cuts)
            least[len(cuts) - 1] = min(least.get(len(cuts) - 1, value), value)
    limit = sizes.sum() + most * (sizes.sum() + len(sizes))
    within = [k for k in sorted(least) if least[k] <= limit]
    best = within[0] if within else min(least, key=lambda k: (least[k], k))
    assert len(blocks) == best
    assert row_blocks.stored_values(blocks, len(sizes)) == least[best]
    positions, reaching = row_blocks.positions_of(sizes), row_blocks.reaching(sizes)
    np.testing.assert_array_equal(row_blocks.sizes_of(positions, reaching), sizes)


@pytest.mark.parametrize("exponent", [0.3, 0.7, 1.5])
def test_a_million_power_law_sizes_cost_at_most_8_percent(exponent):
    ids, width = 1_000_000, 64
    curve = np.arange(1, ids + 1.0) ** -exponent
    low, high = 1e-3, 1e9
    for _ in range(50):  # until 10 % of the values are kept
        middle = (low * high) ** 0.5
        sizes = np.minimum(middle * curve, width).astype(int)
        low, high = (middle, high) if sizes.mean() < 0.1 * width else (low, middle)
    assert 0.0995 <= sizes.mean() / width <= 0.1005
    sizes = np.random.default_rng(0).permutation(sizes)
    layer = RowSizedEmbedding(ids, width, sizes)
    stored = row_blocks.stored_values(layer.blocks, ids)
    integers = ids + layer.stored_width
    assert 4 * (stored + integers) <= 1.08 * 4 * (sizes.sum() + ids)


@all_sizes
def test_variables_are_what_the_layout_counts(kind):
    layer, *_ = make(kind, rotate=False, shift=False)
    layer.build()  # once more
    stored = row_blocks.stored_values(layer.blocks, IDS)
    integers = IDS + layer.stored_width if layer.blocks else 0
    assert layer.count_params() == stored + integers


@pytest.mark.parametrize(
    "initializer",
    [
        keras.initializers.RandomNormal(1.5, 1.0),
        keras.initializers.RandomNormal(1.5, 1.0, seed=3),
        keras.initializers.RandomUniform(1.5 - 3**0.5, 1.5 + 3**0.5, seed=3),
        keras.initializers.TruncatedNormal(1.5, 1.1365, seed=3),
    ],
)
def test_initial_rows(initializer):
    sizes = np.repeat([0, 2, 9], [10, 500, 500])
    layer = RowSizedEmbedding(1010, 9, sizes, embeddings_initializer=initializer)
    dense = layer.to_dense()
    np.testing.assert_array_equal(dense != 0, masked(np.ones((1010, 9)), sizes) > 0)
    assert abs(dense[510:].std() - 1) < 0.05
    assert abs(dense[510:].mean() - 1.5) < 0.1
    if isinstance(initializer, keras.initializers.RandomUniform):
        assert abs(dense[510:] - 1.5).max() < 3**0.5
    wide, narrow = (numpy(v.value)[:-1].ravel()[:900] for v in layer.embeddings)
    assert abs(np.corrcoef(wide, narrow)[0, 1]) < 0.2
    assert_padding_is_zero(layer)


BAD = {
    "shorter": ({"sizes": [1, 2]}, r"`sizes` must be .*\(3,\).*shape \(2,\)"),
    "longer": ({"sizes": [1] * 4}, r"`sizes` must be .*\(3,\).*shape \(4,\)"),
    "nested": ({"sizes": [[1, 2, 3]]}, r"`sizes` must be .*shape \(1, 3\)"),
    "ragged": ({"sizes": [[1], [2, 3], 1]}, "`sizes` must be integers"),
    "negative": ({"sizes": [1, -1, 2]}, r"`sizes` must be from 0 .*sizes\[1\]=-1"),
    "wide": ({"sizes": [1, 2, 5]}, r"`sizes` must be .*output_dim=4.*sizes\[2\]=5"),
    "floats": ({"sizes": [1.0, 2, 3]}, "`sizes` must be integers .*float64"),
    "nan": ({"sizes": [1, 2, np.nan]}, "`sizes` must be integers .*nan"),
    "bools": ({"sizes": [True] * 3}, "`sizes` must be integers .*bool"),
    "neither": ({}, "`sizes` must be given.*Received: neither"),
    "too narrow": (
        {"sizes": [2, 1, 1], "blocks": [[3, 1]]},
        "`blocks` must hold all ids at their `sizes`",
    ),
    "too few": ({"sizes": [1] * 3, "blocks": [[2, 1]]}, "`blocks` must hold all ids"),
    "ids": ({"blocks": [[4, 1]]}, r"`blocks` must be .*blocks=\[\[4, 1\]\]"),
    "no ids": ({"blocks": [[1, 2], [0, 1]]}, "`blocks` must be"),
    "width": ({"blocks": [[1, 5]]}, "`blocks` must be .*output_dim=4"),
    "width 0": ({"blocks": [[1, 0]]}, "`blocks` must be"),
    "ascending": ({"blocks": [[1, 1], [1, 2]]}, "`blocks` must be .*descending"),
    "no pairs": ({"blocks": [3, 1]}, "`blocks` must be pairs"),
    "no integers": ({"blocks": [[1.5, 1]]}, "`blocks` must be pairs"),
    "input_dim": ({"input_dim": 0, "sizes": []}, "`input_dim` must be .*=0"),
    "output_dim": ({"output_dim": 2.0, "sizes": [1] * 3}, "`output_dim` must .*2.0"),
    "combiner": ({"sizes": [1] * 3, "combiner": "max"}, "`combiner` must be .*max"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        RowSizedEmbedding(**{"input_dim": 3, "output_dim": 4, **arguments})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("table", {"table": np.ones(3)}),
        ("table", {"table": [["a"] * 4] * 3}),
        ("projection", {"projection": np.ones((3, 4))}),
        ("constant", {"constant": np.ones(3)}),
        ("sizes", {"sizes": [1, 2, 5]}),
    ],
)
def test_from_dense_refuses_what_does_not_fit(name, change):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received"):
        RowSizedEmbedding.from_dense(
            **{"table": np.ones((3, 4)), "sizes": [1, 2, 3], **change}
        )


def test_what_the_layer_cannot_do_is_refused():
    layer, *_ = make("mixed")
    with pytest.raises(NotImplementedError, match="must be 'int8'.*int4"):
        layer.quantize("int4")
    with pytest.raises(ValueError, match="`weights` need a `combiner`"):
        layer(np.array([1]), np.array([1.0]))


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
def test_padding_is_no_part_of_what_is_combined(combiner):
    """Also where a loss would be masked by what is left of it."""
    table = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
    options = {"combiner": combiner, "mask_zero": True}
    layers = [
        RowSizedEmbedding.from_dense(table, [4] * 6 + [2], **options),
        keras_eds.layers.PrunedFieldEmbedding(7, 4, 4, **options),
        keras_eds.layers.MaskedTwinEmbedding(7, 4, counts=np.ones(7), **options),
    ]
    padded, short = np.array([[1, 2, 0, 0], [3, 3, 3, 0]]), np.array([[1, 2]])
    for layer in layers:
        vectors = numpy(layer(padded))
        np.testing.assert_allclose(vectors[:1], numpy(layer(short)), rtol=1e-5)
        weights = np.array([[2.0, 1.0, 9.0, 9.0]])
        np.testing.assert_allclose(
            numpy(layer(padded[:1], weights)),
            numpy(layer(short, weights[:, :2])),
            rtol=1e-5,
        )
        ids = keras.Input((4,), dtype="int32")
        model = keras.Model(ids, keras.layers.Dense(1)(layer(ids)))
        model.compile("sgd", "mse")
        model.fit(padded, np.zeros((2, 1)), verbose=0)


def test_rows_are_taken_before_the_layer_is_built_and_fit():
    layer = RowSizedEmbedding(4, 3, [3, 2, 1, 0])
    for rows in (np.ones((10, 3)), np.ones((4, 2)), np.ones(4)):
        with pytest.raises(ValueError, match="`table` must"):
            layer.build_from_rows(rows)
    layer.build_from_rows(np.ones((4, 3)))
    np.testing.assert_array_equal(layer.to_dense().sum(axis=1), [3, 2, 1, 0])
    with pytest.raises(ValueError, match="before layer.*from_dense"):
        layer.build_from_rows(np.ones((4, 3)))


def test_takes_a_table_of_half_precision():
    twins = keras_eds.layers.MaskedTwinEmbedding(
        10, 4, counts=np.arange(10), dtype="bfloat16"
    )
    cut = RowSizedEmbedding.from_dense(twins.embeddings, twins.sizes())
    kept = np.arange(4) < twins.sizes()[:, None]
    table = numpy(ops.cast(twins.embeddings, "float32"))
    np.testing.assert_allclose(cut.to_dense(), table * kept)
