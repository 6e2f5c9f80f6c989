"""What new counts of ids do to a model with masked twins that is not trained again.

Trains a DeepFM on the first half of the training data, puts `MaskedTwinEmbedding`
with the counts of that half in the place of its tables and trains on with a size
penalty. Then `update_frequencies` gives every layer other counts, and nothing is
trained. Validation AUC and bytes with

- the counts of the first half, which the twins were trained with;
- those of all training data;
- those of all training data, but none for ids that the first half has not: they
  have vectors that were never trained;
- as a control, those of all training data dealt out to the ids at random.

The rows of MovieLens-1M are in random order, those of the Criteo sample in order of
time.

    KERAS_BACKEND=jax python examples/benchmarks/new_counts.py

Every model is four lines of `results/new_counts.jsonl`; a second call goes on where
the first was stopped. Writes `results/new_counts.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from ctr_budgets import Bench
from masked_twins import masked
from sklearn.metrics import roc_auc_score

import keras_eds
from keras_eds import DimensionPlan, FieldPlan, RowPlan
from keras_eds.datasets import load_criteo, load_movielens_1m
from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
DATA = {
    "movielens": load_movielens_1m,
    "criteo": load_criteo,
}
PENALTY = 0.3
EPOCHS = 4
Counts = dict[str, np.ndarray]


def first_half(data: Any) -> Any:
    x, y = data.train
    rows = len(y) // 2
    return replace(
        data, train=({name: ids[:rows] for name, ids in x.items()}, y[:rows])
    )


def train(bench: Bench) -> tuple[keras.Model, keras.Model, Counts]:
    """The full model, the one with masked twins, and the counts of its data."""
    keras.utils.set_random_seed(bench.seed)
    full = bench.build()
    full.fit(*bench.data.train, **bench.fit_options())
    counts = keras_eds.count_ids(full, {"x": bench.data.train[0]})
    keras.utils.set_random_seed(bench.seed)
    model = masked(full, counts, PENALTY)
    model.compile(LazyAdam(bench.settings["learning_rate"]), "binary_crossentropy")
    batch_size = bench.settings["batch_size"]
    model.fit(*bench.data.train, batch_size=batch_size, epochs=EPOCHS, verbose=0)
    return full, model, counts


def shuffled(counts: Counts, seed: int) -> Counts:
    """The same counts, of other ids; id 0, unknown or padding, keeps its own."""
    rng = np.random.default_rng(seed)
    return {
        name: np.append(known[:1], rng.permutation(known[1:]))
        for name, known in counts.items()
    }


def kept_share(fields: list[Any], sizes: dict[str, np.ndarray]) -> float:
    """Bytes of the cut tables, the index counted, by those of the full ones."""
    plans: list[Any] = []
    for field in fields:
        rows = RowPlan(field, sizes[field.name])
        cheaper = rows.num_bytes() < field.num_bytes
        plans.append(rows if cheaper else FieldPlan.full(field))
    total = sum(field.num_bytes for field in fields)
    return DimensionPlan(tuple(plans)).num_bytes() / total


def val_auc(model: keras.Model, data: Any) -> float:
    x, y = data.validation
    scores = model.predict(x, batch_size=8192, verbose=0)[:, 0]
    return float(roc_auc_score(y, scores))


def compare(name: str, whole: Any, seed: int) -> list[dict[str, Any]]:
    half = first_half(whole)
    full, model, before = train(Bench(name, half, "DeepFM", seed))
    fields = keras_eds.find_fields(full)
    every = keras_eds.count_ids(full, {"x": whole.train[0]})
    old = {table: np.where(before[table] > 0, every[table], 0) for table in every}
    cases = {
        "first half": before,
        "all": every,
        "all, old ids": old,
        "all, shuffled": shuffled(every, seed),
    }
    full_auc, first, rows = val_auc(full, whole), None, []
    for case, counts in cases.items():
        for table, known in counts.items():
            model.get_layer(table).update_frequencies(known)
        sizes = {table: model.get_layer(table).sizes() for table in counts}
        first = sizes if first is None else first
        changed = np.concatenate([sizes[t] != first[t] for t in sizes])
        rows.append({
            "data": name,
            "seed": seed,
            "counts": case,
            "auc": val_auc(model, whole),
            "kept": kept_share(fields, sizes),
            "changed": float(changed.mean()),
            "full_auc": full_auc,
            "new_ids": float(np.mean(np.concatenate(
                [(every[t] > 0) & (before[t] == 0) for t in every]))),
        })  # fmt: skip
    return rows


def read(path: Path) -> pd.DataFrame:
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines])


def write_table(rows: pd.DataFrame, command: str) -> None:
    lines = [
        "# New counts without new training",
        "",
        f"Made by `{command}`. DeepFM with the settings of `ctr_budgets.py`, trained "
        f"on the first half of the training data, then {EPOCHS} epochs with masked "
        f"twins and the penalty {PENALTY} * kept share of all table values. Then only "
        "`update_frequencies` is called. Validation AUC, means over seeds; bytes with "
        "the index, by those of the full tables.",
        "",
        "| data | counts of | seeds | validation AUC | difference, each seed "
        "| bytes | ids with another size |",
        "|---" * 7 + "|",
    ]
    notes = [""]
    for name, data in rows.groupby("data", sort=False):
        base = data[data.counts == "first half"].set_index("seed").auc
        for case, group in data.groupby("counts", sort=False):
            gains = group.set_index("seed").auc - base
            each = ", ".join(f"{gain:+.4f}" for gain in gains)
            lines.append(
                f"| {name} | {case} | {len(group)} | {group.auc.mean():.4f} | "
                f"{'' if case == 'first half' else each} | {group.kept.mean():.1%} | "
                f"{group.changed.mean():.1%} |"
            )
        notes.append(
            f"- {name}: the full model of the first half has "
            f"{data.full_auc.mean():.4f}; {data.new_ids.mean():.1%} of all ids come "
            "only in the second half."
        )
    (RESULTS / "new_counts.md").write_text("\n".join(lines + notes) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", default=None, help="where the data sets are")
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "new_counts.jsonl"
    backend = keras.backend.backend()
    script = " ".join(["examples/benchmarks/new_counts.py", *sys.argv[1:]])
    command = f"KERAS_BACKEND={backend} python {script}"
    for name in given.datasets:
        data = DATA[name](given.data)
        for seed in given.seeds:
            known = read(path)
            if len(known) and ((known.data == name) & (known.seed == seed)).any():
                continue
            rows = compare(name, data, seed)
            with path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            print(*rows, sep="\n", flush=True)
            write_table(read(path), command)


if __name__ == "__main__":
    main()
