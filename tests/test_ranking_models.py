"""Models that rank items for users: what they compute, learn and save."""

from __future__ import annotations

import doctest
import importlib

import keras
import numpy as np
import pytest
from keras import ops
from plans import masked_output, plan_of

import keras_eds
from keras_eds.datasets import Pairs, Triples
from keras_eds.errors import DataError
from keras_eds.metrics import RankingMetrics, evaluate_ranking
from keras_eds.models import (
    NCF,
    NGCF,
    BipartiteGraph,
    BPRLoss,
    LightGCN,
    MatrixFactorization,
    SampledSoftmaxLoss,
)
from keras_eds.models.neighbour_lists import LENGTH, neighbour_lists, num_pieces
from keras_eds.models.packed_edges import pack_edges, unpack_edges

USERS, ITEMS, DIM = 24, 40, 6


def make_pairs(seed=0, num_users=USERS, num_items=ITEMS):
    """Users and items of two tastes; one user and one item are alone."""
    random = np.random.default_rng(seed)
    alike = np.equal.outer(np.arange(num_users) % 2, np.arange(num_items) % 2)
    met = random.random(alike.shape) < np.where(alike, 0.7, 0.03)
    met[3], met[:, 4] = False, False
    return Pairs.of(*np.nonzero(met), num_users, num_items)


PAIRS = make_pairs()
EDGES = (PAIRS.users, PAIRS.items)


def make(kind, seed=0, **extra):
    if kind == "mf":
        return MatrixFactorization(USERS, ITEMS, DIM, seed=seed, **extra)
    if kind == "ncf":
        return NCF(USERS, ITEMS, DIM, (5, 4), seed=seed, **extra)
    if kind == "light_gcn":
        return LightGCN(USERS, ITEMS, EDGES, DIM, seed=seed, **extra)
    return NGCF(USERS, ITEMS, EDGES, DIM, (5, 4), seed=seed, **extra)


KINDS = ["mf", "ncf", "light_gcn", "ngcf"]


def randomize(model):
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape) * 0.5)


def weights(layer):
    return [w.astype("float64") for w in layer.get_weights()]


def dense_graph():
    """The normalised adjacency matrix, as a plain dense one."""
    a = np.zeros((USERS + ITEMS, USERS + ITEMS))
    a[PAIRS.users, USERS + PAIRS.items] = 1
    a += a.T
    degree = a.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
    return scale[:, None] * a * scale


def numpy_scores(kind, model):
    """Scores of all users and items in plain NumPy."""
    e_user, e_item = weights(model.user_embedding)[0], weights(model.item_embedding)[0]
    if kind == "ncf":
        return numpy_ncf(model, e_user, e_item)
    x, graph = np.concatenate([e_user, e_item]), dense_graph()
    parts = [x]
    if kind == "light_gcn":
        for _ in range(3):
            parts.append(graph @ parts[-1])
        x = np.mean(parts, axis=0)
    if kind == "ngcf":
        for sums, products in zip(model.sums, model.products, strict=True):
            (w1, bias), (w2,) = weights(sums), weights(products)
            side = graph @ x
            x = (side + x) @ w1 + (side * x) @ w2 + bias
            x = np.where(x > 0, x, 0.2 * x)
            parts.append(x / np.linalg.norm(x, axis=1, keepdims=True))
        x = np.concatenate(parts, axis=1)
    return x[:USERS] @ x[USERS:].T


def numpy_ncf(model, e_user, e_item):
    g_user, g_item = weights(model.user_factors)[0], weights(model.item_factors)[0]
    w_user, bias = weights(model.from_user)
    (w_item,), (w,) = weights(model.from_item), weights(model.weigh)
    scores = np.zeros((USERS, ITEMS))
    for user in range(USERS):
        for item in range(ITEMS):
            both = np.concatenate([e_user[user], e_item[item]])
            x = np.maximum(both @ np.concatenate([w_user, w_item]) + bias, 0)
            for layer in model.hidden:
                kernel, b = weights(layer)
                x = np.maximum(x @ kernel + b, 0)
            product = g_user[user] * g_item[item]
            scores[user, item] = (np.concatenate([product, x]) @ w)[0]
    return scores


