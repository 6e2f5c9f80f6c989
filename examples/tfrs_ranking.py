"""Shrinks the tables of a ranking model with a cross network, written with TFRS.

    python examples/tfrs_ranking.py

Predicts the stars of MovieLens-1M from user and movie as the tutorials "basic ranking"
and "DCN" do, searches sizes for 25 % and 10 % of the tables' bytes, and prints the
error before and after. Data as in `examples/tfrs_retrieval.py`.
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
import keras_tuner
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from tfrs_movielens import Ratings, batches, load
from tfrs_retrieval import BUDGETS, tower

import keras_eds
from keras_eds.budget import format_bytes


class RankingModel(tfrs.Model):
    """Crossed towers, then dense layers."""

    def __init__(self, data: Ratings, width: int) -> None:
        super().__init__()
        self.user_model = tower(data.user_ids, width)
        self.movie_model = tower(data.movie_ids, width)
        self.cross = tfrs.layers.dcn.Cross()
        self.ratings = tf_keras.Sequential(
            [
                tf_keras.layers.Dense(64, activation="relu"),
                tf_keras.layers.Dense(1),
            ]
        )
        self.task = tfrs.tasks.Ranking(
            loss=tf_keras.losses.MeanSquaredError(),
            metrics=[tf_keras.metrics.RootMeanSquaredError(name="rmse")],
        )

    def call(self, features: Any) -> tf.Tensor:
        user = self.user_model(features["user_id"])
        movie = self.movie_model(features["movie_id"])
        return self.ratings(self.cross(tf.concat([user, movie], axis=1)))

    def compute_loss(self, features: Any, training: bool = False) -> tf.Tensor:
        predictions = self(features)
        return self.task(labels=features["user_rating"], predictions=predictions)


def row(name: str, model: Any, table_bytes: int, test: tf.data.Dataset) -> str:
    rmse = model.evaluate(test, return_dict=True, verbose=0)["rmse"]
    return f"  {name:<6} tables {format_bytes(table_bytes):>9}   test RMSE {rmse:.4f}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="MovieLens-1M's folder, or 'planted'")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=Path("runs/tfrs_ranking"))
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    data = load(arguments.data)
    print(f"Data: {data.source}, {len(data.train['user_id']):,} training ratings.")
    train = batches(data.train, arguments.batch_size, shuffle=True)
    validation = batches(data.validation, arguments.batch_size)
    test = batches(data.test, arguments.batch_size)

    full = RankingModel(data, arguments.width)
    full.compile(tf_keras.optimizers.Adagrad(0.1))
    began = time.monotonic()
    full.fit(train, epochs=arguments.epochs, verbose=2)
    print(f"The full model trained for {time.monotonic() - began:.0f} s.")

    began = time.monotonic()
    search = keras_eds.EDSSearch(
        full,
        BUDGETS,
        objective=keras_tuner.Objective("val_rmse", "min"),
        seed=0,
        directory=arguments.out,
        project_name="search",
        overwrite=True,
    )
    search.search(train, validation_data=validation, epochs=2, verbose=0)
    print(f"The search took {time.monotonic() - began:.0f} s.")
    search.results_summary()

    print("\nOn the test part:")
    print(row("full", full, sum(field.num_bytes for field in search.fields), test))
    for budget in search.budgets:
        [small] = search.get_best_models(budget=budget)
        [plan] = search.get_best_plans(budget=budget)
        print(row(budget.label, small, plan.num_bytes(), test))
    small.save_weights(arguments.out / "small" / "weights")


if __name__ == "__main__":
    main()
