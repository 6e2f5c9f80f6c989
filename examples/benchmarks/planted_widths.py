"""Does a search find the widths that were planted?

Trains a DeepFM on data whose fields have known useful widths (0 to 10), lets
SSEDS plan a quarter of the table bytes in both bases, and compares the widths.

    KERAS_BACKEND=jax python examples/benchmarks/planted_widths.py

Writes `results/planted_widths.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
from scipy.stats import spearmanr

import keras_eds
from keras_eds.datasets import make_planted
from keras_eds.methods import SSEDS, Method, SearchState
from keras_eds.methods.base import Outcome, Proposal
from keras_eds.models import DeepFM

RESULTS = Path(__file__).parent / "results"
METHODS: dict[str, tuple[Method, str]] = {
    "principal": (SSEDS(), "train"),
    "columns": (SSEDS(basis="columns"), "train, 16"),
    "columns, score per byte": (
        SSEDS(basis="columns", score_per_byte=True),
        "train, 16",
    ),
    "columns, one batch": (SSEDS(basis="columns"), "train"),
    "columns, validation data": (SSEDS(basis="columns"), "validation, 16"),
}


def trained_model(data: Any, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = DeepFM(data.fields, embedding_dim=16, seed=seed)
    model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy")
    model.fit(*data.train, batch_size=512, epochs=10, verbose=0)
    return model


def plan(model: keras.Model, measured: Any, method: Method) -> dict[str, int]:
    fields = keras_eds.find_fields(model)
    state: SearchState = method.start(fields, [keras_eds.Budget(0.25)], 0, True)
    state = method.observe(state, Proposal("probe"), Outcome(0.0, measured))
    return method.plan(state, state.budgets[0]).sizes()


def compare(seed: int) -> list[dict[str, Any]]:
    data = make_planted(seed=seed)
    model = trained_model(data, seed)
    train = {"x": data.train[0], "y": data.train[1], "batch_size": 512}
    held_out = {"x": data.validation[0], "y": data.validation[1], "batch_size": 512}
    measured = {
        "train": keras_eds.measure(model, train),
        "train, 16": keras_eds.measure(model, train, batches=16),
        "validation, 16": keras_eds.measure(model, held_out, batches=16),
    }
    truth = list(data.widths.values())
    rows = []
    for name, (method, source) in METHODS.items():
        found = list(plan(model, measured[source], method).values())
        zeros = all(f == 0 for f, t in zip(found, truth, strict=True) if t == 0)
        rank = float(spearmanr(found, truth).statistic)
        rows.append(
            {"seed": seed, "basis": name, "zeros": zeros, "rank": rank,
             "found": found, "truth": truth}
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    rows = []
    for seed in range(seeds):
        rows += compare(seed)
        for row in rows[-len(METHODS) :]:
            print(row, flush=True)
    lines = [
        "# Planted widths found at a quarter of the bytes",
        "",
        "Made by `KERAS_BACKEND=jax python examples/benchmarks/planted_widths.py` "
        f"({seeds} seeds; useful widths 0, 0, 1, 2, 3, 6, 8, 10 of 17).",
        "",
        "| basis | useless fields get 0 | Spearman >= 0.9 | both | median Spearman |",
        "|---|---|---|---|---|",
    ]
    for name in METHODS:
        mine = [row for row in rows if row["basis"] == name]
        zeros = sum(row["zeros"] for row in mine)
        ranked = sum(row["rank"] >= 0.9 for row in mine)
        both = sum(row["zeros"] and row["rank"] >= 0.9 for row in mine)
        median = sorted(row["rank"] for row in mine)[len(mine) // 2]
        lines.append(f"| {name} | {zeros} | {ranked} | {both} | {median:.3f} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "planted_widths.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
