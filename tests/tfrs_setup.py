"""What tests of TFRS share; whoever imports it is skipped where TFRS cannot run."""

from __future__ import annotations

import importlib.util
import os
import warnings

import keras
import numpy as np
import pytest

import keras_eds

_MISSING = [
    name
    for name in ("tensorflow_recommenders", "tf_keras")
    if importlib.util.find_spec(name) is None
]
if _MISSING:
    pytest.skip(
        f"needs {', '.join(_MISSING)}: pip install -e '.[test,tfrs]'",
        allow_module_level=True,
    )
if os.environ.get("TF_USE_LEGACY_KERAS") != "1":
    pytest.skip(
        "needs TF_USE_LEGACY_KERAS=1 before Python starts", allow_module_level=True
    )
if keras.backend.backend() != "tensorflow":
    pytest.skip("needs KERAS_BACKEND=tensorflow", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

USERS, ITEMS, WIDTH = 40, 30, 8
USER_IDS = [f"u{number}" for number in range(USERS)]
TITLES = [f"Title {number}" for number in range(ITEMS)]


def rows(count=512, seed=0):
    """Ratings that depend on both ids: the first half of users likes even items."""
    random = np.random.default_rng(seed)
    user, item = random.integers(0, USERS, count), random.integers(0, ITEMS, count)
    liked = (user % 2) == (item % 2)
    return {
        "user_id": np.array(USER_IDS)[user],
        "movie_title": np.array(TITLES)[item],
        "user_rating": np.where(liked, 4.5, 1.5).astype("float32"),
        "timestamp": random.random(count).astype("float32"),
    }


def ratings(count=512, seed=0, batch=64):
    """A data set as the tutorials have it: dicts of features in batches."""
    return tf.data.Dataset.from_tensor_slices(rows(count, seed)).batch(batch)


def liked(count=512, seed=0, batch=64):
    """The pairs with a high rating, for retrieval."""
    found = rows(count, seed)
    kept = found["user_rating"] > 3
    found = {name: values[kept] for name, values in found.items()}
    return tf.data.Dataset.from_tensor_slices(found).batch(batch)


def movies():
    """All titles, one by one."""
    return tf.data.Dataset.from_tensor_slices(TITLES)


def id_tower(ids, table=None, width=WIDTH):
    """A tower of the tutorials: ids become numbers, numbers vectors."""
    if table is None:
        table = tf.keras.layers.Embedding(len(ids) + 1, width)
    return tf.keras.Sequential(
        [tf.keras.layers.StringLookup(vocabulary=ids, mask_token=None), table]
    )


class RetrievalModel(tfrs.Model):
    """The tutorial "basic retrieval"."""

    def __init__(self, user_model, movie_model, metrics=True):
        super().__init__()
        self.movie_model = movie_model
        self.user_model = user_model
        candidates = movies().batch(16).map(movie_model)
        top = tfrs.metrics.FactorizedTopK(candidates=candidates, ks=(1, 5))
        self.task = tfrs.tasks.Retrieval(metrics=top if metrics else None)

    def compute_loss(self, features, training=False):
        user_embeddings = self.user_model(features["user_id"])
        positive_movie_embeddings = self.movie_model(features["movie_title"])
        return self.task(
            user_embeddings, positive_movie_embeddings, compute_metrics=not training
        )


class RatingsModel(tfrs.Model):
    """The tutorial "basic ranking"."""

    def __init__(self):
        super().__init__()
        self.user_model = id_tower(USER_IDS)
        self.movie_model = id_tower(TITLES)
        self.ratings = tf.keras.Sequential(
            [tf.keras.layers.Dense(16, activation="relu"), tf.keras.layers.Dense(1)]
        )
        self.task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.MeanSquaredError(),
            metrics=[tf.keras.metrics.RootMeanSquaredError("RMSE")],
        )

    def call(self, features):
        user = self.user_model(features["user_id"])
        movie = self.movie_model(features["movie_title"])
        return self.ratings(tf.concat([user, movie], axis=1))

    def compute_loss(self, features, training=False):
        labels = features["user_rating"]
        return self.task(labels=labels, predictions=self(features))


def compiled(model, eager=False):
    """Compiled as in the tutorials."""
    model.compile(tf.keras.optimizers.Adagrad(0.1), run_eagerly=eager)
    return model


def search(model, directory, data, validation, budget=0.4, **options):
    """A short search; returns it when it is over."""
    options = {"seed": 1, "directory": directory, "project_name": "p", **options}
    fit = {"epochs": 2, "verbose": 0, "callbacks": options.pop("callbacks", None)}
    found = keras_eds.EDSSearch(model, budget, **options)
    found.search(data, validation_data=validation, **fit)
    return found
