"""The table of `ciess_ranking.py`: its rows, means over seeds, beside the paper's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
LINES = RESULTS / "ciess_ranking.jsonl"
KS = (5, 20)
WIDTH = 128
BUDGETS = (0.2, 0.1, 0.05)
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
# Qu et al., WSDM 2024, Table 1: recall and NDCG at 20, of LightGCN on Gowalla.
PAPER_GOWALLA = {
    0.2: {
        "equal": (0.1674, 0.1400),
        "random": (0.1583, 0.1323),
        "CIESS": (0.1750, 0.1461),
        "BET": (0.1753, 0.1483),
    },
    0.1: {
        "equal": (0.1477, 0.1217),
        "random": (0.1403, 0.1171),
        "CIESS": (0.1589, 0.1353),
        "BET": (0.1620, 0.1376),
    },
    0.05: {
        "equal": (0.1085, 0.0872),
        "random": (0.1178, 0.0975),
        "CIESS": (0.1214, 0.0997),
        "BET": (0.1374, 0.1171),
    },
}


def read() -> list[dict[str, Any]]:
    if not LINES.exists():
        return []
    return [json.loads(line) for line in LINES.read_text().splitlines()]


def write_tables(methods: tuple[str, ...]) -> None:
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
            for method in methods:
                cells = _cells(mine, budget, method, names)
                text += [f"| {budget:.0%} | {method} | {cells} |"] if cells else []
            text += _printed(data, model, budget)
    (RESULTS / "ciess_ranking.md").write_text("\n".join(text) + "\n")


def _printed(data: str, model: str, budget: float) -> list[str]:
    """Lines of the papers' tables: four figures, or those at 20 of LightGCN alone."""
    if data == "movielens":
        lines = {f"paper: {k}": v for k, v in PAPER.get((model, budget), {}).items()}
    else:
        lines = {
            f"paper, LightGCN: {method}": ("", recall, "", ndcg)
            for method, (recall, ndcg) in PAPER_GOWALLA.get(budget, {}).items()
        }
    return [
        f"| {budget:.0%} | {name} | | "
        + " | ".join(f"{figure:.4f}" if figure else "" for figure in figures)
        + " | | | |"
        for name, figures in lines.items()
    ]


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
