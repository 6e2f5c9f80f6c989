"""A run with LazyAdagrad against tf_keras's Adagrad and against NumPy."""

import keras
import numpy as np
import pytest

from keras_eds.optimizers import LazyAdagrad

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="only TensorFlow has sparse gradients (tf.IndexedSlices)",
)
ROWS, WIDTH, LENGTH, BATCH, STEPS, RATE = 40, 4, 5, 32, 30, 0.3


def make_batches():
    """Ids so skewed that most come many times in a batch, some never."""
    rng = np.random.default_rng(0)
    ids = (rng.random((STEPS, BATCH, LENGTH)) ** 3 * ROWS).astype("int32")
    effect = rng.normal(size=ROWS) * 3
    return ids, effect[ids].mean(-1, keepdims=True).astype("float32")


def make_weights():
    rng = np.random.default_rng(1)
    shapes = ((ROWS, WIDTH), (LENGTH * WIDTH, 1), (1,))
    return [rng.normal(size=shape).astype("float32") * 0.3 for shape in shapes]


def train(keras, optimizer, ids, y):
    """The loss of each batch before its step, and the weights at the end."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((LENGTH,), dtype="int32"),
            layers.Embedding(ROWS, WIDTH),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.set_weights(make_weights())
    model.compile(optimizer, "mse")
    losses = []
    for batch in zip(ids, y, strict=True):
        losses.append(float(model.train_on_batch(*batch)))
        model.reset_metrics()
    return losses, model.get_weights()


def train_in_numpy(ids, y, squares_of_slices=False):
    """Adagrad on dense gradients, every row of the table in each step.

    With `squares_of_slices` the table's accumulator adds `sum(g**2)` over the
    slices of a row where Adagrad has `sum(g)**2`.
    """
    weights = [w.astype("float64") for w in make_weights()]
    accumulators = [np.full_like(w, 0.1) for w in weights]
    losses = []
    for batch, target in zip(ids, y, strict=True):
        table, kernel, bias = weights
        inputs = table[batch].reshape(BATCH, -1)
        error = inputs @ kernel + bias - target
        losses.append((error**2).mean())
        slope = 2 * error / BATCH
        gradients = [np.zeros_like(table), inputs.T @ slope, slope.sum(0)]
        slices = (slope @ kernel.T).reshape(BATCH, LENGTH, WIDTH)
        np.add.at(gradients[0], batch, slices)
        squares = [g**2 for g in gradients]
        if squares_of_slices:
            squares[0] = np.zeros_like(table)
            np.add.at(squares[0], batch, slices**2)
        for w, a, g, s in zip(weights, accumulators, gradients, squares, strict=True):
            a += s
            w -= RATE * g / np.sqrt(a + 1e-7)
    return losses, weights


def assert_equal_runs(run, truth):
    np.testing.assert_allclose(run[0], truth[0], rtol=2e-4, atol=1e-6)
    for value, expected in zip(run[1], truth[1], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=2e-4)


@pytest.fixture(scope="module")
def lazy_run():
    return train(keras, LazyAdagrad(RATE), *make_batches())


def test_run_equals_tf_keras(lazy_run):
    import tf_keras

    theirs = train(tf_keras, tf_keras.optimizers.Adagrad(RATE), *make_batches())
    assert_equal_runs(lazy_run, theirs)


def test_run_equals_numpy(lazy_run):
    truth = train_in_numpy(*make_batches())
    assert_equal_runs(lazy_run, truth)
    assert truth[0][-1] < 0.3 * truth[0][0]


def test_the_data_tell_squares_of_sums_from_sums_of_squares():
    right = train_in_numpy(*make_batches())[0]
    wrong = train_in_numpy(*make_batches(), squares_of_slices=True)[0]
    difference = np.abs(np.divide(wrong, right) - 1)
    assert difference[0] == 0
    assert np.median(difference) > 0.02
