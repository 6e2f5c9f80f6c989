"""The examples and the benchmark of TFRS run, with small settings."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from small_movielens import write_movielens
from tfrs_setup import tf

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))

    def main(name, *options):
        __import__(name)
        sys.modules[name].main([str(option) for option in options])

    return main


def small(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    options = ("--width", 8, "--epochs", 1, "--batch-size", 64)
    return ("--data", write_movielens(data), "--out", tmp_path / "out", *options)


def test_retrieval(run, tmp_path, capsys):
    run("tfrs_retrieval", *small(tmp_path))
    out = capsys.readouterr().out
    lines = re.findall(
        r"^  (full|25%|10%) +tables +\S+ \S+ +top 10 [01]\.\d+", out, re.M
    )
    assert lines == ["full", "25%", "10%"]
    users = tf.constant(["1", "2"])
    served = tf.saved_model.load(str(tmp_path / "out" / "small_index"))
    assert served(users)[1].shape == (2, 10)


def test_ranking(run, tmp_path, capsys):
    run("tfrs_ranking", *small(tmp_path))
    out = capsys.readouterr().out
    lines = re.findall(r"^  (full|25%|10%) +tables +\S+ \S+ +test RMSE \d", out, re.M)
    assert lines == ["full", "25%", "10%"]


def test_planted_data_have_users_and_movies_of_eight_tastes(run):
    sys.modules.pop("tfrs_movielens", None)
    from tfrs_movielens import load

    data = load("planted", least=5)
    user, movie = (data.train[name].astype(int) for name in ("user_id", "movie_id"))
    assert "planted" in data.source
    assert (user % 8 == movie % 8).all()


def test_benchmark(run, tmp_path, capsys):
    out = tmp_path / "steps.md"
    options = ("--rows", 1000, "--batches", 16, "--steps", 4, "--turns", 1)
    run("tfrs_step_time", *options, "--out", out)
    assert len(re.findall(r"^\| 16 \| ", out.read_text(), re.M)) == 3
