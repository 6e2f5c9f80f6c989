"""What a step of a TFRS model costs with our layers, beside tf_keras's own Embedding.

A ranking model with one table of 5,000,000 ids and Adagrad, trained by `fit`: with
`tf.keras.layers.Embedding`, with a Keras 3 `Embedding` in a `TFRSLayer`, and with a
`RowSizedEmbedding` of a tenth of the bytes in one. The models take turns in one
process; a time is the median over the batches of all turns.

    python examples/benchmarks/tfrs_step_time.py

Writes `results/tfrs_step_time.md`.
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
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from keras_eds.bridges.tfrs import TFRSLayer
from keras_eds.layers import RowSizedEmbedding

RESULTS = Path(__file__).parent / "results"
OWN = "tf.keras Embedding"


class Ranking(tfrs.Model):
    """A table, a dense layer and a task."""

    def __init__(self, table: tf_keras.layers.Layer) -> None:
        super().__init__()
        self.table = table
        self.dense = tf_keras.layers.Dense(1)
        self.task = tfrs.tasks.Ranking(loss=tf_keras.losses.MeanSquaredError())

    def compute_loss(self, features: Any, training: bool = False) -> tf.Tensor:
        predictions = self.dense(self.table(features["id"]))
        return self.task(labels=features["label"], predictions=predictions)


class StepTimer(tf_keras.callbacks.Callback):
    """Milliseconds between the ends of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._last: float | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.times.append((now - self._last) * 1e3)
        self._last = now


def tables(rows: int, width: int) -> dict[str, tf_keras.layers.Layer]:
    """The layers to compare."""
    sizes = np.zeros(rows, np.int64)
    # A tenth of the bytes: the first tenth of the ids keeps everything.
    sizes[: rows // 10 - rows // 100] = width
    return {
        OWN: tf_keras.layers.Embedding(rows, width),
        "TFRSLayer(Embedding)": TFRSLayer(keras.layers.Embedding(rows, width)),
        "TFRSLayer(RowSizedEmbedding), 10 %": TFRSLayer(
            RowSizedEmbedding(rows, width, sizes=sizes)
        ),
    }


def measure(
    rows: int, width: int, batch: int, steps: int, turns: int
) -> dict[str, Any]:
    """Median milliseconds a step, by layer."""
    random = np.random.default_rng(0)
    count = batch * steps
    features = {
        "id": random.integers(0, rows, count),
        "label": random.random((count, 1)).astype("float32"),
    }
    data = tf.data.Dataset.from_tensor_slices(features).batch(batch).cache()
    models, timers = {}, {}
    for name, table in tables(rows, width).items():
        models[name] = Ranking(table)
        models[name].compile(tf_keras.optimizers.Adagrad(0.1))
        models[name].fit(data, verbose=0)
        timers[name] = StepTimer()
    for _ in range(turns):
        for name, model in models.items():
            model.fit(data, verbose=0, callbacks=[timers[name]])
    return {name: float(np.median(timer.times)) for name, timer in timers.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batches", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "tfrs_step_time.md")
    arguments = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    lines = [
        "# Steps of a TFRS model\n",
        "Made by `python examples/benchmarks/tfrs_step_time.py`: one table of "
        f"{arguments.rows:,} ids x {arguments.width}, tf_keras's Adagrad, 1 CPU core, "
        f"median of {arguments.turns} turns of {arguments.steps} steps, the layers by "
        "turns in one process. Milliseconds a step.\n",
        "| batch | layer | ms | ratio |",
        "|---|---|---|---|",
    ]
    for batch in arguments.batches:
        found = measure(
            arguments.rows, arguments.width, batch, arguments.steps, arguments.turns
        )
        for name, milliseconds in found.items():
            ratio = milliseconds / found[OWN]
            lines.append(f"| {batch} | {name} | {milliseconds:.2f} | {ratio:.2f} |")
            print(lines[-1], flush=True)
    arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
