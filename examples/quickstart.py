"""Shrinks the tables of a DeepFM to a tenth, on MovieLens-1M.

    python examples/quickstart.py

Takes MovieLens-1M from `--data`, from the folder in `KERAS_EDS_DATA`, or from
`../shared/data` beside the checkout; else downloads it; else uses planted data
and says so. Everything it writes goes to `--out`.
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
from keras_eds.callbacks import EDSTensorBoard
from keras_eds.datasets import load_movielens_1m, make_planted
from keras_eds.models import DeepFM
from keras_eds.optimizers import LazyAdam
from keras_eds.reporting.plots import plot_scores, plot_sizes


def load(where: str | None) -> tuple[Any, int, float]:
    """The data, a batch size and a learning rate."""
    if where != "planted":
        try:
            return load_movielens_1m(where), 4096, 0.003
        except Exception as error:
            if where is not None:
                raise
            print(f"MovieLens-1M is not to be had ({type(error).__name__}: {error}).")
            print("Using planted data: synthetic clicks, eight fields of known width.")
    return make_planted(num_examples=60_000), 512, 0.003


def build(data: Any, width: int, learning_rate: float) -> keras.Model:
    model = DeepFM(data.fields, embedding_dim=width, dropout=0.2, seed=0)
    auc = keras.metrics.AUC(name="auc")
    model.compile(LazyAdam(learning_rate), "binary_crossentropy", metrics=[auc])
    return model


def fit_options(data: Any, batch_size: int, epochs: int) -> dict[str, Any]:
    stop = keras.callbacks.EarlyStopping(
        "val_auc", mode="max", patience=1, restore_best_weights=True
    )
    return {
        "validation_data": data.validation,
        "batch_size": batch_size,
        "epochs": epochs,
        "callbacks": [stop],
        "verbose": 2,
    }


def test_auc(model: keras.Model, data: Any) -> float:
    x, y = data.test
    return float(
        model.evaluate(x, y, batch_size=8192, verbose=0, return_dict=True)["auc"]
    )


def bytes_on_disk(model: keras.Model, path: Path) -> int:
    """The size of a file of the weights, without the optimizer's state."""
    weights = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    np.savez(path, *weights)
    return path.stat().st_size


def row(name: str, model: keras.Model, tables: int, data: Any, out: Path) -> str:
    disk = bytes_on_disk(model, out / f"{name.replace(' ', '_')}.npz")
    return (
        f"  {name:<13}  test AUC {test_auc(model, data):.4f}   "
        f"tables {format_bytes(tables):>8}   all weights {format_bytes(disk):>8}"
    )


def table_bytes(model: keras.Model) -> int:
    return sum(field.num_bytes for field in keras_eds.find_fields(model))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="MovieLens-1M's folder, or 'planted'")
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    shrink(arguments)


def shrink(arguments: argparse.Namespace) -> None:
    out, budget = arguments.out, arguments.budget
    keras.utils.set_random_seed(0)
    data, batch_size, learning_rate = load(arguments.data)
    print(f"Data: {data.source}, {len(data.train[1]):,} training examples.\n")

    print("Training the full model")
    full = build(data, arguments.width, learning_rate)
    began = time.monotonic()
    history = full.fit(*data.train, **fit_options(data, batch_size, arguments.epochs))
    epoch = (time.monotonic() - began) / len(history.history["loss"])

    print(f"\nTraining a model of equal widths, {budget:.0%} of the bytes")
    columns = max(2, int(budget * (arguments.width + 1)))
    equal = build(data, columns - 1, learning_rate)
    equal.fit(*data.train, **fit_options(data, batch_size, arguments.epochs))

    search = keras_eds.EDSSearch(
        full,
        budget,
        objective="val_auc",
        seed=0,
        directory=out,
        project_name="search",
        overwrite=True,
    )
    options = fit_options(data, batch_size, arguments.epochs)
    options["callbacks"].append(EDSTensorBoard(out / "logs"))
    search.search(*data.train, **options)
    search.results_summary()
    small = search.get_best_models()[0]
    small.save(out / "small.keras")
    results, plan = search.results(), search.get_best_plans()[0]
    plot_sizes(plan, out / "sizes.png")
    plot_scores(results, out / "scores.png")

    print(f"At {budget:.0%} of the table bytes, on disk:")
    print(row("full model", full, table_bytes(full), data, out))
    print(row("equal widths", equal, table_bytes(equal), data, out))
    print(row("searched", small, plan.num_bytes(), data, out))
    seconds = {stage: 0.0 for stage in ("probe", "retrain")}
    for result in results:
        seconds[result.stage] += result.seconds
    print(
        f"\nOne epoch of the full model took {epoch:.1f} s, the search "
        f"{sum(seconds.values()):.1f} s: measuring {seconds['probe']:.1f} s, "
        f"retraining {seconds['retrain']:.1f} s."
    )
    print(f"Model and pictures are in {out}; tensorboard --logdir {out / 'logs'}")


if __name__ == "__main__":
    main()
