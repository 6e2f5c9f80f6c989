from __future__ import annotations

import doctest
import importlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_eds
from keras_eds.datasets import Histories, Pairs, Triples
from keras_eds.errors import DataError
from keras_eds.models import AllIds, FieldSpec, SampledSoftmaxLoss, YouTubeDNN
from keras_eds.retrieval import ExactIndex

FIELDS = [FieldSpec("history", 9, multi_hot=True), FieldSpec("age", 4)]
X = {
    "history": np.array([[1, 2, 0], [3, 0, 0], [0, 0, 0]], "int32"),
    "age": np.array([0, 1, 3], "int32"),
    "item": np.array([[0, 1], [7, 2], [3, 3]], "int32"),
}


def make(softmax="sampled"):
    model = YouTubeDNN(FIELDS, 8, 3, (5, 4), softmax, seed=0)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


def numpy_user(model):
    """The formula of the docstring, in plain NumPy."""
    tower = model.get_layer("user_tower")

    def weights(name):
        return [np.asarray(w, "float64") for w in tower.get_layer(name).get_weights()]

    history = weights("history_embedding")[0]
    means = [
        history[ids[ids > 0]].mean(axis=0) if ids.any() else np.zeros(3)
        for ids in X["history"]
    ]
    x = np.concatenate([means, weights("age_embedding")[0][X["age"]]], axis=1)
    for name in ("hidden_0", "hidden_1"):
        kernel, bias = weights(name)
        x = np.maximum(x @ kernel + bias, 0)
    return x


@pytest.mark.parametrize("softmax", ["sampled", "full"])
def test_scores_are_inner_products_of_the_last_layer_and_the_weights(softmax):
    model = make(softmax)
    items = model.get_layer("item_weights").get_weights()[0]
    truth = numpy_user(model) @ items.T.astype("float64")
    x = dict(X)
    if softmax == "sampled":
        truth = np.take_along_axis(truth, x["item"], axis=1)
    else:
        del x["item"]
    scores = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(scores, truth, rtol=1e-4, atol=1e-4)


def test_a_cut_model_is_searched_by_its_index():
    model = make()
    fields = keras_eds.find_fields(model)
    assert {f.name: (f.input_dim, f.output_dim) for f in fields} == {
        "user_tower/history_embedding": (9, 3),
        "user_tower/age_embedding": (4, 3),
        "item_weights": (8, 4),
    }
    sizes = {f.name: 2 for f in fields}
    plan = keras_eds.DimensionPlan.of_sizes(fields, sizes)
    small = keras_eds.apply_plan(model, plan)
    user = {name: X[name] for name in ("history", "age")}
    vectors = small.get_layer("user_tower")(user)
    index = ExactIndex.of(small.get_layer("item_weights"), 8)
    scores, items = (ops.convert_to_numpy(a) for a in index(vectors))
    every = small({**user, "item": np.tile(np.arange(8, dtype="int32"), (3, 1))})
    best = -np.sort(-ops.convert_to_numpy(every), axis=1)
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-4)
    assert index.embeddings[0].shape == (8, 2)


USERS, ITEMS = 60, 12


def groups():
    """Users of two groups, each of which likes its own half of the items."""
    random = np.random.default_rng(0)
    users, items = [], []
    for user in range(USERS):
        liked = random.permutation(6)[:4] + 6 * (user % 2)
        users += [user] * 4
        items += liked.tolist()
    return Pairs.of(users, items, USERS, ITEMS)


@pytest.mark.parametrize("softmax", ["sampled", "full"])
def test_learns_groups_and_is_searched_and_saved(softmax, tmp_path):
    pairs = groups()
    history = FieldSpec("history", ITEMS + 1, multi_hot=True)
    model = YouTubeDNN([history], ITEMS, 8, (16, 8), softmax, seed=0)
    if softmax == "full":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        data = Histories(pairs, length=3, batch_size=60, negatives=None)
    else:
        loss = SampledSoftmaxLoss()
        data = Histories(pairs, length=3, batch_size=60, negatives=4)
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(data, epochs=40, verbose=0)
    search = keras_eds.EDSSearch(
        model, 0.7, method="sseds", seed=0, directory=tmp_path, project_name="s"
    )
    search.search(data, validation_data=data, epochs=10, verbose=0)
    small = search.get_best_models()[0]
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    for found in (model, again):
        users = np.arange(USERS)
        vectors = found.get_layer("user_tower")({"history": data.histories(users)})
        index = ExactIndex.of(found.get_layer("item_weights"), 6)
        items = ops.convert_to_numpy(index(vectors)[1])
        right = (items >= 6) == (users % 2 == 1)[:, None]
        assert right.mean() > 0.85


