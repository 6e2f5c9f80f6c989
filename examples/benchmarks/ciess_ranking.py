"""Sizes for users and items of MovieLens-1M, as the CIESS paper compares them.

Each user's interactions are split 50/25/25 at random; tables have 128 columns. At 20,
10 and 5 % of the tables' bytes, index included: equal sizes; random sizes (sorted by
frequency or not; one draw, or the best of as many as CIESS spends steps); principal
rows; SSEDS; CIESS, which retrains its best step and one width a table, with and
without its walk; its agents alone, so too, and with equal shares of all tables in all
steps.
CIESS, the best of many draws and draws "along directions" go on from the full model in
its principal directions, as principal rows and SSEDS do; equal sizes, the other draws
and what "CIESS, trained anew" finds are trained from scratch. Alignments learn with
the rest, but for CIESS and where "fixed alignment" is said. All is chosen by NDCG@20
on the validation part, and scored on the test part over all items that are in neither
of the others.

    KERAS_BACKEND=jax python examples/benchmarks/ciess_ranking.py --models mf
    python examples/benchmarks/ciess_ranking.py --tables

Every finished run is a line of `results/ciess_ranking.jsonl`; a second call goes on
where the first was stopped. `--tables` writes `results/ciess_ranking.md`. `--data
gowalla` takes Gowalla, split in the same way.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from ciess_ranking_tables import (
    BUDGETS,
    KS,
    LINES,
    RESULTS,
    WIDTH,
    read,
    write_tables,
)

import keras_eds
from keras_eds.datasets import Triples, load_gowalla, load_movielens_interactions
from keras_eds.methods import (
    CIESS,
    SSEDS,
    Method,
    PrincipalRows,
    RandomRowSizes,
    SampledRows,
)
from keras_eds.metrics import RankingMetrics, RankingQuality, evaluate_ranking
from keras_eds.models import NCF, BPRLoss, LightGCN, MatrixFactorization

OBJECTIVE = keras_tuner.Objective("val_ndcg@20", "max")
DATA = {"movielens": load_movielens_interactions, "gowalla": load_gowalla}
# `steps`: how many batches a step trains.
MODELS: dict[str, dict[str, Any]] = {
    "mf": {"batch": 4096, "rate": 3e-3, "l2": 1e-2, "steps": 60},
    "light_gcn": {"batch": 8192, "rate": 1e-2, "l2": 1e-4, "steps": 30},
    "ncf": {"batch": 8192, "rate": 2e-3, "l2": 1e-2, "steps": 60},
}
# What another data set changes; epochs are chosen on a draw of `max_users` users.
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("gowalla", "mf"): {"batch": 8192, "rate": 2e-3, "l2": 1e-3, "max_users": 10_000},
}
PLATEAU = 10
# What stood beside CIESS before its alignments stayed fixed.
LEARNED: dict[str, Any] = {"alignment": "plan"}
METHODS: dict[str, Callable[[dict[str, Any]], Method]] = {
    "random, sorted": lambda _: RandomRowSizes(),
    "CIESS": lambda tried: CIESS(**tried),
    "CIESS, learned alignment": lambda tried: CIESS(alignment="plan", **tried),
    "CIESS, agents alone": lambda tried: CIESS(compare=False, **LEARNED, **tried),
    "CIESS, no walk": lambda tried: CIESS(agent={"walk_length": 0}, **tried),
    "CIESS, trained anew": lambda tried: CIESS(warm_start="fresh", **tried),
    "CIESS, agents alone, no walk": lambda tried: CIESS(
        compare=False, agent={"walk_length": 0}, **LEARNED, **tried
    ),
    "CIESS, agents alone, equal shares": lambda tried: CIESS(
        compare=False, shift=1.0, **LEARNED, **tried
    ),
    "random, sorted, along directions": lambda tried: SampledRows(
        len(BUDGETS), compare=False, **LEARNED, **{**tried, "steps": 0}
    ),
    "random, sorted, best of 30": lambda tried: SampledRows(
        30, compare=False, **LEARNED, **tried
    ),
    "principal rows": lambda _: PrincipalRows(compare=False),
    "SSEDS": lambda _: SSEDS(),
    "SSEDS, fixed alignment": lambda _: SSEDS(alignment="fixed"),
    "random": lambda _: RandomRowSizes(sorted_by_frequency=False),
}
NAMES = ("full", "equal", *METHODS)


class Bench:
    """One data set, one model, one seed."""

    def __init__(self, name: str, data: Any, model: str, seed: int) -> None:
        self.name, self.data, self.model, self.seed = name, data, model, seed
        self.settings = MODELS[model] | CHANGES.get((name, model), {})

    def build(self, width: int = WIDTH) -> keras.Model:
        data, settings = self.data, self.settings
        options = {
            "embedding_dim": width,
            "embeddings_l2": settings["l2"],
            "seed": self.seed,
        }
        counts = (data.num_users, data.num_items)
        if self.model == "mf":
            model = MatrixFactorization(*counts, **options)
        elif self.model == "ncf":
            model = NCF(*counts, **options)
        else:
            edges = (data.train.users, data.train.items)
            model = LightGCN(*counts, edges, **options)
        model.compile(keras.optimizers.Adam(settings["rate"]), BPRLoss())
        return model

    def triples(self, part: str) -> Triples:
        return Triples(getattr(self.data, part), self.settings["batch"], seed=self.seed)

    def fit_options(self, fresh: bool = True) -> dict[str, Any]:
        # A new model's NDCG may stand still for some epochs before it rises.
        first = PLATEAU if fresh else 0
        metrics = RankingMetrics(
            self.data.validation,
            self.data.train,
            ks=[20],
            max_users=self.settings.get("max_users"),
        )
        stop = keras.callbacks.EarlyStopping(
            OBJECTIVE.name,
            patience=3,
            mode="max",
            restore_best_weights=True,
            start_from_epoch=first,
        )
        return {
            "validation_data": self.triples("validation"),
            "epochs": 40,
            "callbacks": [metrics, stop],
            "verbose": 0,
        }

    def row(
        self, method: str, budget: float, model: Any, **more: Any
    ) -> dict[str, Any]:
        seen = self.data.train.union(self.data.validation)
        scores = evaluate_ranking(model, self.data.test, seen, KS).means()
        return {
            "data": self.name,
            "model": self.model,
            "seed": self.seed,
            "method": method,
            "budget": budget,
            **scores,
            **more,
        }

    def trained(self, width: int = WIDTH) -> tuple[keras.Model, float]:
        keras.utils.set_random_seed(self.seed)
        model, began = self.build(width), time.monotonic()
        model.fit(self.triples("train"), **self.fit_options())
        return model, time.monotonic() - began

    def full(self, folder: Path) -> tuple[keras.Model, float | None]:
        """The full model, trained once for all calls of this benchmark."""
        path = folder / f"{self.name}_{self.model}_{self.seed}.weights.h5"
        if path.exists():
            model = self.build()
            model.optimizer.build(model.trainable_variables)
            model.load_weights(path)
            return model, None
        model, seconds = self.trained()
        folder.mkdir(parents=True, exist_ok=True)
        model.save_weights(path)
        return model, seconds

    def equal(self, budget: float) -> dict[str, Any]:
        model, seconds = self.trained(int(budget * WIDTH))
        return self.row("equal", budget, model, seconds=seconds, trainings=1.0)

    def searched(
        self, full: Any, method: str, budgets: list[float]
    ) -> list[dict[str, Any]]:
        quality = RankingQuality(self.data.train, self.data.validation)
        tried = {"quality": quality, "steps": self.settings["steps"]}
        made, rows = METHODS[method](tried), []
        with tempfile.TemporaryDirectory() as folder:
            search = keras_eds.EDSSearch(
                full, budgets, made, OBJECTIVE, seed=self.seed, directory=folder
            )
            options = self.fit_options(fresh=made.warm_start == "fresh")
            search.search(self.triples("train"), **options)
            results = search.results()
            stages = [result.stage for result in results]
            steps = [r for r in results if r.stage == "step"]
            spent = 1 + sum(r.metrics["trainings"] for r in steps)
            for budget in budgets:
                [model] = search.get_best_models(budget=budget)
                [plan] = search.get_best_plans(budget=budget)
                rows.append(
                    self.row(
                        method,
                        budget,
                        model,
                        seconds=sum(r.seconds for r in results),
                        trainings=spent + stages.count("retrain"),
                        sizes=[round(kept.mean_dim, 2) for kept in plan],
                    )
                )
        return rows


def write(rows: list[dict[str, Any]]) -> None:
    with LINES.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    for row in rows:
        print({k: v for k, v in row.items() if k != "sizes"}, flush=True)


def run(bench: Bench, methods: list[str], budgets: list[float], folder: Path) -> None:
    mine = (bench.name, bench.model, bench.seed)
    done = {
        (row["method"], row["budget"])
        for row in read()
        if (row["data"], row["model"], row["seed"]) == mine
    }
    wanted = {
        (name, budget)
        for name in methods
        for budget in ([1.0] if name == "full" else budgets)
    }
    if wanted <= done:
        return
    full, seconds = bench.full(folder)
    for name in methods:
        left = sorted((b for n, b in wanted - done if n == name), reverse=True)
        if name == "full" and left:
            write([bench.row(name, 1.0, full, seconds=seconds, trainings=1.0)])
        elif name == "equal":
            for budget in left:
                write([bench.equal(budget)])
        elif left:
            write(bench.searched(full, name, left))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=DATA, default="movielens")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["mf"])
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument(
        "--budgets", nargs="+", type=float, choices=BUDGETS, default=list(BUDGETS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tables", action="store_true", help="only write the table")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "ciess_ranking",
        help="where trained full models are kept",
    )  # fmt: skip
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if not given.tables:
        data = DATA[given.data]()
        for model in given.models:
            for seed in given.seeds:
                bench = Bench(given.data, data, model, seed)
                run(bench, given.methods, given.budgets, given.folder)
                write_tables(NAMES)
    write_tables(NAMES)


if __name__ == "__main__":
    main()
