"""What learned sizes cost a training step, against a plain embedding.

One table of 1,000,000 ids and width 32, as `keras.layers.Embedding` and as
`MaskedTwinEmbedding`, alone under one `Dense(1)` (the shortest step there is) and
under an MLP; ids are drawn by a power law. Both train with LazyAdam in one process,
by turns, on one thread.

    python examples/benchmarks/masked_step.py

Writes `results/masked_step.md`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_eds
from keras_eds.layers import MaskedTwinEmbedding
from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
ROWS, WIDTH = 1_000_000, 32
STEPS, WARM, TURNS = 200, 20, 5


class StepTimer(keras.callbacks.Callback):  # type: ignore[misc]
    """Milliseconds of processor time between the ends of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.marks.append(time.process_time())

    def steps(self) -> np.ndarray:
        return np.diff(self.marks)[WARM:] * 1e3


def with_table(table: keras.layers.Layer, hidden: tuple[int, ...]) -> keras.Model:
    ids = keras.Input((), dtype="int32")
    x = table(ids)
    for units in hidden:
        x = keras.layers.Dense(units, activation="relu")(x)
    model = keras.Model(ids, keras.layers.Dense(1)(x))
    model.compile(LazyAdam(1e-3), "mse")
    if isinstance(table, keras.layers.Embedding):
        keras_eds.use_sparse_lookups(model)  # ours looks up so by itself
    return model


def compare(batch: int, hidden: tuple[int, ...]) -> tuple[float, float, float]:
    """Median milliseconds of a plain and of a masked step; median ratio of turns."""
    random = np.random.default_rng(0)
    ids = (random.zipf(1.1, (STEPS + WARM, batch)) % ROWS).astype("int32")
    y = random.normal(size=(*ids.shape, 1)).astype("float32")
    masked = MaskedTwinEmbedding(
        ROWS, WIDTH, counts=np.bincount(ids.ravel(), minlength=ROWS)
    )
    layers = [keras.layers.Embedding(ROWS, WIDTH), masked]
    models = [with_table(layer, hidden) for layer in layers]
    data = tf.data.Dataset.from_tensor_slices((ids, y))
    medians = np.zeros((TURNS, 2))
    for turn in range(-1, TURNS):  # the first is for tracing
        for place, model in enumerate(models):
            timer = StepTimer()
            model.fit(data, callbacks=[timer], verbose=0)
            if turn >= 0:
                medians[turn, place] = np.median(timer.steps())
    plain, with_masks = np.median(medians, axis=0)
    return plain, with_masks, float(np.median(medians[:, 1] / medians[:, 0]))


def main() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    lines = [
        "# A step with masked twins against a plain embedding",
        "",
        "Made by `python examples/benchmarks/masked_step.py`: 1,000,000 ids, width "
        f"{WIDTH}, LazyAdam, keras {keras.__version__} on TensorFlow {tf.__version__}, "
        "one thread; processor milliseconds, medians.",
        "",
        "| under the table | batch | plain | masked | ratio |",
        "|---|---|---|---|---|",
    ]
    for hidden in ((), (64, 64), (256, 128)):
        for batch in (1024, 4096):
            plain, masked, ratio = compare(batch, hidden)
            upper = "-".join(str(units) for units in (*hidden, 1))
            lines.append(
                f"| {upper} | {batch:,} | {plain:.2f} | {masked:.2f} | {ratio:.2f} |"
            )
            print(lines[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "masked_step.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
