"""The masked twin layer against its equations, written in plain NumPy."""

import json

import keras
import numpy as np
import pytest

from keras_eds.layers import MaskedTwinEmbedding
from keras_eds.layers.frequency_features import frequency_groups
from keras_eds.optimizers import LazyAdam

TENSORFLOW = keras.backend.backend() == "tensorflow"
tensorflow_only = pytest.mark.skipif(not TENSORFLOW, reason="looks into its graphs")
JIT = [False, True] if TENSORFLOW else ["auto"]
IDS, WIDTH = 9, 5
COUNTS = np.array([4, 0, 1, 1, 9, 4, 0, 250, 30])
BATCH = np.array([[0, 4, 1], [8, 4, 6], [3, 7, 5], [2, 4, 0]])
variants = pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"twins": False},
        {"min_size": 0, "temperature": 0.5},
        {"min_size": 3, "temperature": 3.0, "alpha_from": "rank"},
        {"mask_zero": True, "hidden_units": (6, 4), "activation": "tanh"},
        {"twins": False, "hidden_units": (6, 4), "alpha_from": "count"},
    ],
    ids=str,
)


def numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor))


def make(**arguments):
    """A layer whose twins have been moved from where they start."""
    layer = MaskedTwinEmbedding(IDS, WIDTH, COUNTS, seed=1, **arguments)
    rng = np.random.default_rng(24)
    for kernel in layer.masks.mlps.kernels:
        kernel.assign(rng.normal(size=kernel.shape))
    layer.embeddings.assign(rng.normal(size=(IDS, WIDTH)))
    return layer


class Reference:
    """The paper's equations for every id on its own, and their gradients."""

    def __init__(self, layer):
        groups = frequency_groups(
            COUNTS.astype(float), 50, layer.masks.alpha_from, layer.mask_zero
        )
        self.least, self.temperature = layer.masks.min_size, layer.masks._temperature
        self.relu = layer.masks.activation is keras.activations.relu
        self.seen = groups.of_id > 0
        features = groups.features[groups.of_id].astype(float)
        self.table = numpy(layer.embeddings).astype(float)
        kernels = [numpy(kernel).astype(float) for kernel in layer.masks.mlps.kernels]
        kernels[0] = kernels[0].transpose(1, 0, 2)
        alpha = features[:, 2:]
        self.mixes = [alpha, 1 - alpha] if layer.masks.twins else [1.0]
        self.nets = [[k[n] for k in kernels] for n in range(len(self.mixes))]
        self.inputs = [self.forward(features[:, :2], net) for net in self.nets]
        self.logits = sum(
            mix * (inputs[-1] @ net[-1])
            for mix, inputs, net in zip(self.mixes, self.inputs, self.nets, strict=True)
        )
        self.sizes = np.where(self.seen, self.least + self.logits.argmax(1), self.least)
        powers = np.exp(self.logits / self.temperature)
        self.t = powers / powers.sum(1, keepdims=True)
        self.t[~self.seen] = np.eye(self.t.shape[1])[0]
        self.mask = (np.arange(WIDTH) < self.sizes[:, None]).astype(float)
        self.expected = (self.t * (self.least + np.arange(self.t.shape[1]))).sum(1)

    def forward(self, values, net):
        inputs = []
        for kernel in net:
            values = np.concatenate([values, np.ones((len(values), 1))], axis=1)
            inputs.append(values)
            values = values @ kernel
            values = np.maximum(values, 0) if self.relu else np.tanh(values)
        return inputs

    def gradients(self, pull, penalty=0.0):
        """Those of the table and kernels, with dL/d(output) summed for each id."""
        choices = self.t.shape[1]
        wanted = np.zeros_like(self.t)
        for k in range(choices):
            kept = self.least + k
            wanted[:, k] = (pull * self.table)[:, :kept].sum(1) + penalty * kept / IDS
        mean = (self.t * wanted).sum(1, keepdims=True)
        by_logits = self.t * (wanted - mean) / self.temperature
        by_logits *= self.seen[:, None]
        by_net = [
            self.backward(mix * by_logits, inputs, net)
            for mix, inputs, net in zip(self.mixes, self.inputs, self.nets, strict=True)
        ]
        return self.mask * pull, [np.stack(k) for k in zip(*by_net, strict=True)]

    def backward(self, arriving, inputs, net):
        found = []
        for kernel, values in zip(net[::-1], inputs[::-1], strict=True):
            found.append(values.T @ arriving)
            below = values[:, :-1]
            slope = below > 0 if self.relu else 1 - below**2
            arriving = (
                (arriving @ kernel.T)[:, :-1] * slope if len(found) < len(net) else None
            )
        return found[::-1]


