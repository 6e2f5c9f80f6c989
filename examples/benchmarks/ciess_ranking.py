"""Sizes for users and items of MovieLens-1M, as the CIESS paper compares them.

Each user's interactions are split 50/25/25 at random; tables have 128 columns. At 20,
10 and 5 % of the tables' bytes, index included: equal sizes, random sizes (sorted by
frequency or not; one draw, or the best of as many as CIESS spends steps), principal
rows, and CIESS with and without its walk. All is chosen by NDCG@20 on the validation
part, and scored on the test part over all items that are in neither of the others.

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
import numpy as np

import keras_eds
from keras_eds.datasets import Triples, load_gowalla, load_movielens_interactions
from keras_eds.methods import CIESS, Method, PrincipalRows, RandomRowSizes, SampledRows
from keras_eds.metrics import RankingMetrics, RankingQuality, evaluate_ranking
from keras_eds.models import NCF, BPRLoss, LightGCN, MatrixFactorization

RESULTS = Path(__file__).parent / "results"
LINES = RESULTS / "ciess_ranking.jsonl"
WIDTH = 128
BUDGETS = (0.2, 0.1, 0.05)
OBJECTIVE = keras_tuner.Objective("val_ndcg@20", "max")
KS = (5, 20)
DATA = {"movielens": load_movielens_interactions, "gowalla": load_gowalla}
MODELS = {
    "mf": {"batch": 8192, "rate": 5e-3, "l2": 1e-4},
    "light_gcn": {"batch": 8192, "rate": 5e-3, "l2": 1e-4},
    "ncf": {"batch": 8192, "rate": 2e-3, "l2": 1e-4},
}
# How long a step trains, in batches, and how many steps there are.
STEPS, TRIES = 10, 30
METHODS: dict[str, Callable[[Any], Method]] = {
    "random, sorted": lambda _: RandomRowSizes(),
    "CIESS": lambda quality: CIESS(steps=STEPS, top=1, quality=quality),
    "random, sorted, best of 30": lambda quality: SampledRows(
        TRIES, top=1, steps=STEPS, quality=quality
    ),
    "principal rows": lambda _: PrincipalRows(compare=False),
    "CIESS, no walk": lambda quality: CIESS(
        steps=STEPS, top=1, quality=quality, agent={"walk_length": 0}
    ),
    "random": lambda _: RandomRowSizes(sorted_by_frequency=False),
}
NAMES = ("full", "equal", *METHODS)
# Qu et al., SIGIR 2023, Table 1a: recall and NDCG at 5, then 20, as printed there.
PAPER = {
    ("light_gcn", 0.2): {
        "equal": (0.0825, 0.2248, 0.4536, 0.3969),
        "random": (0.0737, 0.2004, 0.4211, 0.3648),
        "CIESS": (0.0920, 0.2436, 0.4854, 0.4257),
    },
    ("light_gcn", 0.1): {
        "equal": (0.0778, 0.2105, 0.4376, 0.3787),
        "random": (0.0663, 0.1802, 0.3948, 0.3383),
        "CIESS": (0.0846, 0.2248, 0.4631, 0.4023),
    },
    ("light_gcn", 0.05): {
        "equal": (0.0646, 0.1752, 0.3847, 0.3272),
        "random": (0.0594, 0.1634, 0.3657, 0.3119),
        "CIESS": (0.0744, 0.2009, 0.4264, 0.3664),
    },
    ("ncf", 0.2): {
        "equal": (0.0779, 0.2080, 0.4121, 0.3682),
        "random": (0.0692, 0.1914, 0.3787, 0.3374),
        "CIESS": (0.0792, 0.2221, 0.4233, 0.3828),
    },
    ("ncf", 0.1): {
        "equal": (0.0694, 0.1973, 0.4011, 0.3546),
        "random": (0.0605, 0.1703, 0.3523, 0.3127),
        "CIESS": (0.0759, 0.2131, 0.4216, 0.3750),
    },
    ("ncf", 0.05): {
        "equal": (0.0666, 0.1841, 0.3881, 0.3358),
        "random": (0.0595, 0.1637, 0.3575, 0.3072),
        "CIESS": (0.0707, 0.1982, 0.4082, 0.3587),
    },
}


class Bench:
    """One data set, one model, one seed."""

    def __init__(self, name: str, data: Any, model: str, seed: int) -> None:
        self.name, self.data, self.model, self.seed = name, data, model, seed
        self.settings = MODELS[model]

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

    def fit_options(self) -> dict[str, Any]:
        metrics = RankingMetrics(self.data.validation, self.data.train, ks=[20])
        stop = keras.callbacks.EarlyStopping(
            OBJECTIVE.name, patience=2, mode="max", restore_best_weights=True
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
        made, rows = METHODS[method](quality), []
        with tempfile.TemporaryDirectory() as folder:
            search = keras_eds.EDSSearch(
                full, budgets, made, OBJECTIVE, seed=self.seed, directory=folder
            )
            search.search(self.triples("train"), **self.fit_options())
            results = search.results()
            stages = [result.stage for result in results]
            steps = [r for r in results if r.stage == "step"]
            spent = 1 + sum(r.metrics["trainings"] for r in steps)
            trials = search.oracle.get_best_trials(stages.count("retrain"))
            for budget in budgets:
                label = keras_eds.Budget.parse(budget).label
                mine = [
                    trial
                    for trial in trials
                    if trial.hyperparameters.values["eds/budget"] == label
                ]
                plan = next(r.plan for r in results
                            if r.index == int(mine[0].trial_id))  # fmt: skip
                rows.append(
                    self.row(
                        method,
                        budget,
                        search.load_model(mine[0]),
                        seconds=sum(r.seconds for r in results),
                        trainings=spent + stages.count("retrain"),
                        sizes=[round(kept.mean_dim, 2) for kept in plan],
                    )
                )
        return rows


def read() -> list[dict[str, Any]]:
    if not LINES.exists():
        return []
    return [json.loads(line) for line in LINES.read_text().splitlines()]


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


def write_tables() -> None:
    names = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in KS]
    text = [
        "# Sizes for users and items: CIESS beside its controls\n",
        f"{WIDTH} columns; each user's interactions split 50/25/25; models are trained "
        "on the first part, chosen by NDCG@20 on the second, scored on the third over "
        "all items that are in neither of the others (the paper trains them once more "
        "on two parts). Budgets count the index. `trainings`: all of a search with "
        "its budgets, the full model's included, a retraining counted as one. Means "
        "over seeds, with the standard deviation of NDCG@20. Seconds are of one shared "
        "core. Made by `KERAS_BACKEND=jax python examples/benchmarks/ciess_ranking.py` "
        "and `--tables`.",
    ]
    rows = read()
    groups = dict.fromkeys((row["data"], row["model"]) for row in rows)
    for data, model in groups:
        mine = [r for r in rows if (r["data"], r["model"]) == (data, model)]
        text += [
            f"\n## {data}, {model}\n",
            f"| bytes | method | seeds | {' | '.join(names)} | +- | trainings | s |",
            "|---" * (len(names) + 6) + "|",
        ]
        for budget in (1.0, *BUDGETS):
            for method in NAMES:
                cells = _cells(mine, budget, method, names)
                text += [f"| {budget:.0%} | {method} | {cells} |"] if cells else []
            for method, figures in PAPER.get((model, budget), {}).items():
                if data == "movielens":
                    printed = " | ".join(f"{figure:.4f}" for figure in figures)
                    text.append(
                        f"| {budget:.0%} | paper: {method} | | {printed} | | | |"
                    )
    (RESULTS / "ciess_ranking.md").write_text("\n".join(text) + "\n")


def _cells(rows: list[Any], budget: float, method: str, names: list[str]) -> str:
    mine = [r for r in rows if (r["budget"], r["method"]) == (budget, method)]
    if not mine:
        return ""
    figures = [f"{np.mean([r[name] for r in mine]):.4f}" for name in names]
    spread = [r[names[-1]] for r in mine]
    seconds = [r["seconds"] for r in mine if r["seconds"] is not None]
    cells = [str(len(mine)), *figures]
    cells.append(f"{np.std(spread, ddof=1):.4f}" if len(mine) > 1 else "")
    cells.append(f"{np.mean([r['trainings'] for r in mine]):.1f}")
    cells.append(f"{np.mean(seconds):.0f}" if seconds else "")
    return " | ".join(cells)


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
                write_tables()
    write_tables()


if __name__ == "__main__":
    main()
