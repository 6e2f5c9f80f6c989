"""Time of the best of many scores, beside NumPy and TensorFlow.

    KERAS_BACKEND=tensorflow taskset -c 0 python examples/benchmarks/top_items.py

Processor time of one call on normal scores, one thread, least of five; the three take
turns. NumPy partitions all columns and sorts the best; TensorFlow is `tf.math.top_k`.
Writes `results/top_items.md`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_eds.metrics import top_items

COLUMNS, KS, SCORES, TURNS = (3_700, 41_000, 1_000_000), (20, 100), 10_000_000, 5
RESULTS = Path(__file__).parent / "results"


def numpy_items(scores: np.ndarray, k: int) -> np.ndarray:
    found = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1)
    return np.take_along_axis(found, order, axis=1)


def tensorflow_items(scores: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(tf.math.top_k(scores, k).indices)


PEERS: tuple[Callable[[np.ndarray, int], np.ndarray], ...] = (
    top_items,
    numpy_items,
    tensorflow_items,
)


def times(scores: np.ndarray, k: int) -> np.ndarray:
    least = np.full(len(PEERS), np.inf)
    for _ in range(TURNS):
        for place, peer in enumerate(PEERS):
            began = time.process_time()
            peer(scores, k)
            least[place] = min(least[place], time.process_time() - began)
    return least


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    lines = [
        "# The best of many scores\n",
        "Processor time of `keras_eds.metrics.top_items`, in milliseconds for 10 "
        "million scores, and of its peers as multiples of it: `np.argpartition` of all "
        "columns, and `tf.math.top_k`. One thread, least of five. Made by "
        "`KERAS_BACKEND=tensorflow taskset -c 0 python "
        "examples/benchmarks/top_items.py`.",
        "\n| columns | k | ms | NumPy | TensorFlow |\n|---|---|---|---|---|",
    ]
    for columns in COLUMNS:
        shape = (SCORES // columns, columns)
        scores = np.random.default_rng(0).normal(size=shape).astype("float32")
        for k in KS:
            ours, *peers = times(scores, k)
            ratios = " | ".join(f"{peer / ours:.1f}" for peer in peers)
            lines += [f"| {columns:,} | {k} | {1e3 * ours:.0f} | {ratios} |"]
            print(lines[-1], flush=True)
    (RESULTS / "top_items.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
