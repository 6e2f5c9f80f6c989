"""The examples of retrieval and serving run, with small settings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import keras
import pytest
from small_movielens import write_movielens

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's"
)
EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, tmp_path: Path, *options: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    where = ["--data", str(write_movielens(data)), "--out", str(tmp_path / "out")]
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([*where, "--verbose", "0", *options])


def test_youtube_retrieval(tmp_path, capsys):
    options = ("--width", "8", "--length", "5", "--negatives", "3", "--epochs", "2")
    run("youtube_retrieval", tmp_path, *options, "--retrain-epochs", "1")
    lines = re.findall(r"^(.*?)\s+Recall@100 1\.0000", capsys.readouterr().out, re.M)
    kinds = ["full", "25%, cut", "25%, retrained", "10%, cut", "10%, retrained"]
    # There are 40 films; budgets are met from below.
    assert len(lines) == 5 and lines[0] == "full"
    assert [line.split(", ")[-1] for line in lines] == [
        kind.split(", ")[-1] for kind in kinds
    ]
    assert (tmp_path / "out" / "full.keras").exists()


def test_serve(tmp_path, capsys):
    options = ("--width", "8", "--epochs", "1", "--users", "5", "--method", "sseds")
    run("serve", tmp_path, *options, "--formats", "tf_saved_model")
    out = capsys.readouterr().out
    lines = re.findall(r"^(\S+)( int8)?\s+test AUC (0\.\d+)", out, re.M)
    assert len(lines) == 6 and lines[0][0] == "full"
    assert "the same ten films for 5 of 5 users" in out
    saved = {path.name for path in (tmp_path / "out").glob("full*.*")}
    assert {"full.tf_saved_model", "fullint8.tf_saved_model", "full.keras"} <= saved
