"""Does it matter how Adam counts an id that comes more than once in a batch?

Adam divides by the root of the squared gradient of a row. Keras 3.15 on
TensorFlow squares each slice of a `tf.IndexedSlices` by itself, so an id that
comes k times in a batch has `sum(g**2)` there and not `sum(g)**2`. Three
optimizers, everything else equal, on DeepFM of width 16:

- `keras.optimizers.Adam` as it is;
- the same on gradients summed by row first: Adam as its paper writes it;
- `LazyAdam`, which sums by row and leaves the rows outside the batch alone.

Validation data choose the epoch; test data are reported.

    KERAS_BACKEND=tensorflow python examples/benchmarks/repeated_ids.py

Every finished run is a line of `results/repeated_ids.jsonl`; a second call goes
on where the first was stopped and writes `results/repeated_ids.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from ctr_budgets import Bench
from ctr_setup import SETTINGS
from sklearn.metrics import log_loss, roc_auc_score

from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
PATH = RESULTS / "repeated_ids.jsonl"
WIDTH = 16
KEY = ["dataset", "seed", "optimizer"]


class AdamOnSums(keras.optimizers.Adam):
    """Adam that is given each sparse gradient as the dense sum of its slices."""

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        grads = [tf.convert_to_tensor(gradient) for gradient in grads]
        super().apply(grads, trainable_variables)


OPTIMIZERS = {
    "keras Adam": keras.optimizers.Adam,
    "Adam on sums": AdamOnSums,
    "LazyAdam": LazyAdam,
}


def train(bench: Bench, optimizer: str) -> dict[str, Any]:
    """Trains and tests one model; the seed fixes weights, dropout and order."""
    keras.utils.set_random_seed(bench.seed)
    model = bench.build(WIDTH)
    rate = bench.settings["learning_rate"]
    model.compile(OPTIMIZERS[optimizer](rate), "binary_crossentropy")
    began = time.monotonic()
    history = model.fit(*bench.data.train, **bench.fit_options()).history
    seconds = time.monotonic() - began
    x, y = bench.data.test
    scores = model.predict(x, batch_size=8192, verbose=0)[:, 0].astype("float64")
    return {
        "dataset": bench.name,
        "seed": bench.seed,
        "optimizer": optimizer,
        "auc": float(roc_auc_score(y, scores)),
        "logloss": float(log_loss(y, np.clip(scores, 1e-7, 1 - 1e-7))),
        "val_loss": min(history["val_loss"]),
        "epoch": int(np.argmin(history["val_loss"])) + 1,
        "seconds_per_epoch": seconds / len(history["loss"]),
    }


def finished() -> list[dict[str, Any]]:
    if not PATH.exists():
        return []
    return [json.loads(line) for line in PATH.read_text().splitlines()]


def run(dataset: str, seeds: list[int], data_path: str | None) -> None:
    data = SETTINGS[dataset]["load"](data_path)
    for seed in seeds:
        for optimizer in OPTIMIZERS:
            key = [dataset, seed, optimizer]
            if any([row[k] for k in KEY] == key for row in finished()):
                continue
            row = train(Bench(dataset, data, "DeepFM", seed), optimizer)
            with PATH.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(*key, f"{row['auc']:.4f}", flush=True)


def write_table() -> None:
    rows = pd.DataFrame(finished())
    lines = [
        "# Repeated ids in a batch: test scores, mean +- standard deviation\n",
        "Made by `KERAS_BACKEND=tensorflow python examples/benchmarks/repeated_ids.py`."
        f" DeepFM, width {WIDTH}, Keras {keras.__version__}, TensorFlow "
        f"{tf.__version__}; batch size, learning rate, penalty and dropout as in "
        "`ctr_budgets.py`, the same for all three.\n",
        "The last column is the mean over seeds of the AUC minus that of "
        "`keras Adam` at the same seed, with its standard deviation. The learning "
        "rate was not tuned for any of them.\n",
        "| data | optimizer | seeds | test AUC | log loss | best epoch | "
        "AUC - keras Adam |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, group in rows.groupby("dataset"):
        auc = group.pivot(index="seed", columns="optimizer", values="auc")
        for optimizer in OPTIMIZERS:
            own = group[group.optimizer == optimizer]
            gain = (auc[optimizer] - auc["keras Adam"]).dropna()
            difference = "" if optimizer == "keras Adam" else _spread(gain)
            lines.append(
                f"| {dataset} | {optimizer} | {len(own)} | {_spread(own.auc)} | "
                f"{_spread(own.logloss)} | {own.epoch.mean():.1f} | {difference} |"
            )
    PATH.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[3:]))


def _spread(values: Any) -> str:
    return f"{values.mean():.4f} +- {values.std():.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", nargs="+", default=["criteo", "movielens"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", default=None, help="where the data sets are")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for dataset in arguments.datasets:
        run(dataset, arguments.seeds, arguments.data)
    write_table()


if __name__ == "__main__":
    main()
