"""The lazy optimizers against plain NumPy, with dense gradients."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_eds.optimizers import LazyAdagrad, LazyAdam

# Reading a Keras variable warns so on TensorFlow, as in `model.save`.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)
TENSORFLOW = keras.backend.backend() == "tensorflow"
sparse_only = pytest.mark.skipif(
    not TENSORFLOW, reason="only TensorFlow has sparse gradients (tf.IndexedSlices)"
)
LEARNING_RATE = 0.1
CLASSES = pytest.mark.parametrize("lazy_class", [LazyAdam, LazyAdagrad])


class Reference:
    """One variable under Adam or Adagrad, as their papers write them."""

    def __init__(self, value, kind, lazy, amsgrad=False, weight_decay=0.0):
        self.value = np.array(value, "float64")
        self.kind, self.lazy, self.amsgrad = kind, lazy, amsgrad
        self.weight_decay = weight_decay
        self.m = np.zeros_like(self.value)
        self.v = np.full_like(self.value, 0.1 if kind is LazyAdagrad else 0.0)
        self.largest = np.zeros_like(self.value)
        self.t = 0

    def step(self, gradient, touched, rate=LEARNING_RATE):
        self.t += 1
        rows = np.unique(touched) if self.lazy else np.arange(len(self.value))
        g = gradient[rows]
        self.value[rows] -= self.weight_decay * rate * self.value[rows]
        if self.kind is LazyAdagrad:
            self.v[rows] += g**2
            self.value[rows] -= rate * g / np.sqrt(self.v[rows] + 1e-7)
            return
        self.m[rows] = 0.9 * self.m[rows] + 0.1 * g
        self.v[rows] = 0.999 * self.v[rows] + 0.001 * g**2
        self.largest[rows] = np.maximum(self.largest[rows], self.v[rows])
        v = self.largest[rows] if self.amsgrad else self.v[rows]
        alpha = rate * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        self.value[rows] -= alpha * self.m[rows] / (np.sqrt(v) + 1e-7)


def dense_gradient(ids, slices, shape):
    gradient = np.zeros(shape)
    np.add.at(gradient, ids, slices)
    return gradient


def to_numpy(variable):
    return variable.numpy()


def slices_or_dense(ids, slices, shape):
    if not TENSORFLOW:
        gradient = dense_gradient(ids, slices, shape).astype("float32")
        return keras.ops.convert_to_tensor(gradient)
    import tensorflow as tf

    return tf.IndexedSlices(
        tf.constant(slices, "float32"), tf.constant(ids), tf.constant(shape)
    )


BATCHES = {
    "repeated": (6, [[1, 3, 3, 5], [3, 0, 0, 0], [1, 1, 4, 5]]),
    "all the same": (6, [[2, 2, 2, 2]] * 3),
    "one row": (1, [[0, 0, 0]] * 3),
    "distinct": (6, [[0, 1, 2], [5, 3, 1], [2, 4, 0]]),
}


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize(
    ("lazy_class", "options"),
    [(LazyAdam, {}), (LazyAdam, {"amsgrad": True}), (LazyAdagrad, {})],
)
@pytest.mark.parametrize("tail", [(3,), (), (2, 2)], ids=str)
def test_steps_equal_the_formula(batches, lazy_class, options, tail):
    rng = np.random.default_rng(0)
    size, steps = BATCHES[batches]
    shape = (size, *tail)
    start = rng.normal(size=shape)
    variable = keras.Variable(start, dtype="float32")
    optimizer = lazy_class(LEARNING_RATE, **options)
    # Adagrad is held against the dense formula: laziness may not show.
    lazy = TENSORFLOW and lazy_class is LazyAdam
    reference = Reference(start, lazy_class, lazy, **options)
    for number, ids in enumerate(steps):
        # The first step is the largest, so that amsgrad has something to keep.
        slices = rng.normal(size=(len(ids), *tail)) * (10 if number == 0 else 1)
        gradient = slices_or_dense(ids, slices, shape)
        optimizer.apply([gradient], [variable])
        reference.step(dense_gradient(ids, slices, shape), ids)
        value = to_numpy(variable)
        np.testing.assert_allclose(value, reference.value, rtol=2e-5, atol=1e-5)


@sparse_only
def test_untouched_rows_and_moments_stay():
    variable = keras.Variable(np.ones((4, 2)), dtype="float32")
    optimizer = LazyAdam(LEARNING_RATE)
    optimizer.apply([slices_or_dense([0, 1], np.ones((2, 2)), (4, 2))], [variable])
    before = [v.numpy() for v in (variable, *optimizer.variables[2:])]
    optimizer.apply([slices_or_dense([1, 1], np.ones((2, 2)), (4, 2))], [variable])
    after = [v.numpy() for v in (variable, *optimizer.variables[2:])]
    assert len(after) == 3
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[[0, 2, 3]], new[[0, 2, 3]])
        assert (old[1] != new[1]).all()


@pytest.mark.skipif(TENSORFLOW, reason="TensorFlow has sparse gradients")
def test_dense_adam_without_sparse_gradients():
    variables = [keras.Variable(np.ones((4, 2)), dtype="float32") for _ in range(2)]
    optimizers = [LazyAdam(LEARNING_RATE), keras.optimizers.Adam(LEARNING_RATE)]
    for ids in ([0, 1], [1, 2]):
        for variable, optimizer in zip(variables, optimizers, strict=True):
            gradient = slices_or_dense(ids, np.ones((2, 2)), (4, 2))
            optimizer.apply([gradient], [variable])
    lazy, dense = map(to_numpy, variables)
    np.testing.assert_allclose(lazy, dense, rtol=1e-6)
    assert lazy[0, 0] < lazy[2, 0] - 1e-3  # row 0 went on by its momentum


OPTIONS = [
    {"weight_decay": 0.1},
    {"clipnorm": 0.5},
    {"clipvalue": 0.2},
    {"global_clipnorm": 0.5},
    {"loss_scale_factor": 8.0},
]


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
@CLASSES
def test_dense_variables_are_left_to_the_parent(lazy_class, options):
    rng = np.random.default_rng(1)
    parent_class = getattr(keras.optimizers, lazy_class.__name__[4:])
    starts = [rng.normal(size=(5, 3)), rng.normal(size=(3,))]
    ours = [keras.Variable(s, dtype="float32") for s in starts]
    theirs = [keras.Variable(s, dtype="float32") for s in starts]
    lazy = lazy_class(LEARNING_RATE, **options)
    parent = parent_class(LEARNING_RATE, **options)
    for _ in range(3):
        gradients = [
            keras.ops.convert_to_tensor(rng.normal(size=s.shape).astype("float32"))
            for s in starts
        ]
        lazy.apply(gradients, ours)
        parent.apply(gradients, theirs)
    for our, their, start in zip(ours, theirs, starts, strict=True):
        our, their = to_numpy(our), to_numpy(their)
        np.testing.assert_allclose(our, their, rtol=1e-6, atol=1e-7)
        assert abs(our - start).min() > 1e-6


COMBINED = {"weight_decay": 0.1, "global_clipnorm": 0.5, "loss_scale_factor": 8.0}
ROWS, WIDTH, LENGTH = 12, 3, 2


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(ROWS, WIDTH, embeddings_initializer="normal"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, use_bias=False),
        ]
    )


def make_data(batches=4, size=8):
    rng = np.random.default_rng(2)
    # Squared, so that low ids repeat within a batch and high ids are missing.
    ids = (rng.random((batches * size, LENGTH)) ** 2 * ROWS).astype("int32")
    return ids, rng.normal(size=(batches * size, 1)).astype("float32")


def clip(gradients, clipnorm=None, clipvalue=None, global_clipnorm=None, **_):
    def norm(*arrays):
        return np.sqrt(sum((a**2).sum() for a in arrays))

    if clipnorm:
        return [g * min(1, clipnorm / norm(g)) for g in gradients]
    if global_clipnorm:
        return [g * min(1, global_clipnorm / norm(*gradients)) for g in gradients]
    if clipvalue:
        return [np.clip(g, -clipvalue, clipvalue) for g in gradients]
    return gradients


def fit_in_numpy(weights, ids, y, lazy_class, rates, size=8, lazy=None, **options):
    """Trains `make_model` on batches of `size`; returns table and kernel."""
    lazy = TENSORFLOW if lazy is None else lazy
    decay = options.get("weight_decay", 0.0)
    table = Reference(weights[0], lazy_class, lazy, weight_decay=decay)
    kernel = Reference(weights[1], lazy_class, False, weight_decay=decay)
    for number, rate in enumerate(rates):
        batch = slice(number * size, (number + 1) * size)
        inputs = table.value[ids[batch]].reshape(size, -1)
        slope = 2 * (inputs @ kernel.value - y[batch]) / size
        slices = (slope @ kernel.value.T).reshape(size, LENGTH, WIDTH)
        gradients = [
            dense_gradient(ids[batch], slices, table.value.shape),
            inputs.T @ slope,
        ]
        gradients = clip(gradients, **options)
        table.step(gradients[0], ids[batch], rate)
        kernel.step(gradients[1], None, rate)
    return table.value, kernel.value


def fit_in_keras(optimizer, batches=4, **compile_options):
    model = make_model()
    start = model.get_weights()
    ids, y = make_data(batches)
    model.compile(optimizer=optimizer, loss="mse", **compile_options)
    model.fit(ids, y, batch_size=8, shuffle=False, verbose=0)
    return start, ids, y, model.get_weights()


def assert_fit_equals_numpy(lazy_class, compile_options, **options):
    optimizer = lazy_class(LEARNING_RATE, **options)
    start, ids, y, weights = fit_in_keras(optimizer, **compile_options)
    expected = fit_in_numpy(start, ids, y, lazy_class, [LEARNING_RATE] * 4, **options)
    for value, truth in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
@CLASSES
def test_fit_equals_numpy(lazy_class, options):
    assert_fit_equals_numpy(lazy_class, {"jit_compile": False}, **options)


@sparse_only
@pytest.mark.parametrize("options", [{}, COMBINED], ids=str)
@CLASSES
def test_compiled_fit_equals_numpy(lazy_class, options):
    assert_fit_equals_numpy(lazy_class, {"jit_compile": True}, **options)


@CLASSES
def test_a_table_can_be_excluded_from_weight_decay(lazy_class):
    excluding = lazy_class(LEARNING_RATE, weight_decay=0.1)
    excluding.exclude_from_weight_decay(var_names=["table"])
    variables = [
        keras.Variable(np.ones((3, 2)), dtype="float32", name=n)
        for n in ("table", "other")
    ]
    gradients = [slices_or_dense([0, 2], np.ones((2, 2)), (3, 2)) for _ in "ab"]
    excluding.apply(gradients, variables)
    table, other = map(to_numpy, variables)
    np.testing.assert_allclose(table[0] - other[0], 0.1 * LEARNING_RATE, rtol=1e-4)


@CLASSES
def test_learning_rate_schedule(lazy_class):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.2, 1, 0.5)
    start, ids, y, weights = fit_in_keras(lazy_class(schedule), jit_compile=False)
    rates = [0.2, 0.1, 0.05, 0.025]
    expected = fit_in_numpy(start, ids, y, lazy_class, rates)
    for value, truth in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, truth, rtol=1e-4, atol=1e-4)


@CLASSES
def test_loss_scale_optimizer(lazy_class):
    wrapped = keras.optimizers.LossScaleOptimizer(
        lazy_class(LEARNING_RATE), initial_scale=64.0
    )
    start, ids, y, weights = fit_in_keras(wrapped, jit_compile=False)
    expected = fit_in_numpy(start, ids, y, lazy_class, [LEARNING_RATE] * 4)
    for value, truth in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, truth, rtol=1e-4, atol=1e-4)


@sparse_only
def test_mixed_float16_skips_steps_that_overflow():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model()
        ids, y = make_data(batches=4)
        model.compile(optimizer=LazyAdam(LEARNING_RATE), loss="mse", jit_compile=False)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        model.optimizer.initial_scale = 2.0**40
        start = model.get_weights()
        model.fit(ids[:8], y[:8], batch_size=8, verbose=0)
        for old, new in zip(start, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        model.optimizer.dynamic_scale.assign(64.0)
        model.fit(ids, y, batch_size=8, shuffle=False, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    expected = fit_in_numpy(start, ids, y, LazyAdam, [LEARNING_RATE] * 4)
    for value, truth in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(value, truth, atol=0.02)


@sparse_only
@CLASSES
def test_a_step_makes_nothing_of_the_size_of_the_table(lazy_class):
    import tensorflow as tf

    rows = 977
    variable = keras.Variable(np.zeros((rows, 2)), dtype="float32")
    for options in ({}, *OPTIONS):
        optimizer = lazy_class(LEARNING_RATE, **options)
        optimizer.build([variable])

        @tf.function
        def step(ids, slices, optimizer=optimizer):
            gradient = tf.IndexedSlices(slices, ids, tf.constant([rows, 2]))
            optimizer.apply([gradient], [variable])

        graph = step.get_concrete_function(
            tf.TensorSpec([4], "int32"), tf.TensorSpec([4, 2])
        ).graph
        operations = graph.get_operations()
        assert {"ResourceGather", "ResourceScatterUpdate"} <= {
            o.type for o in operations
        }
        for operation in operations:
            for output in operation.outputs:
                assert rows not in (output.shape.dims or []), (options, operation)


@pytest.mark.parametrize(
    ("argument", "value"), [("use_ema", True), ("gradient_accumulation_steps", 2)]
)
@CLASSES
def test_arguments_that_cost_the_whole_table_are_refused(lazy_class, argument, value):
    parent = lazy_class.__name__.removeprefix("Lazy")
    message = rf"`{argument}` must be .* Received: {argument}={value}.*{parent}"
    with pytest.raises(ValueError, match=message):
        lazy_class(**{argument: value})


@CLASSES
def test_config_round_trip(lazy_class):
    options = {"amsgrad": True} if lazy_class is LazyAdam else {"epsilon": 1e-3}
    optimizer = lazy_class(0.25, weight_decay=0.1, clipnorm=2.0, **options)
    config = keras.optimizers.serialize(optimizer)
    assert config["registered_name"] == f"keras_eds>{lazy_class.__name__}"
    again = keras.optimizers.deserialize(config)
    assert type(again) is lazy_class
    assert again.get_config() == optimizer.get_config()
    assert again.clipnorm == 2.0 and again.weight_decay == 0.1


@CLASSES
def test_training_goes_on_after_saving(lazy_class, tmp_path):
    model = make_model()
    ids, y = make_data(4)
    model.compile(optimizer=lazy_class(0.1), loss="mse", jit_compile=False)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    start = model.get_weights()
    model.fit(ids[:16], y[:16], **options)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is lazy_class
    again.fit(ids[16:], y[16:], **options)
    expected = fit_in_numpy(start, ids, y, lazy_class, [0.1] * 4)
    for value, truth in zip(again.get_weights(), expected, strict=True):
        np.testing.assert_allclose(value, truth, rtol=1e-4, atol=1e-4)


MIRRORED = """
    import sys
    import numpy as np
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, logical)
    sys.path.insert(0, sys.argv[1])
    import test_optimizers as t
    # Each replica clips by itself: what clips nothing changes nothing.
    for lazy_class in (t.LazyAdam, t.LazyAdagrad):
        for options in ({}, {**t.COMBINED, "global_clipnorm": 100.0}):
            strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
            with strategy.scope():
                result = t.fit_in_keras(lazy_class(0.1, **options), jit_compile=False)
            start, ids, y, weights = result
            truth = t.fit_in_numpy(start, ids, y, lazy_class, [0.1] * 4, **options)
            for value, expected in zip(weights, truth):
                np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    print("replicas:", strategy.num_replicas_in_sync)
"""


@sparse_only
def test_mirrored_strategy():
    # Logical devices can be set only before TensorFlow starts.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MIRRORED), os.path.dirname(__file__)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "replicas: 2" in done.stdout
