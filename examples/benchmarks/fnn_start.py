"""FNN with tables from a trained FM against FNN drawn at random, on MovieLens-1M.

Trains an FM until its validation loss has risen twice. Then an FNN of the same
width, once with the FM's tables and once without, same seed, same perceptron, same
order of batches: test AUC and log loss after every epoch, and at the epoch with the
best validation loss. The FM's own epochs are counted beside it.

    KERAS_BACKEND=jax python examples/benchmarks/fnn_start.py

Every model is some lines of `results/fnn_start.jsonl`; a second call goes on where
the first was stopped. Writes `results/fnn_start.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

import keras_eds
from keras_eds.datasets import load_movielens_1m
from keras_eds.models import FM, FNN
from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
WIDTH, BATCH_SIZE, LEARNING_RATE, EPOCHS = 32, 4096, 2e-3, 8
STARTS = ("FM", "random")
ABOUT = (
    f"Width {WIDTH}, hidden layers 64 and 64, dropout 0.2, LazyAdam {LEARNING_RATE}, "
    f"batches of {BATCH_SIZE:,}, random split 80/10/10. Means over seeds; the spread "
    "is a standard deviation."
)


class Scores(keras.callbacks.Callback):
    """Test scores after every epoch."""

    def __init__(self, data: Any, about: dict[str, Any]) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self._data, self._about = data, about

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        x, y = self._data.test
        scores = self.model.predict(x, batch_size=8192, verbose=0)[:, 0]
        scores = np.clip(scores.astype("float64"), 1e-7, 1 - 1e-7)
        self.rows.append({
            **self._about,
            "epoch": epoch + 1,
            "val_loss": float((logs or {})["val_loss"]),
            "auc": float(roc_auc_score(y, scores)),
            "logloss": float(log_loss(y, scores)),
        })  # fmt: skip


def train(
    model: keras.Model, data: Any, epochs: int, about: dict[str, Any], stop: bool
) -> list[dict[str, Any]]:
    keras.utils.set_random_seed(about["seed"])
    model.compile(LazyAdam(LEARNING_RATE), "binary_crossentropy")
    scores = Scores(data, about)
    stopper = keras.callbacks.EarlyStopping(
        "val_loss", patience=2, restore_best_weights=True
    )
    model.fit(
        *data.train,
        validation_data=data.validation,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        callbacks=[scores, stopper] if stop else [scores],
        verbose=0,
    )
    return scores.rows


def one_seed(data: Any, seed: int) -> list[dict[str, Any]]:
    fm = FM(data.fields, WIDTH, seed=seed)
    rows = train(fm, data, 20, {"model": "FM", "start": "random", "seed": seed}, True)
    for start in STARTS:
        model = FNN(data.fields, WIDTH, (64, 64), dropout=0.2, seed=seed)
        if start == "FM":
            keras_eds.load_tables(model, fm)
        about = {"model": "FNN", "start": start, "seed": seed}
        rows += train(model, data, EPOCHS, about, False)
    return rows


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """The epoch with the best validation loss of every seed."""
    return rows.loc[rows.groupby("seed").val_loss.idxmin()]


def write_table(rows: pd.DataFrame, command: str) -> None:
    fm, fnn = rows[rows.model == "FM"], rows[rows.model == "FNN"]
    runs = {start: fnn[fnn.start == start] for start in STARTS}
    lines = [
        "# FNN from a trained FM and from scratch",
        "",
        f"Made by `{command}`. MovieLens-1M. {ABOUT}",
        "",
        "| epoch | seeds | test AUC, FM start | random start | FM - random, each seed "
        "| log loss, FM start | random start |",
        "|---" * 7 + "|",
    ]
    for epoch in range(1, EPOCHS + 1):
        at = {s: r[r.epoch == epoch].set_index("seed") for s, r in runs.items()}
        lines.append(f"| {epoch} | {_cells(at)} |")
    at = {start: best(run).set_index("seed") for start, run in runs.items()}
    lines += [f"| best on validation | {_cells(at)} |", ""]
    own, epochs = best(fm), {s: best(run).epoch.mean() for s, run in runs.items()}
    lines.append(
        f"The FM itself has a test AUC of {_spread(own.auc)} and a log loss of "
        f"{own.logloss.mean():.4f}, after {own.epoch.mean():.1f} epochs. The best "
        f"epoch of the FNN is {epochs['FM']:.1f} with it and "
        f"{epochs['random']:.1f} without."
    )
    (RESULTS / "fnn_start.md").write_text("\n".join(lines) + "\n")


def _cells(at: dict[str, pd.DataFrame]) -> str:
    warm, cold = at["FM"], at["random"]
    gains = ", ".join(f"{gain:+.4f}" for gain in warm.auc - cold.auc)
    return (
        f"{len(warm)} | {_spread(warm.auc)} | {_spread(cold.auc)} | {gains} | "
        f"{warm.logloss.mean():.4f} | {cold.logloss.mean():.4f}"
    )


def _spread(values: pd.Series) -> str:
    spread = f" ± {values.std():.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{spread}"


def read(path: Path) -> pd.DataFrame:
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", default=None, help="where MovieLens-1M is")
    given = parser.parse_args()
    path = RESULTS / "fnn_start.jsonl"
    script = " ".join(["examples/benchmarks/fnn_start.py", *sys.argv[1:]])
    command = f"KERAS_BACKEND={keras.backend.backend()} python {script}"
    data = load_movielens_1m(given.data)
    for seed in given.seeds:
        known = read(path)
        if not len(known) or seed not in set(known.seed):
            rows = one_seed(data, seed)
            with path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            print(rows[-1], flush=True)
        write_table(read(path), command)


if __name__ == "__main__":
    main()