@variants
def test_outputs_and_sizes_equal_the_equations(arguments):
    layer = make(**arguments)
    wanted = Reference(layer)
    np.testing.assert_array_equal(layer.sizes(), wanted.sizes)
    assert len(set(wanted.sizes[wanted.seen])) > 1
    assert layer.expected_size() == pytest.approx(wanted.expected.mean(), rel=1e-5)
    dense = wanted.table * wanted.mask
    for ids in (BATCH, BATCH[0], BATCH[0, 1], BATCH[None], BATCH.astype("float32")):
        for training in (False, True, None):
            output = layer(keras.ops.convert_to_tensor(ids), training=training)
            np.testing.assert_allclose(numpy(output), dense[ids.astype(int)], rtol=1e-6)
        assert layer.compute_output_shape(np.shape(ids)) == output.shape


def train_once(layer, ids, pull, jit="auto"):
    """Moves every weight by minus its gradient of `sum(pull * output)`."""
    inputs = keras.Input(ids.shape[1:], dtype="int32")
    model = keras.Model(inputs, layer(inputs))
    loss = lambda y, output: keras.ops.sum(y * output)  # noqa: E731
    model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=jit)
    return model.train_on_batch(ids, pull)


@variants
@pytest.mark.parametrize("penalty", [None, 0.7])
def test_gradients_equal_the_closed_form(arguments, penalty):
    check_gradients(arguments, penalty, JIT[0])


@tensorflow_only
def test_gradients_under_xla():
    check_gradients({"min_size": 0}, 0.7, True)


def check_gradients(arguments, penalty, jit):
    layer = make(**arguments, size_penalty=penalty)
    wanted = Reference(layer)
    before = [numpy(v) for v in (layer.embeddings, *layer.masks.mlps.kernels)]
    pull = np.random.default_rng(2).normal(size=(*BATCH.shape, WIDTH))
    pull = pull.astype("float32")
    loss = train_once(layer, BATCH, pull, jit)

    by_id = np.zeros((IDS, WIDTH))
    np.add.at(by_id, BATCH, pull)
    table, kernels = wanted.gradients(by_id, penalty or 0.0)
    kernels[0] = kernels[0].transpose(1, 0, 2)
    after = [numpy(v) for v in (layer.embeddings, *layer.masks.mlps.kernels)]
    for old, new, gradient in zip(before, after, [table, *kernels], strict=True):
        np.testing.assert_allclose(old - new, gradient, rtol=2e-4, atol=2e-5)
    output = (wanted.table * wanted.mask)[BATCH]
    total = (pull * output).sum() + (penalty or 0.0) * wanted.expected.mean()
    assert loss == pytest.approx(total, rel=1e-4)


def test_ids_without_a_frequency_have_the_least_size_and_teach_nothing():
    layer = make(mask_zero=True, min_size=2)
    assert (layer.sizes()[[0, 1, 6]] == 2).all()
    ids = np.array([[0, 1, 6]])
    kernels = [numpy(kernel) for kernel in layer.masks.mlps.kernels]
    train_once(layer, ids, np.ones((1, 3, WIDTH), "float32"))
    for old, new in zip(kernels, layer.masks.mlps.kernels, strict=True):
        np.testing.assert_array_equal(old, numpy(new))
    for training in (False, True):
        output = numpy(layer(ids, training=training))
        assert (output[..., 2:] == 0).all() and (output[..., :2] != 0).all()


