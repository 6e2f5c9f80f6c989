"""The models of the TFRS tutorials: searched, cut, trained on, saved and served."""

from __future__ import annotations

import numpy as np
import pytest
from tfrs_setup import (
    ITEMS,
    TITLES,
    USER_IDS,
    USERS,
    WIDTH,
    RatingsModel,
    RetrievalModel,
    compiled,
    id_tower,
    liked,
    movies,
    ratings,
    search,
    tf,
    tfrs,
)


class MultitaskModel(tfrs.Model):
    """The tutorial "multi-task recommenders"."""

    def __init__(self, rating_weight, retrieval_weight):
        super().__init__()
        self.movie_model = id_tower(TITLES)
        self.user_model = id_tower(USER_IDS)
        self.rating_model = tf.keras.Sequential(
            [tf.keras.layers.Dense(8, activation="relu"), tf.keras.layers.Dense(1)]
        )
        self.rating_task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.MeanSquaredError(),
            metrics=[tf.keras.metrics.RootMeanSquaredError()],
        )
        self.retrieval_task = tfrs.tasks.Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(
                candidates=movies().batch(16).map(self.movie_model), ks=(1, 5)
            )
        )
        self.rating_weight = rating_weight
        self.retrieval_weight = retrieval_weight

    def call(self, features):
        user = self.user_model(features["user_id"])
        movie = self.movie_model(features["movie_title"])
        return user, movie, self.rating_model(tf.concat([user, movie], axis=1))

    def compute_loss(self, features, training=False):
        features = dict(features)
        ratings = features.pop("user_rating")
        user, movie, predictions = self(features)
        rating_loss = self.rating_task(labels=ratings, predictions=predictions)
        retrieval_loss = self.retrieval_task(user, movie)
        return self.rating_weight * rating_loss + self.retrieval_weight * retrieval_loss


class DCN(tfrs.Model):
    """The tutorial "deep & cross network": towers in a dict behind a private name."""

    def __init__(self):
        super().__init__()
        vocabularies = {"user_id": USER_IDS, "movie_title": TITLES}
        self._embeddings = {name: id_tower(v) for name, v in vocabularies.items()}
        self._cross_layer = tfrs.layers.dcn.Cross(
            projection_dim=None, kernel_initializer="glorot_uniform"
        )
        self._deep_layers = [tf.keras.layers.Dense(8, activation="relu")]
        self._logit_layer = tf.keras.layers.Dense(1)
        self.task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.MeanSquaredError(),
            metrics=[tf.keras.metrics.RootMeanSquaredError("RMSE")],
        )

    def call(self, features):
        vectors = [tower(features[name]) for name, tower in self._embeddings.items()]
        x = self._cross_layer(tf.concat(vectors, axis=1))
        for layer in self._deep_layers:
            x = layer(x)
        return self._logit_layer(x)

    def compute_loss(self, features, training=False):
        features = dict(features)
        labels = features.pop("user_rating")
        return self.task(labels=labels, predictions=self(features))


class UserModel(tf.keras.Model):
    """The tutorial "context features": a time in buckets and as a number."""

    def __init__(self):
        super().__init__()
        self.user_embedding = id_tower(USER_IDS)
        buckets = np.linspace(0, 1, 20)
        self.timestamp_embedding = tf.keras.Sequential(
            [
                tf.keras.layers.Discretization(buckets.tolist()),
                tf.keras.layers.Embedding(len(buckets) + 1, WIDTH),
            ]
        )
        self.normalized_timestamp = tf.keras.layers.Normalization(axis=None)
        self.normalized_timestamp.adapt(np.linspace(0, 1, 20))

    def call(self, inputs):
        return tf.concat(
            [
                self.user_embedding(inputs["user_id"]),
                self.timestamp_embedding(inputs["timestamp"]),
                tf.reshape(self.normalized_timestamp(inputs["timestamp"]), (-1, 1)),
            ],
            axis=1,
        )


class MovieModel(tf.keras.Model):
    """Titles as ids, and as words: `mask_zero` with pooling."""

    def __init__(self):
        super().__init__()
        self.title_embedding = id_tower(TITLES)
        self.title_vectorizer = tf.keras.layers.TextVectorization(max_tokens=100)
        self.title_text_embedding = tf.keras.Sequential(
            [
                self.title_vectorizer,
                tf.keras.layers.Embedding(100, WIDTH, mask_zero=True),
                tf.keras.layers.GlobalAveragePooling1D(),
            ]
        )
        self.title_vectorizer.adapt(movies())

    def call(self, titles):
        return tf.concat(
            [self.title_embedding(titles), self.title_text_embedding(titles)], axis=1
        )


