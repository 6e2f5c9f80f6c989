"""Does a search find the size that every id was planted with?

Trains a factorisation machine on data whose ids have known useful sizes (0 to 6),
that rise with frequency or are dealt out without regard to it, lets a method plan
at what the planted sizes cost, and at less and more, and compares the sizes.

    KERAS_BACKEND=jax python examples/benchmarks/planted_ids.py --methods principal_rows
    KERAS_BACKEND=jax python examples/benchmarks/planted_ids.py --methods amtl

Writes the section of each method of `results/planted_ids.md` anew after every seed;
those of other methods stay. AMTL's twins see only how often an id comes: where sizes
are dealt out without regard to that, they cannot be found, and it must score about 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.stats import spearmanr

import keras_eds
from keras_eds import DimensionPlan, FieldPlan, RowPlan
from keras_eds.datasets import make_planted_ids
from keras_eds.models import FM

RESULTS = Path(__file__).parent / "results"
SHARES = (0.75, 1.0, 1.25)
GOAL = 0.8
ENOUGH = 30
EPOCHS = 6
HEAD = f"""# Planted sizes of ids found

FM of width 16; 199 users and items of useful size 0 to 6; mean Spearman of both
tables, over ids with at least {ENOUGH} examples; a table with one size for all ids
counts as 0.
"""


def build(data: Any, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = FM(data.fields, embedding_dim=16, seed=seed)
    model.compile(
        keras.optimizers.Adam(0.02),
        "binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auc")],
    )
    return model


def cost_of_truth(fields: Sequence[Any], sizes: dict[str, np.ndarray]) -> int:
    """Bytes of a plan that gives every id its planted size, after a rotation."""
    plans: list[Any] = []
    for field, truth in zip(fields, sizes.values(), strict=True):
        width, rotation = int(truth.max()), np.eye(field.output_dim)
        if len(np.unique(truth[1:])) == 1:
            plans.append(FieldPlan.of_columns(field, range(width)))
        else:
            encoder = rotation[:, :width]
            plans.append(RowPlan(field, truth, encoder, encoder.T, rotation[0]))
    return DimensionPlan(tuple(plans)).num_bytes()


def rank(data: Any, plan: DimensionPlan) -> float:
    """Spearman of found and planted sizes, of the ids that come often enough."""
    values = []
    for name in ("user", "item"):
        kept, truth = plan[f"{name}_embedding"], data.sizes[name]
        seen = np.bincount(data.train[0][name], minlength=len(truth)) >= ENOUGH
        if not isinstance(kept, RowPlan) or np.ptp(kept.sizes[seen]) == 0:
            values.append(0.0)  # One size for all: nothing is told about any id.
        else:
            values.append(float(spearmanr(kept.sizes[seen], truth[seen]).statistic))
    return float(np.mean(values))


class _Planned(Exception):
    """A method knows all that it plans from."""


class _UntilPlanned(keras.callbacks.Callback):
    """Ends a search before it retrains: only its plans are asked for."""

    def on_stage_end(self, _: Any) -> None:
        oracle = self.search.oracle
        if oracle.method.propose(oracle.observe_ended()).stage == "retrain":
            raise _Planned


def planned(search: keras_eds.EDSSearch, *args: Any, **options: Any) -> None:
    callback = _UntilPlanned()
    callback.search = search
    try:
        search.search(*args, callbacks=[callback], **options)
    except _Planned:
        pass


def compare(seed: int, case: dict[str, Any], methods: Sequence[str]) -> list[Any]:
    data = make_planted_ids(seed=seed, **case)
    model, rows = build(data, seed), []
    options = {"validation_data": data.validation, "batch_size": 4096, "verbose": 0}
    model.fit(*data.train, epochs=EPOCHS, **options)
    auc = model.evaluate(*data.validation, 4096, verbose=0, return_dict=True)["auc"]
    truth = cost_of_truth(keras_eds.find_fields(model), data.sizes)
    for method in methods:
        with tempfile.TemporaryDirectory() as folder:
            search = keras_eds.EDSSearch(
                model,
                keras_eds.Budget(num_bytes=truth),
                method,
                objective="val_loss",
                seed=seed,
                directory=folder,
            )
            planned(search, *data.train, epochs=EPOCHS, **options)
            for share in SHARES:
                plan = search.plan_for(keras_eds.Budget(num_bytes=int(share * truth)))
                row = {"method": method, "share": share, "rank": rank(data, plan)}
                rows.append({**case, **row, "auc": auc, "seed": seed})
                print(rows[-1], flush=True)
    return rows


def table(rows: list[Any], cases: list[Any], method: str) -> list[str]:
    lines = [
        "| method | Zipf exponent | sizes and frequency | bytes / bytes of the truth "
        "| seeds | Spearman >= 0.8 | median Spearman | least | full model's AUC |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        for share in SHARES:
            wanted = {**case, "method": method, "share": share}
            mine = [r for r in rows if wanted.items() <= r.items()]
            if not mine:
                continue
            ranks = [r["rank"] for r in mine]
            order = "shuffled" if case["shuffled"] else "sorted"
            lines.append(
                f"| {method} | {case['exponent']} | {order} | {share} | "
                f"{len(mine)} | {sum(r >= GOAL for r in ranks)} | "
                f"{np.median(ranks):.3f} | {min(ranks):.3f} | "
                f"{np.mean([r['auc'] for r in mine]):.3f} |"
            )
    return lines


def write_sections(path: Path, sections: dict[str, list[str]]) -> None:
    """Writes these sections in the place of those of their names, or at the end."""
    text = path.read_text() if path.exists() else ""
    kept = [part.partition("\n") for part in text.split("\n## ")[1:]]
    known = {name: body.strip("\n") for name, _, body in kept}
    known |= {name: "\n".join(lines) for name, lines in sections.items()}
    parts = [f"## {name}\n\n{body}\n" for name, body in known.items()]
    path.write_text("\n".join([HEAD, *parts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=["principal_rows"])
    parser.add_argument("--exponents", nargs="+", type=float, default=[0.5, 0.8])
    given = parser.parse_args()
    cases = [
        {"exponent": exponent, "shuffled": shuffled}
        for exponent in given.exponents
        for shuffled in (False, True)
    ]
    command = " ".join(["planted_ids.py", *sys.argv[1:]])
    made = (
        f"Made by `KERAS_BACKEND={keras.backend.backend()} python "
        f"examples/benchmarks/{command}`."
    )
    rows: list[Any] = []
    RESULTS.mkdir(exist_ok=True)
    for case in cases:
        for seed in range(given.seeds):
            rows += compare(seed, case, given.methods)
            sections = {
                method: [made, "", *table(rows, cases, method)]
                for method in given.methods
            }
            write_sections(RESULTS / "planted_ids.md", sections)
    print((RESULTS / "planted_ids.md").read_text())


if __name__ == "__main__":
    main()