def test_histories_hold_the_users_other_items():
    pairs = groups()
    data = Histories(pairs, length=3, batch_size=50, negatives=2, seed=1)
    assert len(data) == 5
    guessed = []
    for number in range(len(data)):
        x, y = data[number]
        assert x["history"].shape == (len(y), 3) and x["item"].shape == y.shape
        np.testing.assert_array_equal(y, np.eye(1, 3).repeat(len(y), axis=0))
        for history, items in zip(x["history"], x["item"], strict=True):
            kept = set(history[history > 0] - 1)
            owners = [
                u for u in range(USERS)
                if {*kept, items[0]} <= set(pairs.items_of(u))
            ]  # fmt: skip
            assert owners and len(kept) in (2, 3) and items[0] not in kept
            guessed.append(items[0])
    np.testing.assert_array_equal(np.bincount(guessed), pairs.item_counts)


def test_histories_of_another_part_and_of_nobody():
    seen = Pairs.of([0, 0, 0], [1, 2, 3], num_users=3, num_items=5)
    wanted = Pairs.of([0, 1], [4, 0], num_users=3, num_items=5)
    data = Histories(wanted, seen, length=4, negatives=None)
    x, y = data[0]
    rows = {int(item): sorted(row) for item, row in zip(y, x["history"], strict=True)}
    assert rows == {4: [0, 2, 3, 4], 0: [0, 0, 0, 0]}
    assert sorted(data.histories([0])[0]) == [0, 2, 3, 4]
    assert not data.histories([2]).any()


@pytest.mark.parametrize("batches", [Histories, Triples])
def test_items_of_either_part_are_no_negatives(batches):
    random = np.random.default_rng(0)
    part = random.choice(3, (20, 12), p=[0.4, 0.4, 0.2])
    part[:, 0] = 0
    train, validation = (
        Pairs.of(*np.nonzero(part == number), 20, 12) for number in (1, 2)
    )
    data = batches(validation, seen=train, negatives=500, seed=1)
    x, _ = data[0]
    # Each row's user, from the item to guess, where histories do not tell.
    users = Triples(validation, negatives=None, seed=1)[0][0]["user"]
    for user, items in zip(users, x["item"], strict=True):
        assert part[user, items[0]] == 2
        assert set(items[1:]) == set(np.flatnonzero(part[user] == 0))


def test_only_who_guesses_must_leave_an_item():
    everything = Pairs.of([0, 0, 1], [0, 1, 1], num_users=2, num_items=2)
    # User 0 has met all items, but has nothing to guess.
    nothing = Pairs.of([], [], num_users=2, num_items=2)
    assert len(Triples(nothing, seen=everything)) == 0
    guessing = Pairs.of([1], [0], num_users=2, num_items=2)
    with pytest.raises(DataError, match="1 users who have met all 2 .* user 1"):
        Histories(guessing, everything)
    with pytest.raises(DataError, match="`seen` must have as many users"):
        Triples(guessing, seen=Pairs.of([], [], 3, 2))


def test_histories_differ_by_epoch_and_repeat_by_seed():
    pairs = groups()
    first, same = (Histories(pairs, length=2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first[0][0]["history"], same[0][0]["history"])
    before = first.histories(np.arange(USERS))
    first.on_epoch_end()
    assert (first.histories(np.arange(USERS)) != before).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fields": []}, "at least one field"),
        ({"fields": [FieldSpec("item", 3)]}, "'item'"),
        ({"num_items": 0}, "num_items=0"),
        ({"embedding_dim": 0}, "embedding_dim=0"),
        ({"hidden_units": ()}, r"hidden_units=\(\)"),
        ({"softmax": "hard"}, "`softmax` must be one of.*'hard'"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        YouTubeDNN(**{"fields": FIELDS, "num_items": 8, **arguments})


def test_bad_histories_are_named():
    with pytest.raises(ValueError, match="length=0"):
        Histories(groups(), length=0)
    with pytest.raises(ValueError, match="negatives=0"):
        Histories(groups(), negatives=0)


def test_all_ids_declares_its_shape():
    layer = AllIds.from_config(AllIds(3).get_config())
    assert layer.compute_output_shape((None, 5)) == (3,)


@pytest.mark.parametrize(
    "name", ["models.youtube_dnn", "models.all_ids", "datasets.histories"]
)
def test_docstring_examples_run(name):
    module = importlib.import_module(f"keras_eds.{name}")
    results = doctest.testmod(module, extraglobs={"np": np})
    assert results.attempted and not results.failed