class Tower(tf.keras.Model):
    """The tutorial "deep recommenders": dense layers on an embedding model."""

    def __init__(self, embedding_model, layer_sizes):
        super().__init__()
        self.embedding_model = embedding_model
        self.dense_layers = tf.keras.Sequential()
        for size in layer_sizes[:-1]:
            self.dense_layers.add(tf.keras.layers.Dense(size, activation="relu"))
        for size in layer_sizes[-1:]:
            self.dense_layers.add(tf.keras.layers.Dense(size))

    def call(self, inputs):
        return self.dense_layers(self.embedding_model(inputs))


class DeepModel(tfrs.Model):
    """Query and candidate towers with context features."""

    def __init__(self, layer_sizes):
        super().__init__()
        self.query_model = Tower(UserModel(), layer_sizes)
        self.candidate_model = Tower(MovieModel(), layer_sizes)
        self.task = tfrs.tasks.Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(
                candidates=movies().batch(16).map(self.candidate_model), ks=(1, 5)
            )
        )

    def compute_loss(self, features, training=False):
        query = self.query_model(
            {"user_id": features["user_id"], "timestamp": features["timestamp"]}
        )
        candidate = self.candidate_model(features["movie_title"])
        return self.task(query, candidate, compute_metrics=not training)


TUTORIALS = {
    "basic_retrieval": (
        lambda: RetrievalModel(id_tower(USER_IDS), id_tower(TITLES)),
        liked,
        {"user_model": USERS + 1, "movie_model": ITEMS + 1},
    ),
    "basic_ranking": (
        RatingsModel,
        ratings,
        {"user_model": USERS + 1, "movie_model": ITEMS + 1},
    ),
    "multitask": (
        lambda: MultitaskModel(1.0, 1.0),
        ratings,
        {"movie_model": ITEMS + 1, "user_model": USERS + 1},
    ),
    "dcn": (
        DCN,
        ratings,
        {"embeddings_user_id": USERS + 1, "embeddings_movie_title": ITEMS + 1},
    ),
    "deep_with_context": (
        lambda: DeepModel([16, 8]),
        liked,
        {
            "query_model.embedding_model.user_embedding": USERS + 1,
            "query_model.embedding_model.timestamp_embedding": 21,
            "candidate_model.embedding_model.title_embedding": ITEMS + 1,
            "candidate_model.embedding_model.title_text_embedding": 100,
        },
    ),
}


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_is_searched_cut_trained_on_and_saved(name, tmp_path):
    build, data, tables = TUTORIALS[name]
    model = compiled(build())
    found = search(model, tmp_path, data(), data(seed=1))
    assert {field.name: field.input_dim for field in found.fields} == tables
    small, plan = found.get_best_models()[0], found.get_best_plans()[0]
    full_bytes = 4 * WIDTH * sum(tables.values())
    assert plan.num_bytes() <= 0.4 * full_bytes
    assert type(small) is type(model)

    # The score of the search is that of the model which it gives back.
    best = min(r.score for r in found.results() if r.stage == "retrain")
    losses = [float(small.compute_loss(batch)) for batch in data(seed=1)]
    np.testing.assert_allclose(np.mean(losses), best, rtol=1e-5)

    # It trains on, with the user's optimizer.
    assert type(small.optimizer) is type(model.optimizer)
    before = small.trainable_variables[0].numpy()
    small.fit(data(), epochs=1, verbose=0)
    assert not np.array_equal(before, small.trainable_variables[0].numpy())

    # Its weights are saved and loaded; a table holds what the plan says.
    small.save_weights(tmp_path / "weights")
    again = found.get_best_models()[0]
    again.load_weights(tmp_path / "weights").assert_existing_objects_matched()
    batch = next(iter(data()))
    np.testing.assert_allclose(
        again.compute_loss(batch), small.compute_loss(batch), rtol=1e-6
    )
    kept = sum(p.num_parameters() for p in plan)
    assert kept == sum(
        int(np.prod(v.shape))
        for v in small.variables
        if any(v is w for table in bridges(small) for w in table.weights)
    )


def bridges(model):
    from keras_eds.bridges.tfrs import TFRSLayer
    from keras_eds.bridges.tfrs.find_tables import layers_of

    return [layer for layer in layers_of(model) if isinstance(layer, TFRSLayer)]
