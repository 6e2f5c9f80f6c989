"""What a compact model costs to train and to run, against the full one.

A DeepFM with 39 fields of mixed vocabularies, as click data have, in full and cut
to a tenth of its table bytes. Step times are medians over the batches of `fit`
and `predict`, both models in one process and by turns; peak memory is that of a
process each, which loads the model from its file and trains it.

    python examples/benchmarks/compact_step.py

Writes `results/compact_step.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_eds
from keras_eds.methods import RandomSizes
from keras_eds.models import DeepFM, FieldSpec
from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
FIELDS = 39
WIDTH = 16
BATCHES = 24


class StepTimer(keras.callbacks.Callback):
    """Milliseconds between the ends of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.marks.append(time.perf_counter())

    on_predict_batch_end = on_train_batch_end

    def median(self) -> float:
        return float(np.median(np.diff(self.marks)[2:]) * 1e3)


def vocabularies(largest: int) -> list[int]:
    """From 10 ids to `largest`, in equal ratios."""
    return [int(v) for v in np.geomspace(10, largest, FIELDS)]


def full_model(largest: int, width: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    specs = [FieldSpec(f"f{i}", v) for i, v in enumerate(vocabularies(largest))]
    model = DeepFM(specs, embedding_dim=width - 1, hidden_units=(64, 64))
    model.compile(LazyAdam(0.001), "binary_crossentropy")
    return model


def compact_model(full: keras.Model) -> keras.Model:
    fields = keras_eds.find_fields(full)
    method = RandomSizes()
    state = method.start(fields, [keras_eds.Budget(0.1)], 0, True)
    return keras_eds.apply_plan(full, method.plan(state, state.budgets[0]))


def batches(largest: int, batch_size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(0)
    rows = BATCHES * batch_size
    x = {
        f"f{i}": random.integers(0, v, rows).astype("int32")
        for i, v in enumerate(vocabularies(largest))
    }
    return x, random.integers(0, 2, (rows, 1)).astype("float32")


def step_times(largest: int, batch_size: int, rounds: int = 5) -> dict[str, Any]:
    full = full_model(largest, WIDTH)
    models = {"full": full, "compact": compact_model(full)}
    x, y = batches(largest, batch_size)
    timers: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, model in models.items():
            keras_eds.use_sparse_lookups(model) if not timers else None
            fit, predict = StepTimer(), StepTimer()
            model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=[fit])
            model.predict(x, batch_size=batch_size, verbose=0, callbacks=[predict])
            timers.setdefault((name, "fit"), []).append(fit.median())
            timers.setdefault((name, "predict"), []).append(predict.median())
    # The first round compiles.
    return {
        " ".join(key): float(np.median(values[1:])) for key, values in timers.items()
    }


class MemoryMonitor(keras.callbacks.Callback):
    """The largest resident memory at the end of a batch, in MiB."""

    peak = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.peak = max(self.peak, resident("VmRSS"))


def resident(what: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(what + ":")[1].split()[0]) / 1024


def train_in_this_process(path: str, largest: int) -> None:
    """Trains the model in a file and prints how much memory it took, in MiB."""
    before, monitor = resident("VmRSS"), MemoryMonitor()
    model = keras_eds.use_sparse_lookups(keras.saving.load_model(path))
    x, y = batches(largest, 1024)
    model.fit(x, y, batch_size=1024, verbose=0, callbacks=[monitor])
    found = {
        "while training": monitor.peak,
        "while training, less the libraries": monitor.peak - before,
        "while loading the file": resident("VmHWM"),
    }
    print(json.dumps(found))


def save_models(folder: str, largest: int, width: int) -> None:
    full = full_model(largest, width)
    full.save(f"{folder}/full.keras")
    compact_model(full).save(f"{folder}/compact.keras")


def in_a_process(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def peaks(largest: int, width: int) -> dict[str, dict[str, float]]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        in_a_process("--save", folder, str(largest), str(width))
        for name in ("full", "compact"):
            output = in_a_process("--train", f"{folder}/{name}.keras", str(largest))
            found[name] = json.loads(output.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", nargs=2, metavar=("FILE", "LARGEST"))
    parser.add_argument("--save", nargs=3, metavar=("FOLDER", "LARGEST", "WIDTH"))
    arguments = parser.parse_args()
    if arguments.save:
        folder, largest, width = arguments.save
        return save_models(folder, int(largest), int(width))
    if arguments.train:
        return train_in_this_process(arguments.train[0], int(arguments.train[1]))
    backend, cores = keras.backend.backend(), len(os.sched_getaffinity(0))
    found = peaks(5_000_000, 32)
    lines = [
        "# The compact model against the full one",
        "",
        "Made by `python examples/benchmarks/compact_step.py` on the "
        f"{backend} backend, {cores} CPU core{'s' * (cores > 1)}: DeepFM, {FIELDS} "
        "fields of 10 ids to the "
        "largest vocabulary in equal ratios, LazyAdam, random widths at 10% of the "
        "table bytes. Milliseconds a batch.",
        "",
        "| largest | batch | fit, full | fit, compact | ratio "
        "| predict, full | predict, compact | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for largest, batch_size in ((10_000, 1024), (100_000, 1024), (100_000, 4096)):
        ms = step_times(largest, batch_size)
        fit = ms["compact fit"] / ms["full fit"]
        predict = ms["compact predict"] / ms["full predict"]
        lines.append(
            f"| {largest:,} | {batch_size} "
            f"| {ms['full fit']:.1f} | {ms['compact fit']:.1f} | {fit:.2f} "
            f"| {ms['full predict']:.1f} | {ms['compact predict']:.1f} "
            f"| {predict:.2f} |"
        )
        print(lines[-1], flush=True)
    lines += [
        "",
        "Peak memory of a process that loads the model and trains it, largest "
        "vocabulary 5,000,000, width 32, MiB:",
        "",
        "| | full | compact | ratio |",
        "|---|---|---|---|",
    ]
    for what in found["full"]:
        a, b = found["full"][what], found["compact"][what]
        lines.append(f"| {what} | {a:,.0f} | {b:,.0f} | {b / a:.2f} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "compact_step.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
