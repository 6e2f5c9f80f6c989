from __future__ import annotations

import doctest
import importlib
import math

import keras
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from keras_eds.datasets import Pairs
from keras_eds.errors import DataError
from keras_eds.metrics import (
    RankingMetrics,
    RankingQuality,
    RankingScores,
    evaluate_ranking,
    top_items,
)

USERS, ITEMS = 40, 60
KS = (1, 5, 20)


def make_parts(seed=0, users=USERS, items=ITEMS):
    """A matrix with 1 where seen and 2 where positive, some rows empty."""
    random = np.random.default_rng(seed)
    kind = random.choice(3, (users, items), p=[0.7, 0.2, 0.1])
    kind[3] = 0  # a user without anything
    kind[4, kind[4] == 2] = 0  # one without a positive
    kind[5] = 1  # one who has seen nearly everything
    kind[5, :2] = [2, 0]
    kind[:, 7] = 0  # an item that nobody met
    kind[6, 2:] = 2  # one with more positives than places
    seen, positives = (
        Pairs.of(*np.nonzero(kind == part), users, items) for part in (1, 2)
    )
    scores = random.normal(size=(users, items)).astype("float32")
    return kind, seen, positives, scores


def naive(kind, scores, ks):
    """Recall and NDCG, one user and one place at a time."""
    result = {}
    for user in range(len(kind)):
        positives = {i for i in range(kind.shape[1]) if kind[user, i] == 2}
        if not positives:
            continue
        candidates = [i for i in range(kind.shape[1]) if kind[user, i] != 1]
        ranked = sorted(candidates, key=lambda item: -scores[user, item])
        for k in ks:
            found, gain, ideal = 0, 0.0, 0.0
            for place, item in enumerate(ranked[:k]):
                if item in positives:
                    found += 1
                    gain += 1 / math.log2(place + 2)
            for place in range(min(k, len(positives))):
                ideal += 1 / math.log2(place + 2)
            result[user, k] = (found / len(positives), gain / ideal)
    return result


@pytest.mark.parametrize("block_size", [None, 1, 7])
def test_matches_one_user_at_a_time(block_size):
    kind, seen, positives, scores = make_parts()
    asked = []

    def scorer(users):
        asked.append(len(users))
        return scores[users]

    got = evaluate_ranking(scorer, positives, seen, KS, block_size=block_size)
    expected = naive(kind, scores, KS)
    assert got.users.tolist() == sorted({user for user, _ in expected})
    assert 3 not in got.users and 4 not in got.users
    for row, user in enumerate(got.users.tolist()):
        for k in KS:
            recall, ndcg = expected[user, k]
            assert got.recall[k][row] == pytest.approx(recall)
            assert got.ndcg[k][row] == pytest.approx(ndcg)
    if block_size:
        assert max(asked) == block_size
    means = got.means()
    assert means["recall@20"] == pytest.approx(got.recall[20].mean())
    assert list(means) == [
        *(f"recall@{k}" for k in KS), *(f"ndcg@{k}" for k in KS),
    ]  # fmt: skip


def test_ndcg_is_that_of_scikit_learn():
    kind, _, positives, scores = make_parts()
    got = evaluate_ranking(lambda users: scores[users], positives, None, KS)
    relevance = kind[got.users] == 2
    for k in KS:
        expected = ndcg_score(relevance, scores[got.users].astype("float64"), k=k)
        assert got.ndcg[k].mean() == pytest.approx(expected)


def test_perfect_and_worst_rankings():
    kind, seen, positives, _ = make_parts()
    perfect = (kind == 2) + np.random.default_rng(1).random(kind.shape) * 1e-3
    good = evaluate_ranking(lambda users: perfect[users], positives, seen, [5, 60])
    np.testing.assert_allclose(good.ndcg[5], 1)
    np.testing.assert_allclose(good.recall[60], 1)
    # Backwards, and nobody has so few candidates that a positive must come first.
    bad = evaluate_ranking(lambda users: -perfect[users], positives, seen, [1])
    assert bad.recall[1].sum() == 0


def test_seen_items_are_never_hits():
    everything = Pairs.of([0, 0], [0, 1], 1, 2)
    scores = np.ones((1, 2))
    got = evaluate_ranking(lambda users: scores, everything, everything, [2])
    assert got.means() == {"recall@2": 0.0, "ndcg@2": 0.0}


