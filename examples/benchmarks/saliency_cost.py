"""What the saliency pass costs, as a share of one training epoch.

    KERAS_BACKEND=tensorflow python examples/benchmarks/saliency_cost.py

The full model is trained for two epochs; the second, which no longer traces or
compiles, is the unit. Saliency is measured three times and the median counts,
once with the default number of batches. Adds lines to `results/saliency_cost.md`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import keras

import keras_eds
from keras_eds.datasets import load_criteo, load_movielens_1m
from keras_eds.models import DeepFM
from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
DATASETS = {
    "MovieLens-1M": (load_movielens_1m, 32, 1024),
    "Criteo sample": (load_criteo, 16, 1024),
}


class EpochTimes(keras.callbacks.Callback):
    def on_train_begin(self, logs: Any = None) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.monotonic() - self._began)


def cost(load: Any, width: int, batch_size: int) -> dict[str, float]:
    data = load()
    keras.utils.set_random_seed(0)
    model = DeepFM(data.fields, embedding_dim=width, seed=0)
    model.compile(LazyAdam(1e-3), "binary_crossentropy")
    times = EpochTimes()
    x, y = data.train
    model.fit(x, y, batch_size=batch_size, epochs=3, verbose=0, callbacks=[times])
    passes = []
    for _ in range(3):
        began = time.monotonic()
        keras_eds.measure(model, {"x": x, "y": y, "batch_size": batch_size})
        passes.append(time.monotonic() - began)
    return {
        "first": times.seconds[0],
        "epoch": statistics.median(times.seconds[1:]),
        "pass": statistics.median(passes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    names = parser.parse_args().datasets
    path = RESULTS / "saliency_cost.md"
    if not path.exists():
        path.write_text(
            "# Cost of the saliency pass\n\nMade by `python examples/benchmarks/"
            "saliency_cost.py` with KERAS_BACKEND as named, on 2 CPU cores.\n\n"
            "| data | backend | first epoch, s | epoch, s | saliency pass, s | "
            "pass / epoch |\n|---|---|---|---|---|---|\n"
        )
    for name in names:
        load, width, batch_size = DATASETS[name]
        found = cost(load, width, batch_size)
        share = found["pass"] / found["epoch"]
        line = (
            f"| {name} | {keras.backend.backend()} | {found['first']:.1f} | "
            f"{found['epoch']:.1f} | {found['pass']:.2f} | {share:.3f} |"
        )
        with path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
