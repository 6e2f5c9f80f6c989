"""The tables of both READMEs say what the committed rows of the benchmarks say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "examples" / "benchmarks"
# Data set and model.
DATA = {
    "Criteo": ("criteo", "DeepFM"),
    "MovieLens": ("movielens", "DeepFM"),
    "MovieLens-1M": ("movielens", "DeepFM"),
    "two towers": ("movielens", "TwoTower"),
    "LightGCN": ("movielens", "light_gcn"),
    "matrix factorisation": ("movielens", "mf"),
    "NCF": ("movielens", "ncf"),
    "Gowalla": ("gowalla", "mf"),
}
RANKING = {"light_gcn", "mf", "ncf"}
Data = tuple[str, str]
METHODS = {
    "equal widths": "equal",
    "equal widths, floats": "equal",
    "random widths": "random",
    "the default search": "default",
    "the default search, floats": "default",
    "SSEDS principal, floats": "SSEDS principal",
    "AMTL, the better plan on validation data": "AMTL",
    "AMTL, sizes for ids": "AMTL: ids",
    "AMTL, one width a field": "AMTL: fields",
    "one network in place of twins, the better plan": "AML (one network)",
    "random sizes for ids, sorted by frequency": "random rows, sorted",
    "equal widths, int8": "equal, int8",
    "the default search, int8": "principal rows, int8",
    "CIESS, without the walk": "CIESS, no walk",
    "CIESS, alignments that learn": "CIESS, learned alignment",
    "its agents alone, alignments that learn": "CIESS, agents alone",
    "the same, without the walk": "CIESS, agents alone, no walk",
    'SSEDS, `alignment="fixed"`': "SSEDS, fixed alignment",
    "random sizes, sorted by frequency": "random, sorted",
    "random sizes, not sorted": "random",
    "a sorted draw along trained directions": "random, sorted, along directions",
    "the best of 30 such draws": "random, sorted, best of 30",
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def figures(text: str) -> Iterator[tuple[Data, str, float, str]]:
    """Data set and model, row, budget and figure of each cell of a table by budgets."""
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        header, _, *rows = [cells(line) for line in table.splitlines()]
        data, columns = DATA.get(header[0]), []
        for head in header[1:]:
            *named, share = head.split() or [""]
            data = DATA.get(" ".join(named), data) if named else data
            columns.append((data, share))
        for label, *values in rows:
            for (of, share), value in zip(columns, values, strict=True):
                if of and share.endswith("%") and value:
                    yield of, label, float(share[:-1]) / 100, value


def mean_score(data: Data, method: str, budget: float) -> float:
    """Test AUC of a click-through model, recall@20 of one that ranks."""
    name, model = data
    file, of, score = f"ctr_{name}", "dataset", "auc"
    if model in RANKING:
        file, of, score = "ciess_ranking", "data", "recall@20"
    lines = (BENCHMARKS / "results" / f"{file}.jsonl").read_text().splitlines()
    wanted = (name, model, METHODS.get(method, method), budget)
    found = [
        row[score]
        for row in map(json.loads, lines)
        if (row[of], row["model"], row["method"], row["budget"]) == wanted
    ]
    assert found, f"no run of {wanted}"
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("path", "least"), [(ROOT / "README.md", 90), (BENCHMARKS / "README.md", 250)]
)
def test_tables_are_the_means_of_the_runs(path: Path, least: int) -> None:
    found = list(figures(path.read_text()))
    assert len(found) >= least
    wrong = [
        (data, label, budget, value, mean)
        for data, label, budget, value in found
        if value != f"{(mean := mean_score(data, label, budget)):.4f}"
    ]
    assert not wrong


@pytest.mark.parametrize("path", [ROOT / "README.md", BENCHMARKS / "README.md"])
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert links
    for link in links:
        assert link.startswith("http") or (path.parent / link).exists(), link


def test_every_table_of_results_is_listed() -> None:
    listed = (BENCHMARKS / "README.md").read_text()
    for path in (BENCHMARKS / "results").glob("*.md"):
        assert f"(results/{path.name})" in listed