@pytest.mark.parametrize("min_size", [0, 1, 4])
def test_a_trained_table_is_whole_at_first(min_size):
    table = np.random.default_rng(0).normal(size=(IDS, WIDTH)).astype("float32")
    given = [
        MaskedTwinEmbedding.from_table(table, counts=COUNTS, min_size=min_size),
        MaskedTwinEmbedding(IDS, WIDTH, COUNTS, weights=[table], min_size=min_size),
    ]
    seen = np.flatnonzero(COUNTS)
    for layer in given:
        assert (layer.sizes()[seen] == WIDTH).all()
        assert (layer.sizes()[COUNTS == 0] == min_size).all()
        np.testing.assert_array_equal(numpy(layer(seen, training=True)), table[seen])


def test_new_counts_give_new_sizes_without_training():
    counts = np.random.default_rng(3).permutation(COUNTS)
    layer, other = make(), make()
    before = layer.sizes()
    layer.update_frequencies(counts)
    other.adapt(np.repeat(np.arange(IDS), COUNTS))
    np.testing.assert_array_equal(other.sizes(), before)
    # A second adapt starts anew.
    other.adapt([np.repeat(np.arange(IDS), counts)])
    np.testing.assert_array_equal(numpy(other.counts), counts)
    assert (layer.sizes() != before).any()
    np.testing.assert_array_equal(layer.sizes(), other.sizes())
    np.testing.assert_array_equal(numpy(layer(BATCH)), numpy(other(BATCH)))


