"""The batches that `fit` would make of its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

from keras_eds.arrays import is_gappy
from keras_eds.errors import FieldError

# Of arrays cut in large batches: what an example holds times so many takes memory.
BATCH_VALUES = 1 << 18


def read_batches(data: dict[str, Any]) -> tuple[Iterator[Any], int | None]:
    """The batches that `fit(**data)` would see, and how many there are.

    In NumPy, but for sparse and ragged tensors, which a TensorFlow model is given as
    they are: dense ones would have ids in the gaps.

    Args:
        data: `x`, `y`, `sample_weight`, `batch_size`, `steps_per_epoch`.
    """
    adapter = get_data_adapter(
        x=data.get("x"),
        y=data.get("y"),
        sample_weight=data.get("sample_weight"),
        batch_size=data.get("batch_size"),
        steps_per_epoch=data.get("steps_per_epoch"),
        shuffle=False,
    )
    number = data.get("steps_per_epoch") or adapter.num_batches
    whole = data.get("x")
    if isinstance(adapter, TFDatasetAdapter):
        whole = adapter.get_tf_dataset().element_spec
    gappy = any(is_gappy(leaf) for leaf in keras.tree.flatten(whole))
    if not gappy or keras.backend.backend() != "tensorflow":
        return iter(adapter.get_numpy_iterator()), number
    return (
        keras.tree.map_structure(_to_numpy_without_gaps, batch, none_is_leaf=False)
        for batch in adapter.get_tf_dataset()
    ), number


def _to_numpy_without_gaps(leaf: Any) -> Any:
    return leaf if is_gappy(leaf) else keras.ops.convert_to_numpy(leaf)


def refuse_gaps(name: str, inputs: Any) -> None:
    """Refuses ids that are not a dense tensor.

    Raises:
        FieldError: If they are sparse or ragged.
    """
    if is_gappy(inputs) or type(inputs).__name__ == "BCOO":
        raise FieldError(
            "`model` must look up dense ids in the tables that are cut. Received: a "
            f"{type(inputs).__name__} for table {name!r}. Pad the ids (a ragged "
            "tensor's `to_tensor()`, and mask_zero=True), or leave the table out with "
            "`filters`."
        )


def examples_in_a_batch(leaves: Sequence[np.ndarray]) -> int:
    """How many examples of these arrays hold `BATCH_VALUES` together, at least 1."""
    long = sum(int(np.prod(leaf.shape[1:])) for leaf in leaves)
    return max(1, BATCH_VALUES // max(1, long))
