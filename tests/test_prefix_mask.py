"""The prefix masks against their formulas, term by term."""

import keras
import numpy as np
import pytest

from keras_eds.layers import prefix_mask

WIDTH = 5
least = pytest.mark.parametrize("min_size", [0, 1, 3, WIDTH])


def numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor))


def tensor(array):
    return keras.ops.convert_to_tensor(array)


def logits_for(min_size, ids=7):
    rng = np.random.default_rng(0)
    return rng.normal(size=(ids, WIDTH - min_size + 1)).astype("float32")


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@least
def test_masks_equal_their_sums(min_size):
    logits = logits_for(min_size)
    matrix = prefix_mask.prefix_matrix(WIDTH, min_size)
    hard = numpy(prefix_mask.hard_mask(tensor(logits), matrix, min_size))
    soft = numpy(prefix_mask.soft_mask(tensor(logits), matrix))
    sizes = numpy(prefix_mask.hard_sizes(tensor(logits), min_size))
    for i, row in enumerate(logits):
        best = min_size + max(range(len(row)), key=row.__getitem__)
        assert sizes[i] == best
        np.testing.assert_array_equal(hard[i], [1.0] * best + [0.0] * (WIDTH - best))
        t = softmax(row)
        for j in range(WIDTH):
            kept = sum(t[k] for k in range(len(t)) if j < min_size + k)
            np.testing.assert_allclose(soft[i, j], kept, rtol=1e-5, atol=1e-7)
        expected = sum(t[k] * (min_size + k) for k in range(len(t)))
        np.testing.assert_allclose(soft[i].sum(), expected, rtol=1e-5)


class Masked(keras.layers.Layer):
    """`m * e` for logits that are a weight."""

    def __init__(self, logits, vectors, min_size, temperature):
        super().__init__()
        self.settings = (vectors, min_size, temperature)
        self.logits = self.add_weight(shape=logits.shape, name="logits")
        self.logits.assign(logits)

    def call(self, inputs):
        vectors, min_size, temperature = self.settings
        matrix = prefix_mask.prefix_matrix(WIDTH, min_size)
        logits = keras.ops.convert_to_tensor(self.logits) / temperature
        hard = prefix_mask.hard_mask(logits, matrix, min_size)
        soft = prefix_mask.soft_mask(logits, matrix)
        return inputs * prefix_mask.straight_through(hard, soft) * tensor(vectors)


@least
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_gradient_is_that_of_the_soft_mask_in_closed_form(min_size, temperature):
    logits = logits_for(min_size)
    rng = np.random.default_rng(1)
    vectors, pull = rng.normal(size=(2, *logits.shape[:1], WIDTH)).astype("float32")
    layer = Masked(logits, vectors, min_size, temperature)
    model = keras.Sequential([layer])
    model.compile(
        keras.optimizers.SGD(1.0), lambda y, output: keras.ops.sum(y * output)
    )
    ones = np.ones((len(logits), WIDTH), "float32")
    model.train_on_batch(ones, pull)

    t = softmax(logits / temperature)
    gradient = np.zeros_like(t)
    for i, k in np.ndindex(*t.shape):
        gradient[i, k] = (pull[i] * vectors[i])[: min_size + k].sum()
    mean = (t * gradient).sum(-1, keepdims=True)
    wanted = t * (gradient - mean) / temperature
    np.testing.assert_allclose(
        logits - numpy(layer.logits), wanted, rtol=1e-4, atol=1e-5
    )


def test_straight_through_is_exactly_the_hard_mask():
    rng = np.random.default_rng(0)
    soft = rng.random(1000).astype("float32")
    hard = (rng.random(1000) < 0.5).astype("float32")
    np.testing.assert_array_equal(
        numpy(prefix_mask.straight_through(tensor(hard), tensor(soft))),
        hard,
    )


def test_equal_logits_choose_the_smaller_size():
    matrix = prefix_mask.prefix_matrix(3, 1)
    logits = np.array([[0.0, 2.0, 2.0]], "float32")
    np.testing.assert_array_equal(
        numpy(prefix_mask.hard_mask(tensor(logits), matrix, 1)), [[1.0, 1.0, 0.0]]
    )
