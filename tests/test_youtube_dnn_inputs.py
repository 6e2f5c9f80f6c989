"""What `YouTubeDNN` is given: histories, and fields by their names."""

from __future__ import annotations

import pytest

from keras_eds.datasets import Histories, Pairs, Triples
from keras_eds.errors import DataError
from keras_eds.models import FieldSpec, YouTubeDNN

PAIRS = Pairs.of([0, 1, 2], [0, 1, 2], num_users=3, num_items=5)


@pytest.mark.parametrize("shape", [(2, 5), (3, 4), (9, 50)])
def test_histories_of_other_users_or_items_are_refused(shape):
    seen = Pairs.of([0, 1], [0, 1], *shape)
    with pytest.raises(
        DataError, match=f"`seen` must.*{shape[0]} x {shape[1]} .*3 x 5"
    ):
        Histories(PAIRS, seen)


@pytest.mark.parametrize("users", [[-1], [3], [0.5], [[0]]])
def test_users_that_are_none_have_no_history(users):
    with pytest.raises(DataError, match="`users` must be"):
        Histories(PAIRS).histories(users)


def test_where_nothing_was_seen_histories_are_empty():
    data = Histories(PAIRS, Pairs.of([], [], 3, 5), length=2, negatives=None)
    x, y = data[0]
    assert x["history"].tolist() == [[0, 0]] * 3 and sorted(y) == [0, 1, 2]
    assert data.histories([]).shape == (0, 2)


def test_the_full_softmax_lets_a_user_have_met_all_items():
    everything = Pairs.of([0, 0, 1], [0, 1, 1], num_users=2, num_items=2)
    with pytest.raises(DataError, match="all 2 items"):
        Histories(everything)
    x, y = Histories(everything, length=2, negatives=None)[0]
    # Of user 0 what remains is the other item, of user 1 nothing.
    rows = sorted(
        (int(item), *sorted(h)) for h, item in zip(x["history"], y, strict=True)
    )
    assert rows == [(0, 0, 2), (1, 0, 0), (1, 0, 1)]


@pytest.mark.parametrize("order", ["interactions", "users"])
def test_triples_without_negatives_hold_what_was_met(order):
    everything = Pairs.of([0, 0, 1], [0, 1, 1], num_users=2, num_items=2)
    x, labels = Triples(everything, negatives=None, order=order)[0]
    assert x["item"].shape == (3, 1) and (labels == 1).all()
    met = {(0, 0), (0, 1), (1, 1)}
    found = set(zip(x["user"].tolist(), x["item"][:, 0].tolist(), strict=True))
    assert found == met if order == "interactions" else found <= met


@pytest.mark.parametrize("softmax", ["sampled", "full"])
def test_fields_are_not_called_like_layers(softmax):
    def build(name):
        fields = [FieldSpec(name, 9), FieldSpec("other", 9, multi_hot=True)]
        return YouTubeDNN(fields, 8, hidden_units=(4, 4), dropout=0.1, softmax=softmax)

    model = build("history")
    tower = model.get_layer("user_tower")
    inputs = {"history", "other"}
    own = {layer.name for layer in (*model.layers, *tower.layers)} - inputs
    assert {"user_tower", "item_weights", "vectors", "hidden_0"} <= own
    for name in own - {f"{field}_embedding" for field in inputs} - {"other_mean"}:
        with pytest.raises(ValueError, match=f"`fields` must not.*{name!r}.*Call it"):
            build(name)
