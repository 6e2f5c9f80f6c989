"""The models and data sets of `ctr_budgets.py`, and how they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_eds.datasets import load_criteo, load_movielens_1m
from keras_eds.models import FM, DeepFM, TwoTower, WideDeep

ITEM_FIELDS = ("movie", "year", "genres")


def two_tower(fields: Sequence[Any], embedding_dim: int, **options: Any) -> Any:
    """Users on one side, movies on the other; tables as wide as the others' are."""
    sides = [[f for f in fields if (f.name in ITEM_FIELDS) == x] for x in (0, 1)]
    return TwoTower(*sides, embedding_dim=embedding_dim + 1, **options)


MODELS = {"DeepFM": DeepFM, "FM": FM, "WideDeep": WideDeep, "TwoTower": two_tower}
SETTINGS: dict[str, dict[str, Any]] = {
    "movielens": {
        "load": load_movielens_1m,
        "width": 32,
        "batch_size": 4096,
        "learning_rate": 2e-3,
        "l2": 0.0,
        "dropout": 0.2,
    },
    "criteo": {
        "load": load_criteo,
        "width": 16,
        "batch_size": 512,
        "learning_rate": 1e-3,
        "l2": 0.02,
        "dropout": 0.3,
    },
}
