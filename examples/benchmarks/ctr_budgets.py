"""Score against budget on real click-through data, with the controls.

Trains FM, DeepFM and Wide & Deep to convergence on MovieLens-1M and the Criteo
sample, and a two-tower model on MovieLens-1M, and compares, at equal bytes: equal
widths, random widths, SSEDS on columns (the paper) and on the principal subspace;
and, with a size for every id and its index counted, principal rows, AMTL, AMTL with
one network instead of twins (AML), AMTL from a trained model, AMTL's sizes with
values drawn anew, random sizes sorted by frequency, and MDE by popularity; before and
after retraining. AMTL retrains sizes for ids and one width a field: the better one on
validation data stands under its name, each under "AMTL: ids" and "AMTL: fields". Under
"int8" budgets count a byte a value, and quantized models are scored: what a search
does by default, and equal widths. "default" is that search with floats: principal rows
and SSEDS's widths, whichever scores better on validation data; with "fixed alignment"
alignments stay as planned and do not learn. Everything is chosen on validation data
and reported on test data.

    KERAS_BACKEND=jax python examples/benchmarks/ctr_budgets.py --dataset movielens
    KERAS_BACKEND=jax python examples/benchmarks/ctr_budgets.py --dataset criteo
    python examples/benchmarks/ctr_budgets.py --tables

Every finished run is a line of `results/ctr_<dataset>.jsonl`; a second call goes
on where the first was stopped. `--tables` writes `results/ctr_<dataset>.md`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from ctr_setup import MODELS, SETTINGS
from ctr_tables import write_tables
from sklearn.metrics import log_loss, roc_auc_score

import keras_eds
from keras_eds import Budget
from keras_eds.methods import (
    AMTL,
    MDE,
    SSEDS,
    Method,
    PrincipalRows,
    RandomRowSizes,
    RandomSizes,
    Uniform,
)
from keras_eds.optimizers import LazyAdam

RESULTS = Path(__file__).parent / "results"
BUDGETS = (0.5, 0.25, 0.1, 0.05, 0.02)
RANDOM_BUDGETS = (0.1,)
Run = tuple[str, float]
INT8_BUDGETS = (0.1, 0.05, 0.02)
AMTL_BUDGETS = (0.5, 0.4, 0.25, 0.1, 0.05, 0.02)
SEARCHES: dict[str, tuple[Callable[[], Method], tuple[float, ...]]] = {
    "SSEDS principal": (SSEDS, BUDGETS),
    "SSEDS columns": (lambda: SSEDS(basis="columns"), BUDGETS),
    "random": (RandomSizes, RANDOM_BUDGETS),
    "principal rows": (lambda: PrincipalRows(compare=False), BUDGETS),
    "AMTL": (lambda: AMTL(epochs=2), AMTL_BUDGETS),
    "AMTL, trained start": (lambda: AMTL(epochs=2), AMTL_BUDGETS),
    "AMTL, sizes alone": (
        lambda: AMTL(epochs=2, retrain_from="fresh"),
        AMTL_BUDGETS,
    ),
    "AML (one network)": (lambda: AMTL(epochs=2, twins=False), AMTL_BUDGETS),
    "random rows, sorted": (RandomRowSizes, BUDGETS),
    "MDE by popularity": (MDE, BUDGETS),
    "equal, int8": (Uniform, INT8_BUDGETS),
    "principal rows, int8": (PrincipalRows, INT8_BUDGETS),
    "default": (PrincipalRows, BUDGETS),
    "default, fixed alignment": (lambda: PrincipalRows(alignment="fixed"), BUDGETS),
}


class Bench:
    """One data set, one model, one seed."""

    def __init__(self, name: str, data: Any, model: str, seed: int) -> None:
        self.name, self.data, self.model_name, self.seed = name, data, model, seed
        self.settings = SETTINGS[name]

    def build(self, width: int | None = None) -> keras.Model:
        settings = self.settings
        options: dict[str, Any] = {"embeddings_l2": settings["l2"], "seed": self.seed}
        if self.model_name != "FM":
            options |= {"hidden_units": (64, 64), "dropout": settings["dropout"]}
        make = MODELS[self.model_name]
        width = settings["width"] if width is None else width
        model = make(self.data.fields, embedding_dim=width, **options)
        optimizer = LazyAdam(settings["learning_rate"])
        model.compile(optimizer, "binary_crossentropy")
        return model

    def fit_options(self) -> dict[str, Any]:
        stop = keras.callbacks.EarlyStopping(
            "val_loss", patience=2, restore_best_weights=True
        )
        return {
            "validation_data": self.data.validation,
            "batch_size": self.settings["batch_size"],
            "epochs": 20,
            "callbacks": [stop],
            "verbose": 0,
        }

    def row(self, method: str, model: keras.Model, **extra: Any) -> dict[str, Any]:
        x, y = self.data.test
        scores = model.predict(x, batch_size=8192, verbose=0)[:, 0].astype("float64")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.weights.h5"
            model.optimizer = None
            model.save_weights(path)
            size = path.stat().st_size
        return {
            "dataset": self.name,
            "model": self.model_name,
            "seed": self.seed,
            "method": method,
            "auc": float(roc_auc_score(y, scores)),
            "logloss": float(log_loss(y, np.clip(scores, 1e-7, 1 - 1e-7))),
            "parameters": model.count_params(),
            "disk_bytes": size,
            **extra,
        }

    def run(self, finished: set[Run], methods: Sequence[str]) -> Iterator[list[Any]]:
        """Trains the full model, then those of `methods` that are not `finished`."""
        keras.utils.set_random_seed(self.seed)
        full, seconds = self.build(), time.monotonic()
        history = full.fit(*self.data.train, **self.fit_options())
        seconds = time.monotonic() - seconds
        epochs = len(history.history["loss"])
        fields = keras_eds.find_fields(full)
        for name in [name for name in SEARCHES if name in methods]:
            make, budgets = SEARCHES[name]
            left = tuple(b for b in budgets if (name, b) not in finished)
            if left:
                # As in its paper, AMTL trains the tables from the start.
                anew = name in ("AMTL", "AMTL, sizes alone", "AML (one network)")
                model = self.build() if anew else full
                yield self.searched(model, name, make(), left)
        left = tuple(b for b in BUDGETS if ("equal", b) not in finished)
        if "equal" in methods and left:
            yield self.equal_widths(full, fields, left)
        if "full" in methods and ("full", 1.0) not in finished:
            values = sum(field.num_parameters for field in fields)
            yield [self.row("full", full, budget=1.0, table_values=values,
                            seconds=seconds, epochs=epochs)]  # fmt: skip

    def searched(
        self, full: keras.Model, name: str, method: Any, budgets: tuple[float, ...]
    ) -> list[dict[str, Any]]:
        rows, best = [], set()
        with tempfile.TemporaryDirectory() as folder:
            int8: Literal["int8"] | None = "int8" if name.endswith("int8") else None
            search = keras_eds.EDSSearch(
                full,
                list(budgets),
                method,
                quantize=int8,
                seed=self.seed,
                directory=folder,
            )
            search.search(*self.data.train, **self.fit_options())
            results = {r.index: r for r in search.results()}
            # Best first; of methods that retrain two plans both are kept.
            trials = search.oracle.get_best_trials(len(budgets) * method.draws)
            shares = {Budget.parse(budget).label: budget for budget in budgets}
            for trial in trials:
                label = trial.hyperparameters.values["eds/budget"]
                result = results[int(trial.trial_id)]
                plan = result.plan
                extra = {
                    "budget": shares[label],
                    "table_values": plan.num_parameters(),
                    "widths": [round(kept.mean_dim, 2) for kept in plan],
                }
                if isinstance(method, SSEDS | PrincipalRows) and method.draws == 1:
                    before = keras_eds.apply_plan(full, plan)
                    rows.append(self.row(f"{name}, before", before, **extra))
                kept = search.load_model(trial)
                extra |= {
                    "seconds": result.seconds,
                    "retraining_helped": result.score != result.score_before,
                }
                if label not in best:
                    rows.append(self.row(name, kept, **extra))
                best.add(label)
                if isinstance(method, AMTL):
                    kind = "ids" if plan.has_row_sizes else "fields"
                    rows.append(self.row(f"{name}: {kind}", kept, **extra))
        return rows

    def equal_widths(
        self, full: keras.Model, fields: list[Any], budgets: tuple[float, ...]
    ) -> list[dict[str, Any]]:
        """A model of that width from the start; below width 1, mixed widths."""
        rows = []
        for budget in budgets:
            values = sum(field.num_parameters for field in fields)
            columns = int(budget * fields[0].output_dim)
            if columns < 2:
                rows += self.searched(full, "equal", Uniform(), (budget,))
                continue
            keras.utils.set_random_seed(self.seed)
            model, seconds = self.build(columns - 1), time.monotonic()
            model.fit(*self.data.train, **self.fit_options())
            seconds = time.monotonic() - seconds
            values = values // fields[0].output_dim * columns
            rows.append(
                self.row("equal", model, budget=budget, table_values=values,
                         seconds=seconds)
            )  # fmt: skip
        return rows


def done(path: Path, model: str, seed: int) -> set[Run]:
    if not path.exists():
        return set()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        (row["method"], row["budget"])
        for row in rows
        if (row["model"], row["seed"]) == (model, seed)
    }


def wanted(methods: Sequence[str]) -> set[Run]:
    budgets = {name: budgets for name, (_, budgets) in SEARCHES.items()}
    budgets |= {"equal": BUDGETS, "full": (1.0,)}
    return {(name, budget) for name in methods for budget in budgets[name]}


def run(
    dataset: str,
    models: list[str],
    seeds: list[int],
    methods: list[str],
    data_path: str | None,
) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"ctr_{dataset}.jsonl"
    data = SETTINGS[dataset]["load"](data_path)
    for seed in seeds:
        for model in models:
            finished = done(path, model, seed)
            if wanted(methods) <= finished:
                continue
            for rows in Bench(dataset, data, model, seed).run(finished, methods):
                with path.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
                print(dataset, model, seed, rows[-1]["method"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=sorted(SETTINGS))
    parser.add_argument("--models", nargs="+", default=list(MODELS)[:3])
    names = ["full", "equal", *SEARCHES]
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", default=None, help="where the data set is")
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    if arguments.dataset:
        run(
            arguments.dataset,
            arguments.models,
            arguments.seeds,
            arguments.methods,
            arguments.data,
        )
    if arguments.tables:
        write_tables(RESULTS, AMTL_BUDGETS)


if __name__ == "__main__":
    main()
