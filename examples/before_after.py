"""What examples share: data, scores, and a search at 25 % and 10 % of the bytes."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

import keras_eds
from keras_eds.budget import format_bytes
from keras_eds.datasets import Dataset, load_movielens_1m, make_planted
from keras_eds.methods import PrincipalRows
from keras_eds.optimizers import LazyAdam

BUDGETS = (0.25, 0.1)
PLANTED = {"user": 4, "movie": 4, "year": 2, "gender": 0}


def arguments(description: str, name: str, epochs: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--data", help="MovieLens-1M's folder, or 'planted'")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=epochs, help="at most")
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    return parser


def load(where: str | None) -> Dataset:
    """MovieLens-1M, or synthetic clicks with fields of the same names."""
    if where == "planted":
        return make_planted(12_000, PLANTED, vocabulary_size=40)
    return load_movielens_1m(where)


def with_fields(
    data: Dataset, x: tuple[dict[str, np.ndarray], ...], fields: Any
) -> Any:
    """The same labels for other inputs."""
    parts = [
        (new, part[1])
        for new, part in zip(x, (data.train, data.validation, data.test), strict=True)
    ]
    return dataclasses.replace(
        data, fields=tuple(fields), train=parts[0], validation=parts[1], test=parts[2]
    )


def batch_size(data: Dataset) -> int:
    return 4096 if len(data.train[1]) > 100_000 else 512


def compiled(model: keras.Model, data: Dataset) -> keras.Model:
    rate = 2e-3 if len(data.train[1]) > 100_000 else 1e-2
    auc = keras.metrics.AUC(name="auc")
    model.compile(LazyAdam(rate), "binary_crossentropy", metrics=[auc])
    return model


def fit_options(data: Dataset, epochs: int) -> dict[str, Any]:
    stop = keras.callbacks.EarlyStopping(
        "val_auc", mode="max", patience=1, restore_best_weights=True
    )
    return {
        "validation_data": data.validation,
        "batch_size": batch_size(data),
        "epochs": epochs,
        "callbacks": [stop],
        "verbose": 0,
    }


def train(
    name: str,
    model: keras.Model,
    data: Dataset,
    epochs: int,
    *callbacks: keras.callbacks.Callback,
) -> None:
    """Trains until the validation AUC falls, and says how it went."""
    options = fit_options(data, epochs)
    options["callbacks"] += callbacks
    history = model.fit(*data.train, **options).history
    by_epoch = " ".join(f"{auc:.4f}" for auc in history["val_auc"])
    auc, loss = scores(model, data)
    print(f"{name}: validation AUC by epoch {by_epoch}")
    print(f"{name}: test AUC {auc:.4f}, log loss {loss:.4f}", flush=True)


def scores(model: keras.Model, data: Dataset) -> tuple[float, float]:
    """Test AUC and log loss."""
    x, y = data.test
    p = model.predict(x, batch_size=8192, verbose=0)[:, 0].astype("float64")
    loss = log_loss(y, np.clip(p, 1e-7, 1 - 1e-7))
    return float(roc_auc_score(y, p)), float(loss)


def shrink(model: keras.Model, data: Dataset, epochs: int, out: Path) -> None:
    """Searches at both budgets, and prints bytes and scores before and after."""
    fields = keras_eds.find_fields(model)
    print(f"\n{'tables':<16}{'bytes':>10}  test AUC  log loss")
    _row("full", sum(field.num_bytes for field in fields), scores(model, data))
    for share in BUDGETS:
        search = keras_eds.EDSSearch(
            model,
            share,
            PrincipalRows(compare=False),
            objective="val_auc",
            seed=0,
            directory=out,
            project_name=f"search_{share}",
            overwrite=True,
        )
        search.search(*data.train, **fit_options(data, epochs))
        plan, small = search.get_best_plans()[0], search.get_best_models()[0]
        cut = keras_eds.apply_plan(model, plan)
        _row(f"{share:.0%}, cut", plan.num_bytes(), scores(cut, data))
        _row(f"{share:.0%}, retrained", plan.num_bytes(), scores(small, data))


def _row(name: str, num_bytes: int, score: tuple[float, float]) -> None:
    auc, loss = score
    print(
        f"{name:<16}{format_bytes(num_bytes):>10}  {auc:8.4f}  {loss:8.4f}", flush=True
    )