def test_a_draw_of_users_is_enough():
    kind, seen, positives, scores = make_parts()
    whole = evaluate_ranking(lambda users: scores[users], positives, seen)
    part = evaluate_ranking(
        lambda users: scores[users], positives, seen, users=np.array([8, 3, 6])
    )
    assert part.users.tolist() == [6, 8]
    rows = np.searchsorted(whole.users, part.users)
    np.testing.assert_array_equal(part.ndcg[20], whole.ndcg[20][rows])


def test_a_models_own_scorer_is_made_once():
    _, seen, positives, scores = make_parts()

    class Model:
        made = 0

        def scorer(self):
            self.made += 1
            return lambda users: keras.ops.convert_to_tensor(scores[users])

    model = Model()
    got = evaluate_ranking(model, positives, seen, block_size=3)
    assert model.made == 1
    expected = evaluate_ranking(lambda users: scores[users], positives, seen)
    np.testing.assert_array_equal(got.recall[5], expected.recall[5])


def test_scores_are_not_changed():
    _, seen, positives, scores = make_parts()
    before = scores.copy()
    evaluate_ranking(lambda users: scores[: len(users)], positives, seen)
    np.testing.assert_array_equal(scores, before)


def test_nan_is_named():
    _, seen, positives, scores = make_parts()
    scores[8, 11] = np.nan
    with pytest.raises(DataError, match="NaN for user 8 and item 11, among 1"):
        evaluate_ranking(lambda users: scores[users], positives, seen)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_scores_have_a_place(value):
    positives = Pairs.of([0], [1], 1, 3)
    scores = np.array([[0.0, value, 1.0]])
    got = evaluate_ranking(lambda users: scores, positives, None, [1])
    assert got.recall[1][0] == (value > 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ks": ()}, ValueError, r"ks=\(\)"),
        ({"ks": (0,)}, ValueError, "ks=0"),
        ({"block_size": 0}, ValueError, "block_size=0"),
        ({"users": np.array([99])}, ValueError, "0 .. 39"),
        ({"users": np.array([0.5])}, ValueError, "0 .. 39"),
        ({"users": np.array([3])}, DataError, "`positives`"),
        ({"positives": Pairs.of([], [], 2, 3)}, DataError, "0 interactions"),
        ({"scorer": lambda users: np.ones((1, 2))}, DataError, r"shape \(1, 2\)"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    _, seen, positives, scores = make_parts()
    given = {
        "scorer": lambda users: scores[users],
        "positives": positives,
        "seen": seen,
    }
    with pytest.raises(error, match=message):
        evaluate_ranking(**{**given, **arguments})


@pytest.mark.parametrize("k", [1, 4, 9, 10, 30])
def test_top_items_are_those_of_a_full_sort(k):
    scores = np.random.default_rng(0).normal(size=(6, 10))
    expected = np.argsort(-scores, axis=1)[:, :k]
    np.testing.assert_array_equal(top_items(scores, k), expected)


@pytest.mark.parametrize("columns", [4000, 4021])
def test_top_items_of_many_columns(columns):
    """Ties and items ruled out included, in the last columns as in the others."""
    scores = np.random.default_rng(0).integers(0, 300, (50, columns)).astype("float32")
    scores[3:6] = -np.inf
    scores[4, -1], scores[5, 7] = 1.0, 2.0
    scores[7, -1] = scores[8, 0] = 999.0
    found = top_items(scores, 4)
    values = np.take_along_axis(scores, found, axis=1)
    np.testing.assert_array_equal(values, -np.sort(-scores, axis=1)[:, :4])
    assert all(len(set(row)) == 4 for row in found)
    assert found[4, 0] == found[7, 0] == columns - 1
    assert found[5, 0] == 7 and found[8, 0] == 0
    with pytest.raises(ValueError, match="`k` must be an integer of at least 1"):
        top_items(scores, 0)


def naive_quality(kind, scores, ks):
    measured = naive(kind, scores, ks)
    users = {}
    for user, _ in measured:
        users[user] = np.mean([measured[user, k] for k in ks])
    items = {}
    for item in range(kind.shape[1]):
        met = [users[u] for u in users if kind[u, item] == 1]
        if met:
            items[item] = np.mean(met)
    return users, items


@pytest.mark.parametrize("missing", [None, 0.0])
def test_quality_of_users_and_items(missing):
    kind, seen, positives, scores = make_parts()
    quality = RankingQuality(seen, positives, missing=missing)(
        lambda users: scores[users]
    )
    users, items = naive_quality(kind, scores, (5, 10, 20))
    fallback = np.mean(list(users.values())) if missing is None else missing
    assert len(users) < USERS and len(items) < ITEMS
    np.testing.assert_allclose(
        quality.users, [users.get(u, fallback) for u in range(USERS)]
    )
    np.testing.assert_allclose(
        quality.items, [items.get(i, fallback) for i in range(ITEMS)]
    )


def test_quality_wants_parts_of_one_data_set():
    with pytest.raises(DataError, match=r"\(2, 3\) and \(2, 4\)"):
        RankingQuality(Pairs.of([0], [0], 2, 3), Pairs.of([0], [0], 2, 4))


def linear_model():
    """Scores `ITEMS` items for a user id, and can be fitted to labels."""
    model = keras.Sequential(
        [keras.Input((1,), dtype="int32"), keras.layers.Embedding(USERS, ITEMS),
         keras.layers.Flatten()]
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(0.3), "mse")
    return model


def scorer_of(model):
    return lambda users: model(users[:, None])


def test_callbacks_can_monitor_the_metrics(tmp_path):
    kind, seen, positives, _ = make_parts()
    metrics = RankingMetrics(positives, seen, ks=(5, 20), scorer=scorer_of)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", "val_ndcg@20", save_best_only=True, mode="max"
    )
    stop = keras.callbacks.EarlyStopping("val_recall@20", patience=2, mode="max")
    model = linear_model()
    x, y = np.arange(USERS)[:, None], (kind == 2).astype("float32")
    history = model.fit(
        x, y, batch_size=USERS, epochs=30, verbose=0, callbacks=[metrics, best, stop]
    ).history
    assert set(history) == {
        "loss", "val_recall@5", "val_ndcg@5", "val_recall@20", "val_ndcg@20",
    }  # fmt: skip
    assert max(history["val_ndcg@20"]) > 0.99
    assert len(history["loss"]) < 30
    again = keras.models.load_model(tmp_path / "best.keras")
    got = evaluate_ranking(scorer_of(again), positives, seen, [20]).means()
    assert got["ndcg@20"] == pytest.approx(max(history["val_ndcg@20"]))


def test_ranking_now_and_then_repeats_the_last_values():
    _, seen, positives, scores = make_parts()
    calls = []

    def scorer(model):
        calls.append(len(calls))
        return lambda users: np.random.default_rng(calls[-1]).normal(
            size=(len(users), ITEMS)
        )

    metrics = RankingMetrics(
        positives, seen, every=3, max_users=10, scorer=scorer, prefix=""
    )
    model = linear_model()
    x, y = np.arange(USERS)[:, None], scores
    history = model.fit(x, y, epochs=6, verbose=0, callbacks=[metrics]).history
    values = history["ndcg@20"]
    assert len(metrics.users) == 10
    # Epochs 0, 3 and the last one, 5.
    assert len(calls) == 3
    assert values[0] == values[1] == values[2] != values[3] == values[4] != values[5]


@pytest.mark.parametrize("arguments", [{"every": 0}, {"max_users": 0}, {"ks": [0]}])
def test_bad_arguments_of_the_callback(arguments):
    _, seen, positives, _ = make_parts()
    with pytest.raises(ValueError, match="=0"):
        RankingMetrics(positives, seen, **arguments)


def test_bad_parts_are_refused_before_an_epoch():
    _, seen, positives, _ = make_parts()
    other = Pairs.of([0], [ITEMS], USERS, ITEMS + 1)
    with pytest.raises(DataError, match="`seen` must have as many"):
        RankingMetrics(positives, other)
    with pytest.raises(DataError, match="`seen` must have as many"):
        evaluate_ranking(lambda users: np.zeros((len(users), ITEMS)), positives, other)
    with pytest.raises(DataError, match="`positives` must hold"):
        RankingMetrics(Pairs.of([], [], USERS, ITEMS), seen)


def test_quality_of_a_user_is_the_mean_of_all_numbers():
    scores = RankingScores(
        np.array([0]), {1: np.array([0.0]), 2: np.array([1.0])},
        {1: np.array([0.5]), 2: np.array([0.7])},
    )  # fmt: skip
    np.testing.assert_allclose(scores.quality(), [0.55])


@pytest.mark.parametrize(
    "name",
    ["evaluate_ranking", "ranking_metrics", "ranking_quality", "ranking_scores",
     "top_items"],
)  # fmt: skip
def test_docstring_examples_run(name):
    module = importlib.import_module(f"keras_eds.metrics.{name}")
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
