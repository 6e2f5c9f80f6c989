"""Writes a DeepFM on MovieLens-1M as files that serve without Keras.

    python examples/serve.py

Trains the model, cuts its tables to 25 % and 10 % of their bytes, turns the values
left into 8-bit integers, and writes each as a SavedModel, a LiteRT file and, if tf2onnx
is installed, an ONNX file. Prints the test AUC, the bytes of the files, and whether a
process that cannot import Keras or this library finds the same ten films for 1,000
users.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_eds
from keras_eds.budget import format_bytes
from keras_eds.datasets import load_movielens_1m
from keras_eds.models import DeepFM
from keras_eds.serving.export import FORMATS

FILM = ("movie", "year", "genres")  # the rest is the user's
# What a server runs: TensorFlow alone, and files.
SERVER = """
import sys
for room in ("keras", "tf_keras", "keras_eds"):
    sys.modules[room] = None  # an import of it fails
import numpy as np, tensorflow as tf
model, asked = tf.saved_model.load(sys.argv[1]), dict(np.load(sys.argv[2]))
film = {k[5:]: v for k, v in asked.items() if k.startswith("film/")}
user = {k[5:]: v for k, v in asked.items() if k.startswith("user/")}
best = []
for row in range(len(user["user"])):
    own = {k: np.full(len(film["movie"]), v[row]) for k, v in user.items()}
    scores = model.serve({**film, **own}).numpy()[:, 0]
    best.append(np.argsort(-scores, kind="stable")[:10])
np.save(sys.argv[3], best)
"""


def train(data: Any, arguments: argparse.Namespace) -> dict[str, keras.Model]:
    """The full model, and what a search leaves of it at each budget."""
    keras.utils.set_random_seed(0)
    full = DeepFM(data.fields, arguments.width, dropout=0.2, seed=0)
    auc = keras.metrics.AUC(name="auc")
    full.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy", metrics=[auc])
    stop = keras.callbacks.EarlyStopping(
        "val_auc", mode="max", patience=1, restore_best_weights=True
    )
    options: dict[str, Any] = {
        "validation_data": data.validation,
        "batch_size": 4096,
        "callbacks": [stop],
        "verbose": arguments.verbose,
    }
    full.fit(*data.train, epochs=arguments.epochs, **options)
    search = keras_eds.EDSSearch(
        full,
        budget=[0.25, 0.1],
        method=arguments.method,
        objective="val_auc",
        seed=0,
        directory=arguments.out,
        project_name="search",
        overwrite=True,
    )
    search.search(*data.train, epochs=1, **options)
    models = {"full": full}
    for budget in search.budgets:
        [models[budget.label]] = search.get_best_models(budget=budget)
    for name, model in models.items():
        model.save(arguments.out / f"{name}.keras")
    return models


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def write(
    model: keras.Model, name: str, quantize: Any, out: Path, formats: Any = FORMATS
) -> dict[str, Path]:
    paths = {}
    for format in formats:
        path = out / f"{name}{quantize or ''}.{format}"
        try:
            paths[format] = keras_eds.export(
                model, path, format, quantize, overwrite=True
            )
        except ImportError as error:
            print(f"{format}: {error}")
    return paths


def requests(data: Any, users: int) -> dict[str, np.ndarray]:
    """Every film of the test part, and some users, each with all columns."""
    x, _ = data.test
    asked = {}
    for kind, key in (("film", "movie"), ("user", "user")):
        rows = np.unique(x[key], return_index=True)[1]
        rows = rows if kind == "film" else rows[:users]
        for name, values in x.items():
            if (name in FILM) == (kind == "film"):
                asked[f"{kind}/{name}"] = values[rows]
    return asked


def best_here(model: keras.Model, asked: dict[str, np.ndarray]) -> np.ndarray:
    """The ten films for each user, by the model in this process."""
    film, user = (
        {k[5:]: v for k, v in asked.items() if k.startswith(kind)}
        for kind in ("film", "user")
    )
    best = []
    for row in range(len(user["user"])):
        own = {k: np.full(len(film["movie"]), v[row]) for k, v in user.items()}
        scores = model.predict_on_batch({**film, **own})[:, 0]
        best.append(np.argsort(-scores, kind="stable")[:10])
    return np.array(best)


def best_there(path: Path, asked: dict[str, np.ndarray], out: Path) -> np.ndarray:
    """The same by a process without Keras."""
    np.savez(out / "asked.npz", **asked)
    given = [str(path), str(out / "asked.npz"), str(out / "best.npy")]
    subprocess.run([sys.executable, "-c", SERVER, *given], check=True)
    return np.load(out / "best.npy")


def report(
    name: str, model: keras.Model, paths: dict[str, Path], data: Any
) -> dict[str, float]:
    x, y = data.test
    scores = model.evaluate(x, y, batch_size=8192, verbose=0, return_dict=True)
    files = "  ".join(f"{f} {format_bytes(size(p)):>8}" for f, p in paths.items())
    print(f"{name:<10} test AUC {scores['auc']:.4f}  {files}", flush=True)
    return scores


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=None, help="where MovieLens-1M is")
    parser.add_argument("--out", default=Path("runs/serve"), type=Path)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--users", type=int, default=1000, help="to compare answers of")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--method", default="principal_rows")
    parser.add_argument("--verbose", type=int, default=2)
    arguments = parser.parse_args(given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    data = load_movielens_1m(arguments.data)
    models = train(data, arguments)
    for name, model in models.items():
        paths = write(model, name, None, arguments.out, arguments.formats)
        report(name, model, paths, data)
        small = keras_eds.quantize_tables(model)
        paths8 = write(model, name, "int8", arguments.out, arguments.formats)
        report(f"{name}, int8", small, paths8, data)
    if "tf_saved_model" in paths:
        compare(name, model, paths["tf_saved_model"], data, arguments)
    print(f"{time.monotonic() - began:.0f} s")


def compare(
    name: str, model: keras.Model, path: Path, data: Any, arguments: argparse.Namespace
) -> None:
    asked = requests(data, arguments.users)
    here = best_here(model, asked)
    there = best_there(path, asked, arguments.out)
    same = int((here == there).all(axis=1).sum())
    print(f"{name}, without Keras: the same ten films for {same} of {len(here)} users.")


if __name__ == "__main__":
    main()
