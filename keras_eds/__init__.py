"""Embedding dimension search for Keras.

Finds how wide every embedding table of a Keras model has to be under a memory
budget, and gives back an ordinary Keras model that is physically that small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Loading a saved model needs everything registered that one may hold.
from keras_eds import layers, models, optimizers, retrieval
from keras_eds.budget import Budget
from keras_eds.field import Field
from keras_eds.field_plan import FieldPlan
from keras_eds.plan import DimensionPlan
from keras_eds.row_plan import RowPlan
from keras_eds.serving import export, quantize_tables
from keras_eds.surgery import (
    apply_plan,
    count_ids,
    find_fields,
    load_tables,
    measure,
    use_sparse_lookups,
)

if TYPE_CHECKING:
    from keras_eds import (
        callbacks,
        datasets,
        methods,
        metrics,
        pretraining,
        reporting,
        tuners,
    )
    from keras_eds.tuners import EDSSearch

__version__ = "0.1.0"

# Found on first use: KerasTuner, pandas and TensorBoard are slow to import.
_ROOMS = (
    "callbacks",
    "datasets",
    "methods",
    "metrics",
    "pretraining",
    "reporting",
    "tuners",
)


def __getattr__(name: str) -> Any:
    if name == "EDSSearch":
        return import_module("keras_eds.tuners").EDSSearch
    if name in _ROOMS:
        return import_module(f"keras_eds.{name}")
    raise AttributeError(f"module 'keras_eds' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS, "EDSSearch"])


__all__ = [
    "Budget",
    "DimensionPlan",
    "EDSSearch",
    "Field",
    "FieldPlan",
    "RowPlan",
    "apply_plan",
    "callbacks",
    "count_ids",
    "datasets",
    "export",
    "find_fields",
    "layers",
    "load_tables",
    "measure",
    "methods",
    "metrics",
    "models",
    "optimizers",
    "pretraining",
    "quantize_tables",
    "reporting",
    "retrieval",
    "tuners",
    "use_sparse_lookups",
]