@pytest.mark.parametrize("kind", KINDS)
def test_scores_match_plain_numpy(kind):
    model = make(kind)
    randomize(model)
    expected = numpy_scores(kind, model)
    np.testing.assert_allclose(
        model.score_all(np.arange(USERS)), expected, rtol=1e-3, atol=1e-4
    )
    random = np.random.default_rng(2)
    users = random.integers(0, USERS, 9).astype("int32")
    items = random.integers(0, ITEMS, (9, 3)).astype("int32")
    scores = ops.convert_to_numpy(model({"user": users, "item": items}))
    np.testing.assert_allclose(
        scores, expected[users[:, None], items], rtol=1e-3, atol=1e-4
    )
    assert model.compute_output_shape({"user": (9,), "item": (9, 3)}) == scores.shape


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_users_change_nothing(kind, monkeypatch):
    model = make(kind)
    randomize(model)
    users = np.array([5, 5, 0, 23, 7])
    whole = model.score_all(users)
    monkeypatch.setattr("keras_eds.models.ranking_model._SCORES_A_BLOCK", 2 * ITEMS)
    monkeypatch.setattr("keras_eds.models.ncf._VALUES_A_BLOCK", 1)
    np.testing.assert_allclose(model.score_all(users), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("users", [[USERS], [-1], [0.5], 3])
def test_users_must_be_known(users):
    with pytest.raises(ValueError, match="0 .. 23"):
        make("mf").score_all(users)


def test_graph_multiplies_by_the_normalised_matrix():
    graph = BipartiteGraph(USERS, ITEMS, EDGES)
    x = np.random.default_rng(0).normal(size=(USERS + ITEMS, 5)).astype("float32")
    y = ops.convert_to_numpy(graph(x))
    np.testing.assert_allclose(y, dense_graph() @ x, atol=1e-5)
    assert not y[3].any() and not y[USERS + 4].any()
    assert graph.compute_output_shape(x.shape) == y.shape


def test_gradient_through_the_graph():
    """One SGD step against the gradient of the dense product."""
    random = np.random.default_rng(0)
    x = random.normal(size=(USERS + ITEMS, 3)).astype("float32")
    goal = random.normal(size=x.shape).astype("float32")
    table = keras.layers.Embedding(len(x), 3)
    ids = keras.Input((), dtype="int32", batch_size=len(x))
    model = keras.Model(ids, BipartiteGraph(USERS, ITEMS, EDGES)(table(ids)))
    table.set_weights([x])
    loss = keras.losses.MeanSquaredError(reduction="sum")
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.train_on_batch(np.arange(len(x)), goal)
    graph = dense_graph()
    gradient = graph.T @ (2 * (graph @ x - goal) / 3)
    np.testing.assert_allclose(table.get_weights()[0], x - gradient, atol=1e-5)


def test_lists_hold_every_neighbour():
    pairs = make_pairs(1, 70, 9)  # items with more neighbours than a piece holds
    pieces, owners = neighbour_lists(pairs.users, pairs.items, 70, 9)
    assert pieces.shape == (LENGTH, num_pieces(pairs.users, pairs.items, 70, 9))
    a = np.zeros((79, 80))
    np.add.at(a, (np.broadcast_to(owners, pieces.shape), pieces), 1)
    expected = np.zeros((79, 79))
    expected[pairs.users, 70 + pairs.items] = 1
    np.testing.assert_array_equal(a[:, :79], expected + expected.T)
    assert np.all(np.diff(owners) >= 0) and len(np.unique(owners)) == 79


@pytest.mark.parametrize("seed", range(3))
def test_packed_edges_come_back(seed):
    pairs = make_pairs(seed, 50, 5000 if seed else 7)
    packed = pack_edges(pairs.users.astype("int64"), pairs.items.astype("int64"), 50)
    users, items = unpack_edges(packed, 50)
    np.testing.assert_array_equal(users, pairs.users)
    np.testing.assert_array_equal(items, pairs.items)
    if seed:
        assert packed.nbytes < 2 * len(pairs)


def test_graph_returns_its_edges():
    shuffled = np.random.default_rng(0).permutation(len(PAIRS))
    graph = BipartiteGraph(USERS, ITEMS, (EDGES[0][shuffled], EDGES[1][shuffled]))
    unbuilt = graph.edges()
    graph.build()
    for edges in (unbuilt, graph.edges()):
        for got, given in zip(edges, EDGES, strict=True):
            np.testing.assert_array_equal(got, given)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (([0], [0, 1]), r"shapes \(1,\) and \(2,\)"),
        (([0, 2], [0, 1]), "1 that do not"),
        (([0, 1], [0, -1]), "1 that do not"),
        (([0, 0], [1, 1]), "1 repeated"),
    ],
)
def test_bad_edges_are_named(edges, message):
    with pytest.raises(DataError, match=message):
        LightGCN(2, 3, edges)


