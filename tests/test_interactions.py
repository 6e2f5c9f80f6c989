from __future__ import annotations

import doctest
import gzip
import importlib
import os
from collections import defaultdict

import keras
import numpy as np
import pytest

from keras_eds.datasets import (
    Interactions,
    Pairs,
    Triples,
    UnseenItems,
    load_gowalla,
    load_movielens_interactions,
    load_yelp2018,
    triple_stream,
)
from keras_eds.datasets.split_by_user import split_by_user
from keras_eds.errors import DataError

TRAIN = "0 1 2 3 4\n1 0 5\n2\n3 6 6 2\n"
TEST = "0 0\n1 1 2\n2 4\n3 7\n"


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.txt").write_text(TEST)
    return tmp_path


def some_pairs(num_users=20, num_items=30, share=0.3, seed=0):
    random = np.random.default_rng(seed)
    met = random.random((num_users, num_items)) < share
    met[:, 0] = False
    users, items = np.nonzero(met)
    order = random.permutation(len(users))
    return met, Pairs.of(users[order], items[order], num_users, num_items)


def as_set(pairs):
    return set(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))


def test_pairs_are_the_rows_of_a_matrix():
    met, pairs = some_pairs()
    dense = np.zeros_like(met)
    dense[pairs.users, pairs.items] = True
    np.testing.assert_array_equal(dense, met)
    np.testing.assert_array_equal(pairs.user_counts, met.sum(axis=1))
    np.testing.assert_array_equal(pairs.item_counts, met.sum(axis=0))
    for user in range(20):
        expected = np.flatnonzero(met[user])
        start, stop = pairs.offsets[user : user + 2]
        np.testing.assert_array_equal(pairs.items[start:stop], expected)
        np.testing.assert_array_equal(pairs.items_of(user), expected)
    assert np.all(np.diff(pairs.keys) > 0)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 0], [1, 1], "1 repeated"),
        ([0, 2], [1, 1], "from 0 to 2"),
        ([0, 1], [-1, 1], "from -1 to 1"),
        ([0, 1], [1], "2 users and 1 items"),
        ([0.0, 1.0], [1, 1], "dtype float64"),
        ([[0, 1]], [[1, 1]], r"shape \(1, 2\)"),
    ],
)
def test_bad_pairs_are_named(users, items, message):
    with pytest.raises(DataError, match=message):
        Pairs.of(users, items, 2, 3)


def test_union_joins_and_refuses_overlap():
    first, second = Pairs.of([0], [1], 2, 3), Pairs.of([1], [2], 2, 3)
    assert as_set(first.union(second)) == {(0, 1), (1, 2)}
    with pytest.raises(DataError, match="1 repeated"):
        first.union(first)
    with pytest.raises(DataError, match="2 x 4 instead of 2 x 3"):
        first.union(Pairs.of([0], [1], 2, 4))


def test_split_gives_every_user_its_shares():
    users = np.repeat(np.arange(40), np.arange(1, 41))
    np.random.default_rng(0).shuffle(users)
    parts = split_by_user(users, (0.5, 0.25, 0.25), seed=1)
    assert sorted(np.concatenate(parts)) == list(range(len(users)))
    counts = [np.bincount(users[rows], minlength=40) for rows in parts]
    for user, n in enumerate(range(1, 41)):
        train, to_validation = -(-n // 2), -(-3 * n // 4)
        expected = (train, to_validation - train, n - to_validation)
        assert tuple(c[user] for c in counts) == expected


def test_split_is_random_and_seeded():
    users = np.zeros(400, int)
    first, same, other = (split_by_user(users, (0.5, 0.5, 0), s)[0] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    # Two independent halves of 400 share 100, give or take 7.
    assert 60 < len(np.intersect1d(first, other)) < 140


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0, 0.5, 0.5), (0.9, 0.2, -0.1)])
def test_bad_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="`fractions`"):
        split_by_user(np.zeros(4, int), fractions, 0)


