"""Which ids a batch is about, where a model reads whole tables."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


def told_ids(model: keras.Model, x: Any) -> dict[int, np.ndarray]:
    """The ids that a model says its inputs are about, by `id(layer)` of the table.

    A model that propagates over a graph looks all ids up for every batch, so that
    lookups do not tell whose example it is. Such a model has a method
    `ids_by_table(inputs)`, which returns pairs of an embedding layer and the ids of
    the batch, of shape `(batch, ...)`.

    Args:
        model: A model, with that method or without.
        x: The inputs of a batch.
    """
    tell = getattr(model, "ids_by_table", None)
    pairs = [] if tell is None else tell(x)
    return {
        id(layer): np.asarray(ops.convert_to_numpy(ids)).astype(np.int64)
        for layer, ids in pairs
    }
