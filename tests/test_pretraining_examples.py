"""The examples of pre-training run, on planted data and with small settings."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = {
    "pretrain_fnn": "sklearn",
    "gbdt_leaves": "lightgbm",
    "item2vec_init": "gensim",
}


def run(name: str, out: Path, *options: str) -> str:
    package = NEEDED[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'keras-eds[examples]'")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py", "--data", "planted",
         "--width", "4", "--epochs", "1", "--out", out, *options],
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", OMP_NUM_THREADS="1"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def sizes(printed: str) -> list[float]:
    """Bytes of the full tables and of the cut ones, as the last table has them."""
    units = {"B": 1, "KB": 1e3, "MB": 1e6}
    rows = re.findall(r"^(full|.*%, cut) +([\d.]+) (B|KB|MB) ", printed, re.MULTILINE)
    return [float(number) * units[unit] for _, number, unit in rows]


@pytest.mark.parametrize(
    ("name", "options", "trained"),
    [
        (
            "pretrain_fnn",
            ("--freeze", "1"),
            ["FM", "FNN, random start", "FNN, FM start"],
        ),
        ("gbdt_leaves", (), ["24 trees", "logistic regression on their leaves"]),
        ("item2vec_init", (), ["random", "item2vec, movies", "DeepWalk, users"]),
    ],
)
def test_example_runs(name, options, trained, tmp_path):
    printed = run(name, tmp_path, *options)
    for model in trained:
        assert re.search(f"^{model}.*: test AUC 0\\.", printed, re.MULTILINE), printed
    full, quarter, tenth = sizes(printed)
    assert tenth <= 0.101 * full and quarter <= 0.251 * full
    assert printed.count(", retrained") == 2
