"""Time and bytes of a row-sized table, beside a dense and a narrow one.

    KERAS_BACKEND=tensorflow taskset -c 0 python examples/benchmarks/lookup.py

A million ids of power-law sizes keep 10 % of the values of a table of width 64.
Every time is the processor time of one call of a `tf.function` (not compiled by
XLA), on one thread, the median over batches; the layers take turns. A step is a
lookup, its gradient and LazyAdam. Writes `results/lookup.md`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_eds.layers import PrunedFieldEmbedding, RowSizedEmbedding
from keras_eds.optimizers import LazyAdam

IDS, WIDTH, KEPT, BATCH, BATCHES = 1_000_000, 64, 0.1, 8192, 20
ZIPF = 1.05
RESULTS = Path(__file__).parent / "results"


def power_law(exponent: float) -> np.ndarray:
    """Sizes by rank, `min(scale * rank**-exponent, WIDTH)`, of mean KEPT * WIDTH."""
    curve = np.arange(1, IDS + 1.0) ** -exponent
    low, high = 1e-3, 1e9
    for _ in range(60):
        scale = (low * high) ** 0.5
        sizes = np.minimum(scale * curve, WIDTH).astype(int)
        low, high = (scale, high) if sizes.mean() < KEPT * WIDTH else (low, scale)
    return sizes


def bytes_of(layer: keras.layers.Layer) -> int:
    return sum(int(np.prod(v.shape)) * 4 for v in layer.variables)


def draw(kind: str, by_size: np.ndarray, hot: int) -> list[tf.Tensor]:
    """Batches of ids; `by_size` holds all ids, the longest rows first."""
    rng = np.random.default_rng(1)
    shape = (BATCH, hot) if hot > 1 else (BATCH,)
    chances = np.arange(1, IDS + 1.0) ** -ZIPF
    chances /= chances.sum()
    if kind == "Zipf, sizes at random":
        by_size = rng.permutation(by_size)
    batches = []
    for _ in range(BATCHES):
        if kind == "uniform":
            ids = rng.integers(0, IDS, shape)
        else:
            ids = by_size[rng.choice(IDS, shape, p=chances)]
        batches.append(tf.constant(ids.astype("int32")))
    return batches


def lookup_of(layer: Any, hot: int) -> Callable[[tf.Tensor], tf.Tensor]:
    if hot > 1 and isinstance(layer, keras.layers.Embedding):
        return lambda ids: keras.ops.mean(layer(ids), axis=-2)
    return layer


def step_of(layer: Any) -> Callable[[tf.Tensor], None]:
    variables = layer.trainable_variables
    optimizer = LazyAdam(1e-3)
    optimizer.build(variables)
    target = tf.constant(
        np.random.default_rng(2).normal(size=(BATCH, WIDTH)), "float32"
    )

    def step(ids: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ids) * target)
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    return step


def medians(functions: dict[str, Any], batches: list[Any]) -> dict[str, float]:
    """Milliseconds of each function; all take turns, so that they share the noise."""
    functions = {name: tf.function(f) for name, f in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(5):
        for name, function in functions.items():
            for batch in batches:
                began = time.process_time()
                function(batch)
                if turn:
                    times[name].append((time.process_time() - began) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def time_table(sizes: np.ndarray, by_size: np.ndarray) -> list[str]:
    lines = [
        "| ids | ids per example | | dense, ms | narrow, ms | row-sized, ms | "
        "narrow / dense | row-sized / dense |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for hot in (1, 5):
        combiner = "mean" if hot > 1 else None
        rows = RowSizedEmbedding(IDS, WIDTH, sizes, combiner=combiner)
        rows.build()
        narrow = bytes_of(rows) // (4 * IDS)
        layers = {
            "dense": PrunedFieldEmbedding(IDS, WIDTH, combiner=combiner),
            "narrow": PrunedFieldEmbedding(IDS, narrow, WIDTH, combiner=combiner),
            "row-sized": rows,
        }
        for layer in layers.values():
            layer.build()
        plain = {**layers, "dense": keras.layers.Embedding(IDS, WIDTH)}
        lookups = {name: lookup_of(layer, hot) for name, layer in plain.items()}
        steps = {name: step_of(layer) for name, layer in layers.items()}
        for kind in ("uniform", "Zipf, long rows popular", "Zipf, sizes at random"):
            batches = draw(kind, by_size, hot)
            for what, functions in (("lookup", lookups), ("step", steps)):
                found = medians(functions, batches)
                dense, small, own = found.values()
                lines.append(
                    f"| {kind} | {hot} | {what} | {dense:.2f} | {small:.2f} | "
                    f"{own:.2f} | {small / dense:.2f} | {own / dense:.2f} |"
                )
                print(lines[-1], flush=True)
    return lines


def byte_table(exponents: list[float]) -> list[str]:
    lines = [
        "| exponent | tables | bytes | kept values and 4 bytes an id | ratio |",
        "|---|---|---|---|---|",
    ]
    for exponent in exponents:
        sizes = power_law(exponent)
        layer = RowSizedEmbedding(IDS, WIDTH, sizes)
        layer.build()
        least = 4 * int(sizes.sum()) + 4 * IDS
        lines.append(
            f"| {exponent} | {len(layer.blocks)} | {bytes_of(layer):,} | {least:,} | "
            f"{bytes_of(layer) / least:.3f} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--exponent", type=float, default=0.5)
    exponent = parser.parse_args().exponent
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    by_size = np.random.default_rng(0).permutation(IDS)
    sizes = np.empty(IDS, int)
    sizes[by_size] = power_law(exponent)
    text = [
        "# Lookup, step and bytes of a row-sized table\n",
        "Made by `KERAS_BACKEND=tensorflow taskset -c 0 python "
        "examples/benchmarks/lookup.py`, on one of 2 CPU cores: processor time of one "
        f"call, {BATCH:,} examples, {IDS:,} ids, width {WIDTH}, sizes by power law of "
        f"exponent {exponent} keeping {KEPT:.0%} of the values.\n",
        "Dense: `keras.layers.Embedding` for lookups, and for steps a table of the "
        "same width that is read by rows. Narrow: `PrunedFieldEmbedding` with a "
        "projection, of at most the bytes of the row-sized layer. Row-sized: "
        "`RowSizedEmbedding`. Several ids per example are averaged.\n",
        *time_table(sizes, by_size),
        "\nBytes of the row-sized layer by exponent of the power law:\n",
        *byte_table([0.3, 0.5, 0.7, 1.0, 1.5]),
    ]
    RESULTS.joinpath("lookup.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