def test_ids_with_gaps_and_repeats():
    users, items = [900, 5, 5, 900, 5], ["b", "a", "b", "b", "c"]
    data = Interactions.split(users, items, (1.0, 0.0, 0.0))
    assert data.user_ids.tolist() == [5, 900]
    assert data.item_ids.tolist() == ["a", "b", "c"]
    assert as_set(data.train) == {(0, 0), (0, 1), (0, 2), (1, 1)}
    assert len(data.validation) == len(data.test) == 0


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([], [], "0 missing of 0"),
        ([1.0, np.nan], [1, 2], "`users`.*1 missing of 2"),
        ([1, 2], ["a", None], "`items`.*1 missing of 2"),
        ([1, 2], [1], "2 users and 1 items"),
    ],
)
def test_bad_interactions_are_named(users, items, message):
    with pytest.raises(DataError, match=message):
        Interactions.split(users, items)


def test_parts_must_fit_together():
    one, none = Pairs.of([0], [1], 2, 3), Pairs.of([], [], 2, 3)
    with pytest.raises(DataError, match="1 in more than one part"):
        Interactions(one, none, one, np.arange(2), np.arange(3), "")
    with pytest.raises(DataError, match="`train` must have 2 users and 4 items"):
        Interactions(one, none, none, np.arange(2), np.arange(4), "")


def test_validation_joins_the_training_part():
    data = Interactions.split(np.repeat([0, 1], 8), np.tile(np.arange(8), 2))
    joined = data.with_validation_in_train()
    assert as_set(joined.train) == as_set(data.train) | as_set(data.validation)
    assert len(joined.validation) == 0
    assert as_set(joined.test) == as_set(data.test)


def test_standard_split_is_that_of_the_files(lists):
    data = load_gowalla(lists, split="standard")
    assert (data.num_users, data.num_items) == (4, 8)
    assert as_set(data.train) == {
        (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 5), (3, 6), (3, 2),
    }  # fmt: skip
    assert as_set(data.test) == {(0, 0), (1, 1), (1, 2), (2, 4), (3, 7)}
    held = load_gowalla(lists, split="standard", validation=0.25)
    assert held.validation.user_counts.tolist() == [1, 0, 0, 0]
    assert as_set(held.train) | as_set(held.validation) == as_set(data.train)


def test_random_split_joins_the_files(lists, tmp_path):
    data = load_yelp2018(lists)
    everything = as_set(data.train) | as_set(data.validation) | as_set(data.test)
    standard = load_yelp2018(lists, split="standard")
    assert everything == as_set(standard.train) | as_set(standard.test)
    assert data.train.user_counts.tolist() == [3, 2, 1, 2]


def test_gzipped_lists_are_read(tmp_path):
    for name, text in (("train", TRAIN), ("test", TEST)):
        with gzip.open(tmp_path / f"{name}.txt.gz", "wt") as file:
            file.write(text)
    assert len(load_gowalla(tmp_path, split="standard").train) == 8


@pytest.mark.parametrize("name", ["test.txt", "gowalla.txt"])
@pytest.mark.parametrize("load", [load_gowalla, load_yelp2018])
def test_one_file_is_not_read_twice(load, name, lists):
    if name != "test.txt":
        (lists / name).write_text(TRAIN)
    with pytest.raises(DataError, match=f"train.txt.*{name}. Pass the folder"):
        load(lists / name)
    given = load(lists / "train.txt", split="standard")
    assert as_set(given.train) == as_set(load(lists, split="standard").train)


def test_half_of_the_lists_or_a_damaged_one_is_refused(lists):
    (lists / "test.txt").unlink()
    with pytest.raises(DataError, match="must have both parts.*without test.txt"):
        load_gowalla(lists)
    folder = lists / "packed"
    folder.mkdir()
    (folder / "train.txt.gz").write_bytes(b"0 1 2")
    (folder / "test.txt.gz").write_bytes(b"0 3")
    with pytest.raises(DataError, match="must be lines of integers.*train.txt.gz"):
        load_gowalla(folder)


def test_missing_lists_name_the_address(tmp_path):
    with pytest.raises(FileNotFoundError, match="gowalla/train.txt and .*test.txt"):
        load_gowalla(tmp_path)
    with pytest.raises(FileNotFoundError, match="yelp2018/train.txt"):
        load_yelp2018(tmp_path)


