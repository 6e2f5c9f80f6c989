"""Shrinks the two-tower model of the TFRS tutorials, and serves it.

    python examples/tfrs_retrieval.py

Trains the tutorial's "basic retrieval" on MovieLens-1M (ratings of 4 and more),
searches sizes for 25 % and 10 % of the tables' bytes, and prints how often the movie
that a user liked is among the best 100. The smallest model is saved as an index of
SavedModel format, which is served without Keras or this library. Takes MovieLens-1M
from `--data` or as `examples/quickstart.py` does; else uses planted data and says so.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Before TensorFlow is imported.

# ruff: noqa: E402
import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from tfrs_movielens import Ratings, batches, first, load

import keras_eds
from keras_eds.budget import format_bytes

BUDGETS = [0.25, 0.1]


class RetrievalModel(tfrs.Model):
    """The model of the tutorial."""

    def __init__(self, data: Ratings, width: int) -> None:
        super().__init__()
        self.user_model = tower(data.user_ids, width)
        self.movie_model = tower(data.movie_ids, width)
        movies = tf.data.Dataset.from_tensor_slices(data.movie_ids).batch(512)
        self.task = tfrs.tasks.Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(
                candidates=movies.map(self.movie_model), ks=(10, 100)
            )
        )

    def compute_loss(self, features: Any, training: bool = False) -> tf.Tensor:
        users = self.user_model(features["user_id"])
        movies = self.movie_model(features["movie_id"])
        return self.task(users, movies, compute_metrics=not training)


def tower(ids: Any, width: int) -> tf_keras.Sequential:
    return tf_keras.Sequential(
        [
            tf_keras.layers.StringLookup(vocabulary=ids, mask_token=None),
            tf_keras.layers.Embedding(len(ids) + 1, width),
        ]
    )


def row(name: str, model: Any, table_bytes: int, test: tf.data.Dataset) -> str:
    scores = model.evaluate(test, return_dict=True, verbose=0)
    return (
        f"  {name:<6} tables {format_bytes(table_bytes):>9}"
        f"   top 10 {scores['factorized_top_k/top_10_categorical_accuracy']:.4f}"
        f"   top 100 {scores['factorized_top_k/top_100_categorical_accuracy']:.4f}"
    )


def save_index(model: Any, data: Ratings, path: Path) -> int:
    """Writes an index that gives a user's best ten movies; returns its bytes."""
    index = tfrs.layers.factorized_top_k.BruteForce(model.user_model, k=10)
    movies = tf.data.Dataset.from_tensor_slices(data.movie_ids).batch(512)
    index.index_from_dataset(movies.map(lambda ids: (ids, model.movie_model(ids))))
    index(tf.constant(data.user_ids[:1]))
    tf.saved_model.save(index, str(path))
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="MovieLens-1M's folder, or 'planted'")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("runs/tfrs_retrieval"))
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    data = load(arguments.data, least=4)
    print(f"Data: {data.source}, {len(data.train['user_id']):,} training pairs.")
    train = batches(data.train, arguments.batch_size, shuffle=True)
    validation = batches(first(data.validation, 20_000), arguments.batch_size)
    test = batches(data.test, arguments.batch_size)

    full = RetrievalModel(data, arguments.width)
    full.compile(tf_keras.optimizers.Adagrad(0.1))
    began = time.monotonic()
    full.fit(train, epochs=arguments.epochs, verbose=2)
    print(f"The full model trained for {time.monotonic() - began:.0f} s.")

    began = time.monotonic()
    search = keras_eds.EDSSearch(
        full,
        BUDGETS,
        seed=0,
        directory=arguments.out,
        project_name="search",
        overwrite=True,
    )
    search.search(train, validation_data=validation, epochs=1, verbose=0)
    print(f"The search took {time.monotonic() - began:.0f} s.")
    search.results_summary()

    whole = sum(field.num_bytes for field in search.fields)
    print("\nHow often the movie is among the best, on the test part:")
    print(row("full", full, whole, test))
    small = full
    for budget in search.budgets:
        [small] = search.get_best_models(budget=budget)
        [plan] = search.get_best_plans(budget=budget)
        print(row(budget.label, small, plan.num_bytes(), test))
    for name, model in (("full", full), ("small", small)):
        size = save_index(model, data, arguments.out / f"{name}_index")
        print(f"Index of the {name} model on disk: {format_bytes(size)}")


if __name__ == "__main__":
    main()
