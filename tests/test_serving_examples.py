"""The examples of retrieval and serving run, with small settings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from small_movielens import MOVIES, write_movielens

from keras_eds.datasets import Histories, Interactions, load_movielens_interactions

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's"
)
EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, tmp_path: Path, *options: str, films: int = MOVIES) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_movielens(data, films)
    where = ["--data", str(data), "--out", str(tmp_path / "out")]
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([*where, "--verbose", "0", *options])


def recall_at_100(model: keras.Model, data: Interactions) -> tuple[float, float]:
    """Of the test part, from scores of all films: least and most, as ties may fall."""
    histories = Histories(data.train, length=5).histories(range(data.num_users))
    users = np.asarray(model.get_layer("user_tower")({"history": histories}))
    items = np.asarray(model.get_layer("item_weights")(np.arange(data.num_items)))
    scores = users @ items.T
    tied = 1e-6 * np.abs(scores).max()
    least, most = [], []
    for user in range(data.num_users):
        for part in (data.train, data.validation):
            scores[user, part.items_of(user)] = -np.inf
        last = np.sort(scores[user])[-100]
        wanted = scores[user, data.test.items_of(user)]
        least.append((wanted > last + tied).mean())
        most.append((wanted >= last - tied).mean())
    return float(np.mean(least)), float(np.mean(most))


def test_youtube_retrieval(tmp_path, capsys):
    options = ("--width", "16", "--length", "5", "--negatives", "3", "--epochs", "2")
    options += ("--method", "uniform", "--learning-rate", "0.001")
    run("youtube_retrieval", tmp_path, *options, "--retrain-epochs", "1", films=400)
    out = capsys.readouterr().out
    lines = dict(re.findall(r"^(.*?)\s+Recall@100 (0\.\d{4})", out, re.M))
    # Budgets are met from below.
    full, *others = lines
    assert full == "full" and len(lines) == 5
    assert [kind.split(", ")[1] for kind in others] == ["cut", "retrained"] * 2
    data = load_movielens_interactions(tmp_path / "data")
    saved = {path.stem: path for path in (tmp_path / "out").glob("*.keras")}
    assert len(saved) == 3
    for name, path in saved.items():
        least, most = recall_at_100(keras.saving.load_model(path), data)
        printed = lines[name if name == "full" else f"{name}, retrained"]
        assert least - 1e-4 <= float(printed) <= most + 1e-4
        assert most - least < 0.01


def test_serve(tmp_path, capsys):
    options = ("--width", "8", "--epochs", "1", "--users", "5", "--method", "sseds")
    run("serve", tmp_path, *options, "--formats", "tf_saved_model")
    out = capsys.readouterr().out
    lines = re.findall(r"^(\S+)( int8)?\s+test AUC (0\.\d+)", out, re.M)
    assert len(lines) == 6 and lines[0][0] == "full"
    assert "the same ten films for 5 of 5 users" in out
    saved = {path.name for path in (tmp_path / "out").glob("full*.*")}
    assert {"full.tf_saved_model", "fullint8.tf_saved_model", "full.keras"} <= saved
