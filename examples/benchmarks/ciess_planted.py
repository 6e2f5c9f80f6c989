"""Do agents that learn find better sizes than random draws? On planted sizes.

A factorisation machine, written out in NumPy, on data whose ids have known useful
sizes (`make_planted_ids`), which follow frequency wholly, half, or not at all. CIESS
and, as the control, SampledRows (random sizes, the largest for the most frequent ids)
try as many sizes at the same bytes, in steps of the same length, chosen and retrained
in the same way; beside them equal widths and the planted sizes themselves. Prints the
log loss on test data.

    KERAS_BACKEND=jax python examples/benchmarks/ciess_planted.py

Appends a line for each run to `results/ciess_planted.jsonl`, goes on where it was
stopped, and writes `results/ciess_planted.md` anew after every seed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from keras_eds import Budget, DimensionPlan, RowPlan
from keras_eds.datasets import make_planted_ids
from keras_eds.field import Field
from keras_eds.id_quality import IdQuality, Qualities
from keras_eds.measurements import Measurements
from keras_eds.methods import CIESS, Outcome, SampledRows
from keras_eds.methods.principal import principal_directions, second_moment
from keras_eds.methods.tried_sizes import sizes_in

RESULTS = Path(__file__).parent / "results"
LINES = RESULTS / "ciess_planted.jsonl"
WIDTH, BATCH, EPOCHS, RATE = 16, 4096, 6, 0.02
CASES = {"wholly": 1.0, "half": 0.5, "not at all": 0.0}
# Batches of a step, of the 234 of a training.
STEPS = 10
# What agents and draws find, without the widths that are compared by default.
FRESH: dict[str, Any] = {
    "steps": STEPS,
    "top": 2,
    "compare": False,
    "warm_start": "fresh",
}
METHODS = {
    "random draws": lambda: SampledRows(**FRESH),
    "CIESS": lambda: CIESS(**FRESH),
    "CIESS, no walk": lambda: CIESS(**FRESH, agent={"walk_length": 0}),
    "CIESS, along columns": lambda: CIESS(**FRESH, basis="columns"),
}


class Machine:
    """A factorisation machine whose vectors are masked along given directions.

    `p = sigmoid(b + sum_f w_f[i_f] + sum_{f<g} <v_f, v_g>)`, with
    `v_f = ((e_f[i_f] R_f) * m_f[i_f]) R_f^T`; Adam learns b, w and e.
    """

    def __init__(self, rows: list[int], seed: int) -> None:
        random = np.random.default_rng(seed)
        self.tables = [
            random.uniform(-0.05, 0.05, (n, WIDTH)).astype("float32") for n in rows
        ]
        self.biases = [np.zeros(n, "float32") for n in (*rows, 1)]
        self.masks: list[Any] = [np.ones((n, WIDTH), "float32") for n in rows]
        self.directions = [np.eye(WIDTH, dtype="float32") for _ in rows]

    def copy(self) -> Machine:
        other = Machine([len(table) for table in self.tables], 0)
        other.tables = [table.copy() for table in self.tables]
        other.biases = [bias.copy() for bias in self.biases]
        return other

    def cut(self, plan: DimensionPlan, counts: Any = None) -> None:
        """Masks to sizes: of principal directions where `counts` are given."""
        sizes = sizes_in(plan)
        self.masks = [np.arange(WIDTH) < of_ids[:, None] for of_ids in sizes]
        if counts is not None:
            pairs = zip(self.tables, counts, strict=True)
            found = [principal_directions(second_moment(*pair)) for pair in pairs]
            self.directions = [directions.astype("float32") for directions in found]

    def _vectors(self) -> list[np.ndarray]:
        parts = zip(self.tables, self.directions, self.masks, strict=True)
        return [((e @ r) * m) @ r.T for e, r, m in parts]

    def _logits(self, ids: np.ndarray, vectors: Any) -> tuple[np.ndarray, Any, Any]:
        looked = [v[column] for v, column in zip(vectors, ids, strict=True)]
        total = np.sum(looked, axis=0)
        squares = np.sum([np.square(v).sum(axis=1) for v in looked], axis=0)
        logits = (np.square(total).sum(axis=1) - squares) / 2 + self.biases[-1]
        for bias, column in zip(self.biases, ids, strict=False):
            logits = logits + bias[column]
        return logits, looked, total

    def losses(self, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Log loss of each example."""
        logits = self._logits(ids, self._vectors())[0]
        return np.asarray(np.logaddexp(0, logits) - labels * logits)

    def gradients(self, ids: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        logits, looked, total = self._logits(ids, self._vectors())
        slope = (1 / (1 + np.exp(-logits)) - labels) / len(labels)
        tables, biases = [], []
        for place, column in enumerate(ids):
            rows, masks = len(self.tables[place]), self.masks[place]
            arriving = slope[:, None] * (total - looked[place])
            chosen = np.zeros((rows, len(column)), np.float32)
            chosen[column, np.arange(len(column))] = 1
            r = self.directions[place]
            tables.append((((chosen @ arriving) @ r) * masks) @ r.T)
            biases.append(np.bincount(column, slope, rows))
        return [*tables, *biases, slope.sum(keepdims=True)]

    def fit(self, ids: Any, labels: Any, batches: int, seed: int) -> None:
        random, variables = np.random.default_rng(seed), [*self.tables, *self.biases]
        moments = [[np.zeros_like(v), np.zeros_like(v)] for v in variables]
        order = np.zeros(0, int)
        for step in range(1, batches + 1):
            if len(order) < BATCH:
                order = random.permutation(len(labels))
            rows, order = order[:BATCH], order[BATCH:]
            found = self.gradients(ids[:, rows], labels[rows])
            rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            for v, both, g in zip(variables, moments, found, strict=True):
                both[0] += 0.1 * (g - both[0])
                both[1] += 0.001 * (g**2 - both[1])
                v -= rate * both[0] / (np.sqrt(both[1]) + 1e-7)


class Bench:
    """One set of data; runs the proposals of any method."""

    def __init__(self, case: str, seed: int) -> None:
        data = make_planted_ids(seed=seed, correlation=CASES[case])
        self.names, self.seed = list(data.sizes), seed
        self.parts = {
            part: (np.stack([x[n] for n in self.names]), np.ravel(y).astype("float32"))
            for part, (x, y) in (
                ("train", data.train),
                ("validation", data.validation),
                ("test", data.test),
            )
        }
        self.fields = [Field(n, len(data.sizes[n]), WIDTH) for n in self.names]
        self.counts = [self._count("train", place) for place in range(3)]
        self.epoch = len(self.parts["train"][1]) // BATCH
        plans = [RowPlan(f, data.sizes[f.name]) for f in self.fields]
        self.truth = DimensionPlan(tuple(plans))
        self.budget = Budget(num_bytes=self.truth.num_bytes())
        self.full = self.new(0)
        self.full.fit(*self.parts["train"], EPOCHS * self.epoch, seed)

    def _count(self, part: str, place: int, weights: Any = None) -> np.ndarray:
        ids, rows = self.parts[part][0][place], self.fields[place].input_dim
        return np.bincount(ids, weights, rows)

    def new(self, number: int) -> Machine:
        return Machine([f.input_dim for f in self.fields], 100 * self.seed + number)

    def qualities(self, machine: Machine) -> Qualities:
        scores, found = 1 / (1 + machine.losses(*self.parts["validation"])), {}
        for place, name in enumerate(self.names):
            examples = self._count("validation", place)
            total = self._count("validation", place, scores)
            found[name] = IdQuality(total / np.maximum(examples, 1), examples)
        return Qualities(found)

    def retrained(self, plan: DimensionPlan) -> tuple[float, float]:
        """Validation and test loss of a new model, in its best epoch."""
        machine, best = self.new(1), (np.inf, np.inf)
        machine.cut(plan)
        machine.fit(*self.parts["train"], (EPOCHS - 2) * self.epoch, self.seed)
        for extra in range(3):
            losses = [
                float(machine.losses(*self.parts[part]).mean())
                for part in ("validation", "test")
            ]
            best = min(best, (losses[0], losses[1]))
            if extra < 2:
                machine.fit(*self.parts["train"], self.epoch, self.seed + 1 + extra)
        return best

    def outcome(self, proposal: Any, number: int) -> Outcome:
        if proposal.stage == "probe":
            counts = dict(zip(self.names, self.counts, strict=True))
            measured = Measurements.of_counts(counts)
            return Outcome(0.0, measured, qualities=self.qualities(self.full))
        if proposal.stage == "step":
            machine, settings = self.full.copy(), proposal.settings
            principal = settings["basis"] == "principal"
            machine.cut(proposal.plan, self.counts if principal else None)
            batches = settings["batches"]
            machine.fit(*self.parts["train"], batches, self.seed + number)
            return Outcome(0.0, qualities=self.qualities(machine))
        validation, test = self.retrained(proposal.plan)
        self.found.append((validation, test, proposal.plan))
        return Outcome(validation)

    def search(self, method: Any) -> tuple[float, DimensionPlan]:
        """Test loss and plan of the retrained model that validation data prefer."""
        self.found: list[Any] = []
        state = method.start(self.fields, [self.budget], self.seed, trained=True)
        while (proposal := method.propose(state)) is not None:
            outcome = self.outcome(proposal, len(state.finished))
            state = method.observe(state, proposal, outcome)
        _, test, plan = min(self.found, key=lambda one: one[0])
        return test, plan

    def equal(self) -> DimensionPlan:
        values = sum(f.input_dim for f in self.fields)
        width = self.budget.limit(self.fields) // (4 * values)
        sizes = [np.full(f.input_dim, width) for f in self.fields]
        pairs = zip(self.fields, sizes, strict=True)
        return DimensionPlan(tuple(RowPlan(field, of_ids) for field, of_ids in pairs))


def run(case: str, seed: int, methods: list[str]) -> None:
    known = {(r["case"], r["seed"], r["method"]) for r in read()}
    wanted = ["full", "equal", "truth", *methods]
    left = [name for name in wanted if (case, seed, name) not in known]
    if not left:
        return
    bench = Bench(case, seed)
    for name in left:
        began = time.monotonic()
        if name == "full":
            loss = float(bench.full.losses(*bench.parts["test"]).mean())
        elif name in ("equal", "truth"):
            plan = bench.truth if name == "truth" else bench.equal()
            loss = bench.retrained(plan)[1]
        else:
            loss = bench.search(METHODS[name]())[0]
        row = {"case": case, "seed": seed, "method": name, "test_loss": loss,
               "seconds": time.monotonic() - began}  # fmt: skip
        print(row, flush=True)
        with LINES.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read() -> list[dict[str, Any]]:
    if not LINES.exists():
        return []
    return [json.loads(line) for line in LINES.read_text().splitlines()]


def write_table() -> None:
    rows = read()
    columns = ["full", "truth", "equal", *METHODS]
    text = [
        "# CIESS and random draws on planted sizes\n",
        "Test log loss at the bytes of the planted sizes, mean over seeds; `wins`: in "
        "how many of them CIESS is below random draws. Plans are retrained from "
        "scratch (`warm_start='fresh'`). Made by "
        "`python examples/benchmarks/ciess_planted.py`.\n",
        f"| sizes follow frequency | seeds | {' | '.join(columns)} | wins |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for case in CASES:
        by_method: dict[str, dict[int, float]] = {name: {} for name in columns}
        for row in rows:
            if row["case"] == case and row["method"] in by_method:
                by_method[row["method"]][row["seed"]] = row["test_loss"]
        ours, theirs = by_method["CIESS"], by_method["random draws"]
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        cells = []
        for losses in by_method.values():
            of_seeds = [losses[seed] for seed in seeds if seed in losses]
            whole = len(of_seeds) == len(seeds)
            more = "" if whole or not of_seeds else f" ({len(of_seeds)})"
            cells.append(f"{np.mean(of_seeds):.4f}{more}" if of_seeds else "")
        wins = sum(ours[seed] < theirs[seed] for seed in seeds)
        line = [case, str(len(seeds)), *cells, f"{wins} of {len(seeds)}"]
        text.append("| " + " | ".join(line) + " |")
    (RESULTS / "ciess_planted.md").write_text("\n".join(text) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    names = list(METHODS)
    parser.add_argument("--methods", nargs="+", choices=names, default=names[:2])
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for seed in range(given.seeds):
        for case in given.cases:
            run(case, seed, given.methods)
            write_table()


if __name__ == "__main__":
    main()