def test_bpr_loss_is_its_formula():
    random = np.random.default_rng(0)
    scores = random.normal(size=(7, 4)) * 3
    labels = np.eye(4)[random.integers(0, 4, 7)]
    expected = []
    for row, label in zip(scores, labels, strict=True):
        met = row[label == 1][0]
        losses = [-np.log(1 / (1 + np.exp(-(met - s)))) for s in row[label == 0]]
        expected.append(np.mean(losses))
    got = BPRLoss()(labels.astype("float32"), scores.astype("float32"))
    assert float(ops.convert_to_numpy(got)) == pytest.approx(
        np.mean(expected), rel=1e-5
    )


def test_sampled_softmax_is_cross_entropy():
    random = np.random.default_rng(0)
    scores = random.normal(size=(7, 4)).astype("float32")
    labels = np.eye(4, dtype="float32")[random.integers(0, 4, 7)]
    z = np.exp(scores / 0.2)
    expected = -np.log((z * labels).sum(axis=1) / z.sum(axis=1)).mean()
    got = SampledSoftmaxLoss(temperature=0.2)(labels, scores)
    assert float(ops.convert_to_numpy(got)) == pytest.approx(expected, rel=1e-4)


def test_losses_keep_their_arguments():
    loss = SampledSoftmaxLoss.from_config(SampledSoftmaxLoss(0.3).get_config())
    assert (loss.temperature, loss.name) == (0.3, "sampled_softmax")
    assert BPRLoss.from_config(BPRLoss(reduction="sum").get_config()).reduction == "sum"
    with pytest.raises(ValueError, match="temperature=0"):
        SampledSoftmaxLoss(0)


@pytest.mark.parametrize("kind", KINDS)
def test_penalty_is_that_of_the_rows_of_the_batch(kind):
    model = make(kind, embeddings_l2=0.1)
    randomize(model)
    users, items = np.array([1, 1, 2]), np.array([[0, 1], [2, 2], [3, 9]])
    model({"user": users, "item": items}, training=True)
    names = ["user_embedding", "item_embedding"]
    names += ["user_factors", "item_factors"] if kind == "ncf" else []
    expected = 0.0
    for name in names:
        ids = users if name.startswith("user") else items
        rows = weights(getattr(model, name))[0][ids]
        expected += 0.05 * np.square(rows).sum() / 3
    got = ops.convert_to_numpy(sum(model.losses))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    model({"user": users, "item": items})
    assert not model.losses