def test_lists_are_downloaded_once_wanted(lists, monkeypatch):
    places = importlib.import_module("keras_eds.datasets.find_data")
    monkeypatch.setattr(places, "_default_places", lambda name: [])
    asked = []

    def get_file(name, url, cache_subdir):
        asked.append(url)
        return str(lists / name)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert len(load_gowalla(split="standard").train) == 8
    assert [url.split("/data/")[1] for url in asked] == [
        "gowalla/train.txt", "gowalla/test.txt",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError):
        load_gowalla(download=False)


@pytest.mark.parametrize("text", ["0 1 x\n", "\n", "3\n"])
def test_damaged_lists_are_refused(lists, text):
    (lists / "train.txt").write_text(text)
    with pytest.raises(DataError, match="user item item"):
        load_gowalla(lists)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"split": "time"}, "split='time'"), ({"validation": 1.0}, "validation=1.0")],
)
def test_bad_arguments_are_named(lists, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_gowalla(lists, **arguments)


def test_movielens_ratings_are_interactions(tmp_path):
    lines = [(7, 10, 5), (7, 30, 2), (9, 10, 4), (9, 40, 1)]
    text = "".join(f"{u}::{m}::{r}::1\n" for u, m, r in lines)
    (tmp_path / "ratings.dat").write_text(text)
    data = load_movielens_interactions(tmp_path)
    assert data.user_ids.tolist() == [7, 9]
    assert data.item_ids.tolist() == [10, 30, 40]
    assert as_set(data.train) | as_set(data.validation) == {
        (0, 0), (0, 1), (1, 0), (1, 2),
    }  # fmt: skip
    liked = load_movielens_interactions(tmp_path, threshold=4)
    assert liked.item_ids.tolist() == [10]


def test_draws_are_uniform_over_what_is_unseen():
    met, pairs = some_pairs(6, 8, share=0.5)
    met[0], met[1] = True, False  # all but one; none at all
    met[0, 5] = False
    pairs = Pairs.of(*np.nonzero(met), 6, 8)
    users = np.repeat(np.arange(6), 4000).reshape(6, 40, 100)
    drawn = UnseenItems(pairs).draw(users, np.random.default_rng(0))
    assert drawn.shape == users.shape
    for user in range(6):
        counts = np.bincount(drawn[user].ravel(), minlength=8)
        unseen = ~met[user]
        assert counts[met[user]].sum() == 0
        expected = 4000 / unseen.sum()
        assert np.abs(counts[unseen] - expected).max() < 5 * np.sqrt(expected)


def test_a_user_who_met_all_is_named():
    with pytest.raises(DataError, match="1 users who have met all 2 items.* user 1"):
        UnseenItems(Pairs.of([0, 1, 1], [0, 0, 1], 2, 2))


def epoch(batches):
    return [(x["user"], x["item"], y) for x, y in batches]


def numpy_epoch(stream):
    return [(x["user"].numpy(), x["item"].numpy(), y.numpy()) for x, y in stream]


def check_epoch(batches, met, pairs, negatives):
    users, items, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert sorted(zip(users, items[:, 0], strict=True)) == sorted(as_set(pairs))
    assert items.shape == labels.shape == (len(pairs), 1 + negatives)
    assert not met[users[:, None], items[:, 1:]].any()
    np.testing.assert_array_equal(labels, np.eye(1 + negatives)[[0] * len(pairs)])
    assert users.dtype == items.dtype == "int32"


def test_an_epoch_is_every_interaction_once():
    met, pairs = some_pairs()
    triples = Triples(pairs, batch_size=32, negatives=3, seed=5)
    assert len(triples) == -(-len(pairs) // 32)
    first = epoch(triples[i] for i in range(len(triples)))
    check_epoch(first, met, pairs, 3)
    triples.on_epoch_end()
    second = epoch(triples[i] for i in range(len(triples)))
    check_epoch(second, met, pairs, 3)
    assert any((a[0] != b[0]).any() for a, b in zip(first, second, strict=True))
    again = Triples(pairs, batch_size=32, negatives=3, seed=5)
    # In another order of asking, as workers do.
    for i in reversed(range(len(again))):
        for a, b in zip(first[i], epoch([again[i]])[0], strict=True):
            np.testing.assert_array_equal(a, b)
    other = epoch([Triples(pairs, batch_size=32, negatives=3, seed=6)[0]])
    assert (other[0][0] != first[0][0]).any()


def test_users_can_weigh_alike():
    pairs = Pairs.of([0] * 8 + [2] * 2, [*range(8), 0, 1], 3, 20)
    triples = Triples(pairs, batch_size=10, order="users", seed=0)
    drawn = []
    for _ in range(400):
        x, _ = triples[0]
        drawn.append(np.stack([x["user"], x["item"][:, 0]], axis=1))
        triples.on_epoch_end()
    users, items = np.concatenate(drawn).T
    assert set(zip(users, items, strict=True)) == as_set(pairs)
    counts = np.bincount(users, minlength=3)
    assert abs(counts[0] - counts[2]) < 5 * np.sqrt(4000)


def test_stream_is_the_same_epoch_in_tensorflow():
    pytest.importorskip("tensorflow")
    met, pairs = some_pairs()
    stream = triple_stream(pairs, batch_size=32, negatives=2, seed=5)
    assert len(stream) == -(-len(pairs) // 32)
    first, second = numpy_epoch(stream), numpy_epoch(stream)
    check_epoch(first, met, pairs, 2)
    check_epoch(second, met, pairs, 2)
    assert any((a[0] != b[0]).any() for a, b in zip(first, second, strict=True))
    again = numpy_epoch(triple_stream(pairs, batch_size=32, negatives=2, seed=5))
    for a, b in zip(first, again, strict=True):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)


def test_stream_is_told_by_its_seed_alone():
    tf = pytest.importorskip("tensorflow")
    _, pairs = some_pairs()

    def epochs(global_seed, seed=5):
        tf.random.set_seed(global_seed)
        stream = triple_stream(pairs, batch_size=32, seed=seed)
        return [
            np.concatenate([x["item"] for x, _ in stream.as_numpy_iterator()]).tolist()
            for _ in range(3)
        ]

    first = epochs(1)
    assert epochs(2) == first
    assert first[0] != first[1] != first[2] != first[0]
    assert epochs(1, seed=0) != first


def test_stream_draws_uniformly():
    pytest.importorskip("tensorflow")
    pairs = Pairs.of([0, 0, 1, 2], [0, 2, 1, 3], 3, 6)
    counts = defaultdict(lambda: np.zeros(6))
    stream = triple_stream(pairs, batch_size=4, negatives=2000)
    for x, _ in stream:
        for user, items in zip(x["user"].numpy(), x["item"].numpy(), strict=True):
            counts[int(user)] += np.bincount(items[1:], minlength=6)
    for user in range(3):
        unseen = np.setdiff1d(np.arange(6), pairs.items_of(user))
        drawn = counts[user]
        expected = drawn.sum() / len(unseen)
        assert drawn[pairs.items_of(user)].sum() == 0
        assert np.abs(drawn[unseen] - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"negatives": 0}, "negatives=0"),
        ({"order": "items"}, "order='items'"),
    ],
)
def test_bad_batches_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Triples(some_pairs()[1], **arguments)


@pytest.mark.parametrize(
    "name",
    ["pairs", "interactions", "split_by_user", "unseen_items", "triples",
     "triple_stream"],
)  # fmt: skip
def test_docstring_examples_run(name):
    if name == "triple_stream":
        pytest.importorskip("tensorflow")
    module = importlib.import_module(f"keras_eds.datasets.{name}")
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


@pytest.mark.skipif("KERAS_EDS_DATA" not in os.environ, reason="needs the real files")
def test_real_gowalla_has_the_published_numbers():
    data = load_gowalla(split="standard", download=False)
    assert (data.num_users, data.num_items) == (29858, 40981)
    assert (len(data.train), len(data.test)) == (810128, 217242)
