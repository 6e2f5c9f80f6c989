"""Tables of `ctr_budgets.py`: score against budget, means over seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

ORDER = ["full", "equal", "random", "SSEDS columns, before", "SSEDS columns",
         "SSEDS principal, before", "SSEDS principal",
         "principal rows, before", "principal rows", "default",
         "default, fixed alignment", "AMTL", "AMTL: ids",
         "AMTL: fields", "AMTL, trained start", "AMTL, sizes alone",
         "AML (one network)", "AML (one network): ids", "AML (one network): fields",
         "random rows, sorted",
         "MDE by popularity", "equal, int8", "principal rows, int8"]  # fmt: skip


def write_tables(results: Path, budgets: Sequence[float]) -> None:
    """Writes `ctr_<dataset>.md` beside each `ctr_<dataset>.jsonl` in `results`."""
    for path in sorted(results.glob("ctr_*.jsonl")):
        rows = pd.DataFrame(
            [json.loads(line) for line in path.read_text().splitlines()]
        )
        parts = [f"# {path.stem}: means over seeds\n"]
        parts.append(
            "Made by `KERAS_BACKEND=jax python examples/benchmarks/ctr_budgets.py "
            f"--dataset {rows.dataset[0]}` and `--tables`, on 1 to 2 "
            "CPU cores that others shared: seconds are rough.\n"
        )
        for model, group in rows.groupby("model", sort=False):
            groups = group.groupby(["method", "budget"])
            table = pd.DataFrame({
                "seeds": groups.seed.nunique(),
                "test AUC": groups.auc.mean(),
                "+-": groups.auc.std(),
                "log loss": groups.logloss.mean(),
                "table values": groups.table_values.mean(),
                "bytes on disk": groups.disk_bytes.mean(),
                "seconds": groups.seconds.mean(),
            }).reset_index()  # fmt: skip
            table["order"] = table.method.map(ORDER.index)
            table = table.sort_values(["budget", "order"], ascending=[False, True])
            parts.append(f"\n## {model}\n\nTest AUC:\n\n{_summary(table, budgets)}\n")
            parts.append(_markdown(table.drop(columns="order")) + "\n")
        path.with_suffix(".md").write_text("\n".join(parts))


def _summary(table: pd.DataFrame, budgets: Sequence[float]) -> str:
    """Test AUC by method and budget; the full model once."""
    full = table[table.method == "full"]["test AUC"]
    known = f"{full.iloc[0]:.4f}" if len(full) else "not run yet"
    lines = [
        "| | " + " | ".join(f"{budget:.0%}" for budget in budgets) + " |",
        "|---" * (len(budgets) + 1) + "|",
    ]
    for method, rows in table.sort_values("order").groupby("method", sort=False):
        if method != "full":
            auc = rows.set_index("budget")["test AUC"]
            cells = [_or_blank(auc.get(budget, np.nan), ".4f") for budget in budgets]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"The full model: {known}."])


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|---" * table.shape[1] + "|"]
    for row in table.itertuples(index=False):
        cells = [row[0], f"{row[1]:.0%}", str(row[2]), f"{row[3]:.4f}",
                 _or_blank(row[4], ".4f"), f"{row[5]:.4f}", f"{row[6]:,.0f}",
                 f"{row[7]:,.0f}", _or_blank(row[8], ".0f")]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _or_blank(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)
