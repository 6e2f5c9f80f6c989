"""Vectors of length 1, also of examples without ids, and sums in half precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_eds.models import (
    NCF,
    BipartiteGraph,
    FieldSpec,
    MaskedMean,
    MatrixFactorization,
    TwoTower,
)
from keras_eds.models.unit_vector import UnitVector

ROWS = np.array([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]], "float32")


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(ops.stop_gradient(tensor), "float32"))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_lengths_are_1_and_zero_stays_zero(policy):
    vectors = numpy(UnitVector(dtype=policy)(ROWS))
    right = [[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]
    np.testing.assert_allclose(vectors, right, atol=0.005)


@pytest.mark.parametrize("jit", [False, True])
def test_an_example_without_ids_teaches_nothing_and_breaks_nothing(jit):
    if keras.backend.backend() == "torch" and jit:
        pytest.skip("has no XLA")
    model = TwoTower(
        [FieldSpec("history", 10, multi_hot=True)],
        [FieldSpec("item", 10)],
        normalize=True,
        temperature=0.1,
        seed=0,
    )
    model.compile(keras.optimizers.SGD(0.01), "binary_crossentropy", jit_compile=jit)
    x = {
        "history": np.array([[1, 2, 3], [0, 0, 0], [4, 0, 0], [5, 6, 0]]),
        "item": np.array([1, 2, 3, 4]),
    }
    losses = model.fit(x, np.array([1.0, 0, 1, 0]), epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert all(np.abs(w).max() < 10 for w in model.get_weights())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_over_many_neighbours_do_not_stand_still(dtype):
    users = 20_000
    edges = (np.arange(users), np.zeros(users, int))
    graph = BipartiteGraph(users, 2, edges=edges, dtype=f"mixed_{dtype}")
    sums = numpy(graph(ops.ones((users + 2, 1), dtype)))
    assert sums[users, 0] == pytest.approx(np.sqrt(users), rel=0.01)
    many = ops.ones((1, 3000, 2), dtype)
    mean = numpy(
        MaskedMean(dtype=f"mixed_{dtype}")(many, mask=np.ones((1, 3000), bool))
    )
    np.testing.assert_allclose(mean, 1.0)


def test_tables_do_not_start_alike_whatever_the_initializer():
    seeded = keras.initializers.RandomNormal(stddev=0.1, seed=3)
    model = NCF(5, 5, embedding_dim=4, embeddings_initializer=seeded)
    model({"user": np.array([0]), "item": np.array([[1]])})
    tables = [w for w in model.get_weights() if w.shape == (5, 4)]
    assert len(tables) == 4
    for number, table in enumerate(tables):
        assert not any(np.array_equal(table, other) for other in tables[:number])
    model = MatrixFactorization(
        3, 3, 4, embeddings_initializer=lambda shape, dtype=None: ops.ones(shape, dtype)
    )
    assert (np.array(model.user_embedding.embeddings) == 1).all()


def test_vocabularies_may_be_counted_by_numpy():
    field = FieldSpec("user", np.array([1, 2, 5]).max() + 1)
    assert field.vocabulary_size == 6 and type(field.vocabulary_size) is int