def functional(layer):
    inputs = keras.Input((3,), dtype="int32")
    flat = keras.layers.Flatten()(layer(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(flat))


def test_asks_for_counts():
    layer = MaskedTwinEmbedding(IDS, WIDTH, name="things")
    for use in (lambda: layer(BATCH), layer.sizes, layer.expected_size):
        with pytest.raises(ValueError, match=r"'things'.*adapt\(data\).*counts="):
            use()
    model = functional(MaskedTwinEmbedding(IDS, WIDTH))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must know how often ids occur"):
        model.fit(BATCH, np.zeros((4, 1)), verbose=0)


def test_asks_for_counts_after_a_reload_without_any(tmp_path):
    path = tmp_path / "model.keras"
    functional(MaskedTwinEmbedding(IDS, WIDTH)).save(path)
    reloaded = keras.saving.load_model(path)
    with pytest.raises(ValueError, match="must know how often ids occur"):
        reloaded.predict(BATCH, verbose=0)


def test_set_weights_bring_the_counts():
    model = functional(make())
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(
        clone.predict(BATCH, verbose=0), model.predict(BATCH, verbose=0), rtol=1e-6
    )
    # Weights of a layer that knows nothing make one that knew forget.
    clone.set_weights(keras.models.clone_model(model).get_weights())
    with pytest.raises(ValueError, match="must know how often ids occur"):
        clone.layers[1](BATCH)


class Subclassed(keras.Model):
    def __init__(self, layer=None, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layer
        self.head = keras.layers.Dense(1)

    def call(self, inputs):
        return self.head(keras.ops.mean(self.embedding(inputs), axis=1))

    def get_config(self):
        return {"layer": keras.saving.serialize_keras_object(self.embedding)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["layer"]))


@pytest.mark.parametrize("kind", [functional, Subclassed])
def test_reloads_as_it_was(kind, tmp_path):
    layer = make(size_penalty=0.1, min_size=0, groups=20)
    model = kind(layer)
    model.compile(LazyAdam(0.01), "mse")
    model.fit(BATCH, np.ones((4, 1)), epochs=3, verbose=0)
    layer.temperature.assign(0.25)
    layer.size_penalty.assign(0.5)
    path = tmp_path / "model.keras"
    model.save(path)
    objects = {"Subclassed": Subclassed}
    again = keras.saving.load_model(path, custom_objects=objects)
    same = next(one for one in again.layers if isinstance(one, MaskedTwinEmbedding))
    np.testing.assert_array_equal(same.sizes(), layer.sizes())
    assert same.expected_size() == pytest.approx(layer.expected_size())
    assert float(same.temperature) == 0.25 and float(same.size_penalty) == 0.5
    np.testing.assert_allclose(
        again.predict(BATCH, verbose=0), model.predict(BATCH, verbose=0), rtol=1e-6
    )
    losses = [m.train_on_batch(BATCH, np.ones((4, 1))) for m in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_config_holds_no_counts():
    config = MaskedTwinEmbedding(1000, 4, np.arange(1000)).get_config()
    assert len(json.dumps(config)) < 2000
    assert not {"counts", "weights"} & set(config)


class Raise(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.layers[1].size_penalty.assign(5.0)


@pytest.mark.parametrize("callbacks", [[], [Raise()]])
def test_the_penalty_lowers_sizes_when_it_is_raised(callbacks):
    layer = MaskedTwinEmbedding(IDS, WIDTH, COUNTS, size_penalty=0.0, seed=0)
    model = functional(layer)
    model.compile(keras.optimizers.Adam(0.05), lambda y, output: 0.0 * output)
    first = layer.expected_size()
    model.fit(BATCH, np.zeros((4, 1)), epochs=40, verbose=0, callbacks=callbacks)
    if callbacks:
        assert (layer.sizes() == 1).all() and layer.expected_size() < 1.5
    else:
        assert layer.expected_size() == pytest.approx(first)


def test_no_penalty_no_loss():
    layer = make()
    layer(BATCH, training=True)
    assert layer.losses == [] and layer.size_penalty is None
    layer = make(size_penalty=2.0)
    layer(BATCH, training=False)
    assert layer.losses == []
    layer(BATCH, training=True)
    assert float(numpy(layer.losses[0])) == pytest.approx(2 * layer.expected_size())


def test_finds_how_many_values_are_useful():
    """Ids that occur often have 6 values to be learned, the others 2."""
    rng = np.random.default_rng(0)
    ids, often = 40, 8
    share = 1 / np.arange(1, ids + 1)
    useful = np.where(np.arange(ids) < often, 6, 2)
    values = rng.normal(size=(ids, 8)) * (np.arange(8) < useful[:, None])
    batch = rng.choice(ids, 20000, p=share / share.sum())
    layer = MaskedTwinEmbedding(ids, 8, size_penalty=0.005, seed=0)
    layer.adapt(batch)
    model = keras.Sequential([keras.Input((), dtype="int32"), layer])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    model.fit(batch, values[batch], batch_size=200, epochs=3, verbose=0)
    sizes = layer.sizes()
    # Sizes are a smooth function of the count: the border may be off by an id.
    assert (sizes[: often - 2] == 6).all() and (sizes[often + 3 :] == 2).all()


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_combiners_reduce_masked_rows(combiner, weighted):
    layer = make(combiner=combiner)
    wanted = Reference(layer)
    scale = np.random.default_rng(0).random(BATCH.shape).astype("float32") + 0.1
    scale = scale if weighted else np.ones_like(scale)
    total = {
        "sum": 1.0,
        "mean": scale.sum(1, keepdims=True),
        "sqrtn": np.sqrt((scale**2).sum(1, keepdims=True)),
    }[combiner]
    rows = (wanted.table * wanted.mask)[BATCH]
    dense = (rows * (scale / total)[..., None]).sum(1)
    output = layer(BATCH, scale) if weighted else layer(BATCH)
    np.testing.assert_allclose(numpy(output), dense, rtol=1e-4, atol=1e-6)
    assert layer.compute_output_shape(BATCH.shape) == dense.shape


def test_mask_and_shapes_follow_keras():
    layer = make(mask_zero=True)
    np.testing.assert_array_equal(numpy(layer.compute_mask(BATCH)), BATCH != 0)
    assert layer.supports_masking and make().compute_mask(BATCH) is None
    spec = keras.Input((None, 3), dtype="int32")
    assert layer(spec).shape == (None, None, 3, WIDTH)
    with pytest.raises(NotImplementedError, match="cannot be quantized"):
        layer.quantize("int8")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_dtype_policies(policy):
    layer = make(dtype=policy)
    wanted = Reference(layer)
    assert layer.masks.mlps.kernels[0].dtype == "float32"
    np.testing.assert_array_equal(layer.sizes(), wanted.sizes)
    output = layer(BATCH, training=True)
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    dense = (wanted.table * wanted.mask)[BATCH]
    output = numpy(keras.ops.cast(output, "float32"))
    np.testing.assert_allclose(output, dense, rtol=0.01)
    np.testing.assert_array_equal(output == 0, dense == 0)
    model = Subclassed(layer, dtype=policy)
    model.compile("adam", "mse")
    loss = model.fit(BATCH, np.ones((4, 1)), verbose=0).history["loss"]
    assert np.isfinite(loss).all()


def test_float_ids_are_not_rounded_to_half_precision():
    table = np.arange(5000.0)[:, None] % 7
    layer = MaskedTwinEmbedding.from_table(
        table, counts=np.ones(5000), dtype="mixed_float16"
    )
    ids = np.array([2049.0, 4097.0, 4999.0], "float32")
    output = numpy(layer(keras.ops.convert_to_tensor(ids)))
    np.testing.assert_array_equal(output[:, 0], ids % 7)


@tensorflow_only
@pytest.mark.parametrize("jit", [False, True])
def test_only_the_batch_is_read_and_moved(jit):
    import tensorflow as tf

    layer = MaskedTwinEmbedding(1000, WIDTH, np.arange(1000), size_penalty=0.1)
    with tf.GradientTape() as tape:
        total = keras.ops.sum(layer(BATCH, training=True))
    gradient = tape.gradient(total, layer.embeddings.value)
    assert isinstance(gradient, tf.IndexedSlices)
    before = numpy(layer.embeddings)
    model = functional(layer)
    model.compile(LazyAdam(0.1), "mse", jit_compile=jit)
    step = tf.function(lambda x, y: model.train_step((x, y)), jit_compile=jit)
    for _ in range(2):
        step(tf.constant(BATCH), tf.ones((4, 1)))
    moved = (numpy(layer.embeddings) != before).any(1)
    assert moved[np.unique(BATCH[BATCH > 0])].all() and moved.sum() <= IDS
    graph = step.get_concrete_function(
        tf.TensorSpec((4, 3), "int64"), tf.TensorSpec((4, 1))
    ).graph
    whole = {
        op.type
        for op in graph.get_operations()
        for output in op.outputs
        if output.shape.rank and output.shape[0] == 1000
    }
    assert not whole


def test_frozen_parts_stay():
    layer = make()
    layer.embeddings.trainable = False
    table = numpy(layer.embeddings)
    train_once(layer, BATCH, np.ones((*BATCH.shape, WIDTH), "float32"))
    np.testing.assert_array_equal(numpy(layer.embeddings), table)
    layer.trainable = False
    assert layer.trainable_variables == []


def test_seeds_repeat_the_twins():
    layers = [MaskedTwinEmbedding(3, 4, [1, 2, 3], seed=s) for s in (5, 5, 6)]
    kernels = [[numpy(k) for k in layer.masks.mlps.kernels] for layer in layers]
    np.testing.assert_array_equal(kernels[0][0], kernels[1][0])
    assert (kernels[0][0] != kernels[2][0]).any()
    frequent, rare = kernels[0][0][:, 0], kernels[0][0][:, 1]
    assert (frequent[:-1] != rare[:-1]).all() and not frequent[-1].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": 0}, "`input_dim` must be an integer of at least 1"),
        ({"output_dim": 2.0}, "`output_dim` must be an integer of at least 1"),
        ({"counts": [1, 2]}, r"`counts` must be numbers of shape \(9,\)"),
        ({"counts": -COUNTS}, "`counts` must be finite and at least 0"),
        ({"counts": COUNTS * np.nan}, "`counts` must be finite"),
        ({"counts": COUNTS * 0}, "`counts` must be above 0"),
        ({"groups": 1}, "`groups` must be an integer of at least 2"),
        ({"hidden_units": 3}, "`hidden_units` must be one or more integers"),
        ({"hidden_units": ()}, "`hidden_units` must"),
        ({"hidden_units": (0,)}, "`hidden_units` must"),
        ({"alpha_from": "time"}, "`alpha_from` must be one of"),
        ({"temperature": 0}, "`temperature` must be a finite number above 0"),
        ({"temperature": float("nan")}, "`temperature` must be"),
        ({"temperature": "hot"}, "`temperature` must be"),
        ({"min_size": -1}, "`min_size` must be an integer from 0 to output_dim=5"),
        ({"min_size": 6}, "`min_size` must be an integer from 0 to output_dim=5"),
        ({"size_spread": 0}, "`size_spread` must be a finite number above 0"),
        ({"size_penalty": -0.1}, "`size_penalty` must be a finite number of at"),
        ({"weights": np.zeros((9, 4))}, r"`weights` must be numbers of shape \(9, 5"),
        ({"weights": [["a"]]}, "`weights` must be numbers"),
        ({"combiner": "max"}, "`combiner` must be"),
    ],
    ids=str,
)
def test_refuses_arguments_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaskedTwinEmbedding(**{"input_dim": IDS, "output_dim": WIDTH, **arguments})


def test_refuses_by_name_after_construction():
    with pytest.raises(ValueError, match="`weights` must be numbers of shape"):
        MaskedTwinEmbedding.from_table(np.zeros(3))
    layer = make()
    with pytest.raises(ValueError, match="`counts` must"):
        layer.update_frequencies([1, 2])
    with pytest.raises(ValueError, match="`data` must"):
        layer.adapt(np.array([IDS]))
    np.testing.assert_array_equal(numpy(layer.counts), COUNTS)
    with pytest.raises(ValueError, match="`weights` need a `combiner`"):
        layer(BATCH, BATCH)


@pytest.mark.parametrize("kind", ["series", "list", "ragged", "sparse"])
def test_counts_what_is_there_and_no_gaps(kind):
    tf = pytest.importorskip("tensorflow")
    pandas = pytest.importorskip("pandas")
    rows = [[1, 2], [3], [4, 5, 6, 3]]
    flat = np.concatenate(rows)
    if kind in ("ragged", "sparse"):
        if keras.backend.backend() != "tensorflow":
            pytest.skip("its tensors")
        ragged = tf.ragged.constant(rows, dtype="int32")
        data = ragged if kind == "ragged" else ragged.to_sparse()
    else:
        data = pandas.Series(flat) if kind == "series" else flat.tolist()
    layer = MaskedTwinEmbedding(8, 4)
    layer.adapt(data)
    np.testing.assert_array_equal(layer.counts, [0, 1, 1, 2, 1, 1, 1, 0])


@pytest.mark.parametrize("do", ["fit", "evaluate", "predict"])
def test_unbuilt_model_says_that_counts_are_not_known(do):
    layers = [MaskedTwinEmbedding(5, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    labels = {} if do == "predict" else {"y": np.zeros((2, 1))}
    with pytest.raises(ValueError, match="must know how often ids occur"):
        getattr(model, do)(np.array([[0, 1], [2, 3]]), verbose=0, **labels)
