"""Shrinks a YouTubeDNN on MovieLens-1M and searches the cut items as they are.

    python examples/youtube_retrieval.py

Guesses a user's films from the other films of the user. Prints Recall@100 on the
test part, the bytes of the tables and of the index, and how much of the exact answer
FAISS finds (if it is installed), for the full model and at 25 % and 10 % of the bytes,
before and after retraining. Saves the models in `--out`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_eds
from keras_eds.budget import format_bytes
from keras_eds.datasets import Histories, Interactions, load_movielens_interactions
from keras_eds.metrics import evaluate_ranking
from keras_eds.models import FieldSpec, SampledSoftmaxLoss, YouTubeDNN
from keras_eds.retrieval import ExactIndex, FaissIndex, index_recall


def build(data: Interactions, arguments: argparse.Namespace) -> keras.Model:
    history = FieldSpec("history", data.num_items + 1, multi_hot=True)
    width = arguments.width
    model = YouTubeDNN([history], data.num_items, width, (2 * width, width), seed=0)
    model.compile(keras.optimizers.Adam(arguments.learning_rate), SampledSoftmaxLoss())
    return model


def batches(data: Interactions, part: str, arguments: argparse.Namespace) -> Histories:
    return Histories(
        getattr(data, part),
        data.train,
        length=arguments.length,
        batch_size=arguments.batch_size,
        negatives=arguments.negatives,
        seed=1 if part == "train" else 2,
    )


def user_vectors(model: keras.Model, data: Interactions, length: int) -> np.ndarray:
    """What the last hidden layer says of every user, from the training part."""
    histories = Histories(data.train, length=length).histories(range(data.num_users))
    tower = model.get_layer("user_tower")
    vectors = tower.predict({"history": histories}, batch_size=1024, verbose=0)
    return np.asarray(vectors)


def recall_at_100(
    model: keras.Model, data: Interactions, vectors: np.ndarray, index: Any = None
) -> float:
    """Of the test part, over all films that are not in the other parts."""
    if index is None:
        index = ExactIndex.of(model.get_layer("item_weights"), k=data.num_items)

    def scores(users: np.ndarray) -> np.ndarray:
        best, items = map(keras.ops.convert_to_numpy, index(vectors[users]))
        by_item = np.empty_like(best)
        np.put_along_axis(by_item, items, best, axis=1)
        return by_item

    seen = data.train.union(data.validation)
    found = evaluate_ranking(scores, data.test, seen, ks=[100])
    return found.means()["recall@100"]


def faiss_recall(model: keras.Model, vectors: np.ndarray) -> str:
    """Recall@10 of FAISS's answer against the exact one."""
    weights = model.get_layer("item_weights")
    try:
        index = FaissIndex(weights)
    except ImportError as error:
        return f"({error})"
    exact = keras.ops.convert_to_numpy(ExactIndex.of(weights, k=10)(vectors)[1])
    recall = index_recall(index.search(vectors, k=10)[1], exact)
    return f"{recall:.3f} {sorted(set(index.factories))}"


def report(
    name: str, model: keras.Model, tables: int, data: Interactions, length: int
) -> None:
    vectors = user_vectors(model, data, length)
    index = ExactIndex.of(model.get_layer("item_weights"))
    print(
        f"{name:<22} Recall@100 {recall_at_100(model, data, vectors):.4f}  "
        f"tables {format_bytes(tables):>8}  index {format_bytes(index.num_bytes()):>8}"
        f"  FAISS recall@10 {faiss_recall(model, vectors)}",
        flush=True,
    )


def run(data: Interactions, arguments: argparse.Namespace) -> keras_eds.EDSSearch:
    keras.utils.set_random_seed(0)
    train, validation = (batches(data, p, arguments) for p in ("train", "validation"))
    stop = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    options: dict[str, Any] = {
        "validation_data": validation,
        "callbacks": [stop],
        "verbose": arguments.verbose,
    }
    full = build(data, arguments)
    full.fit(train, epochs=arguments.epochs, **options)
    search = keras_eds.EDSSearch(
        full,
        budget=[0.25, 0.1],
        method=arguments.method,
        seed=0,
        directory=arguments.out,
        project_name="search",
        overwrite=True,
    )
    search.search(train, epochs=arguments.retrain_epochs, **options)

    full.save(arguments.out / "full.keras")
    fields = keras_eds.find_fields(full)
    report("full", full, sum(f.num_bytes for f in fields), data, arguments.length)
    for budget in search.budgets:
        [model] = search.get_best_models(budget=budget)
        [plan] = search.get_best_plans(budget=budget)
        size, name = plan.num_bytes(), budget.label
        before = keras_eds.apply_plan(full, plan)
        report(f"{name}, cut", before, size, data, arguments.length)
        report(f"{name}, retrained", model, size, data, arguments.length)
        model.save(arguments.out / f"{name}.keras")
    return search


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=None, help="where MovieLens-1M is")
    parser.add_argument("--out", default=Path("runs/youtube_retrieval"), type=Path)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--length", type=int, default=20, help="films of a history")
    parser.add_argument("--negatives", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--retrain-epochs", type=int, default=2)
    parser.add_argument("--method", default="sseds")
    parser.add_argument("--verbose", type=int, default=2)
    arguments = parser.parse_args(given)
    began = time.monotonic()
    run(load_movielens_interactions(arguments.data), arguments)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
