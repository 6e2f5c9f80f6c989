"""Copies of TFRS models: what is theirs, what is frozen, what cannot be copied."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tfrs_setup import RatingsModel, compiled, ratings, search, tf

import keras_eds
from keras_eds.bridges.tfrs.copy_model import copy_tfrs
from keras_eds.bridges.tfrs.searchable import SearchableTFRS
from keras_eds.bridges.tfrs.seeds import seeded_as_keras
from keras_eds.errors import FieldError


def wrapped(model):
    """A copy of a model, as a search trains it, after one batch."""
    searchable = SearchableTFRS(copy_tfrs(model))
    optimizer = keras.optimizers.SGD(0.5)
    searchable.compile(optimizer, jit_compile=False, run_eagerly=True)
    searchable(next(iter(ratings())))
    return searchable


def test_frozen_layers_stay_and_constraints_hold():
    model = RatingsModel()
    positive = tf.keras.constraints.NonNeg()
    dense = tf.keras.layers.Dense(4, kernel_constraint=positive)
    model.ratings = tf.keras.Sequential([dense, tf.keras.layers.Dense(1)])
    model.compute_loss(next(iter(ratings())))
    model.ratings.layers[1].trainable = False
    searchable = wrapped(model)
    first, frozen = searchable.tfrs_model.ratings.layers
    before = first.kernel.numpy(), frozen.kernel.numpy()
    searchable.fit(ratings(), shuffle=False, verbose=0)
    assert np.abs(first.kernel.numpy() - before[0]).max() > 0.01
    assert first.kernel.numpy().min() == 0.0
    np.testing.assert_array_equal(frozen.kernel.numpy(), before[1])


def test_what_only_training_makes_is_refused_until_it_is_there():
    class Extra(RatingsModel):
        def compute_loss(self, features, training=False):
            loss = super().compute_loss(features)
            if training:
                loss += tf.reduce_mean(self.extra(features["timestamp"][:, None]) ** 2)
            return loss

    model = Extra()
    model.extra = tf.keras.layers.Dense(1)
    model.compute_loss(next(iter(ratings())))
    with pytest.raises(FieldError, match="2 that `compute_loss` makes with training"):
        wrapped(model).fit(ratings(), shuffle=False, verbose=0)
    model.compute_loss(next(iter(ratings())), training=True)
    searchable = wrapped(model)
    before = searchable.tfrs_model.extra.kernel.numpy()
    searchable.fit(ratings(), shuffle=False, verbose=0)
    assert np.abs(searchable.tfrs_model.extra.kernel.numpy() - before).max() > 1e-3


def test_functions_in_attributes_call_the_copy():
    model = RatingsModel()
    head = model.ratings
    model.head = lambda vectors: model.ratings(vectors)
    model.call = lambda features: model.head(
        tf.concat(
            [
                model.user_model(features["user_id"]),
                model.movie_model(features["movie_title"]),
            ],
            axis=1,
        )
    )
    model.compute_loss(next(iter(ratings())))
    before = head.layers[0].kernel.numpy()
    searchable = wrapped(model)
    searchable.fit(ratings(), shuffle=False, verbose=0)
    moved = searchable.tfrs_model.ratings.layers[0].kernel.numpy()
    assert np.abs(moved - before).max() > 0.01
    np.testing.assert_array_equal(head.layers[0].kernel.numpy(), before)


class Holder:
    """No attribute of tf_keras: what it holds is not found."""

    def __init__(self, layer):
        self.layer = layer


@pytest.mark.parametrize("built", [False, True])
def test_a_hidden_layer_is_refused(tmp_path, built):
    class Hidden(RatingsModel):
        def __init__(self):
            super().__init__()
            self.ratings = tf.keras.layers.Dense(1)
            self.holder = Holder(self.ratings)

        def call(self, features):
            user = self.user_model(features["user_id"])
            movie = self.movie_model(features["movie_title"])
            return self.holder.layer(tf.concat([user, movie], axis=1))

    model = compiled(Hidden(), eager=True)
    if built:
        model.compute_loss(next(iter(ratings())))
    with pytest.raises(FieldError, match="reach its layers by attributes"):
        search(model, tmp_path, ratings(), ratings(seed=1))


def test_a_layer_that_is_not_used_is_refused(tmp_path):
    model = RatingsModel()
    model.forgotten = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    with pytest.raises(FieldError, match="must use all its layers"):
        search(compiled(model, eager=True), tmp_path, ratings(), ratings(seed=1))


def test_steps_of_its_own_are_refused(tmp_path):
    class Steps(RatingsModel):
        def train_step(self, inputs):
            return super().train_step(inputs)

    with pytest.raises(FieldError, match="a `train_step` of its own"):
        keras_eds.EDSSearch(compiled(Steps()), 0.4, directory=tmp_path)


def test_drawn_anew():
    class Recurrent(RatingsModel):
        def call(self, features):
            user = self.user_model(tf.expand_dims(features["user_id"], 1))
            movie = self.movie_model(features["movie_title"])
            return self.ratings(tf.concat([self.gru(user), movie], axis=1))

    model = Recurrent()
    model.gru = tf.keras.layers.GRU(4)
    one = next(iter(ratings()))
    model.compute_loss(one)

    def drawn():
        keras.utils.set_random_seed(3)
        with seeded_as_keras():
            copied = copy_tfrs(model, fresh=True)
            copied.compute_loss(one)
        return copied.gru.cell.kernel.numpy()

    first = drawn()
    assert not np.array_equal(first, model.gru.cell.kernel.numpy())
    tf.keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(drawn(), first)
    np.testing.assert_array_equal(drawn(), first)
    model.bias = tf.Variable(0.0)
    with pytest.raises(FieldError, match="weights of its own"):
        copy_tfrs(model, fresh=True)