@pytest.mark.parametrize(
    ("kind", "loss"),
    [*((kind, BPRLoss()) for kind in KINDS), ("mf", SampledSoftmaxLoss())],
    ids=lambda value: getattr(value, "name", value),
)
def test_learns_tastes_then_saves_and_reloads(kind, loss, tmp_path):
    model = make(kind)
    model.compile(keras.optimizers.Adam(0.05), loss)
    # Items of the user's taste that were not met are not drawn as seen.
    alike = np.equal.outer(np.arange(USERS) % 2, np.arange(ITEMS) % 2)
    alike[PAIRS.users, PAIRS.items] = False
    alike[3], alike[:, 4] = False, False
    unmet = Pairs.of(*np.nonzero(alike), USERS, ITEMS)
    before = evaluate_ranking(model, unmet, PAIRS, [5]).means()["recall@5"]
    metrics = RankingMetrics(unmet, PAIRS, ks=[5], every=16)
    history = model.fit(
        Triples(PAIRS, 64, negatives=4), epochs=16, verbose=0, callbacks=[metrics]
    ).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["val_recall@5"][-1] > max(0.5, before + 0.1)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    users = np.arange(USERS)
    np.testing.assert_allclose(
        again.score_all(users), model.score_all(users), rtol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_seed_fixes_all_weights(kind):
    first, same, other = (make(kind, seed).trainable_variables for seed in (0, 0, 1))
    for a, b, c in zip(first, same, other, strict=True):
        a, b, c = (ops.convert_to_numpy(v) for v in (a, b, c))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any() or not a.any()  # a bias
    tables = MatrixFactorization(5, 5, 4, seed=0)
    assert (
        weights(tables.user_embedding)[0] != weights(tables.item_embedding)[0]
    ).all()


@pytest.mark.parametrize(
    ("kind", "variant"),
    [("mf", "columns"), ("mf", "rows"), ("light_gcn", "subspace"),
     ("light_gcn", "prefixes")],
)  # fmt: skip
def test_tables_are_found_and_cut(kind, variant, tmp_path):
    model = make(kind)
    model.compile("adam", BPRLoss())
    randomize(model)
    fields = keras_eds.find_fields(model)
    assert [f.name for f in fields] == ["user_embedding", "item_embedding"]
    x = {"user": np.array([0, 5, 5]), "item": np.array([[1, 2], [4, 5], [9, 9]])}
    plan = plan_of(model, variant)
    expected = masked_output(model, plan, x)
    small = keras_eds.apply_plan(model, plan)
    np.testing.assert_allclose(ops.convert_to_numpy(small(x)), expected, atol=1e-5)
    small.train_on_batch(x, np.array([[1.0, 0.0]] * 3))
    scores = small.score_all(np.arange(USERS))
    assert scores.shape == (USERS, ITEMS) and np.isfinite(scores).all()
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(again.score_all(np.arange(USERS)), scores, rtol=1e-6)


def test_dropout_of_ngcf_is_off_when_scoring():
    model = make("ngcf", node_dropout=0.5, message_dropout=0.5)
    randomize(model)
    x = {"user": np.arange(8), "item": np.arange(16).reshape(8, 2)}
    still, trained = model(x), model(x, training=True)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(y) for y in (still, model(x))))
    assert (ops.convert_to_numpy(still) != ops.convert_to_numpy(trained)).any()


def test_half_precision_trains():
    model = make("light_gcn", dtype="mixed_bfloat16")
    model.compile("adam", BPRLoss())
    loss = model.train_on_batch(*Triples(PAIRS, 64)[0])
    assert np.isfinite(loss)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_users": 0}, "num_users=0"),
        ({"num_items": 2.5}, "num_items=2.5"),
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"embeddings_l2": -1.0}, "embeddings_l2=-1.0"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"edges": None}, "neither edges nor layout"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    given = {"num_users": USERS, "num_items": ITEMS, "edges": EDGES, **arguments}
    with pytest.raises(ValueError, match=message):
        LightGCN(**given)


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (NCF, {"hidden_units": ()}, r"hidden_units=\[\]"),
        (NCF, {"hidden_units": (0,)}, "hidden_units=0"),
        (NGCF, {"layer_units": (0,), "edges": EDGES}, "layer_units=0"),
        (NGCF, {"node_dropout": 1.0, "edges": EDGES}, "node_dropout=1.0"),
    ],
)
def test_bad_arguments_of_the_others(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(USERS, ITEMS, **arguments)


@pytest.mark.parametrize(
    "name",
    ["bipartite_graph", "bpr_loss", "compiled", "light_gcn", "matrix_factorization",
     "ncf", "neighbour_lists", "ngcf", "packed_edges", "sampled_softmax_loss"],
)  # fmt: skip
def test_docstring_examples_run(name):
    module = importlib.import_module(f"keras_eds.models.{name}")
    results = doctest.testmod(module, extraglobs={"BPRLoss": BPRLoss})
    assert results.attempted and not results.failed
