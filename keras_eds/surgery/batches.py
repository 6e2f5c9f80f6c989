"""The batches that `fit` would make of its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter


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


def is_gappy(tensor: Any) -> bool:
    """Whether it is a sparse or ragged tensor of TensorFlow, or stands for some."""
    return type(tensor).__name__.removesuffix("Spec") in (
        "SparseTensor",
        "RaggedTensor",
    )
