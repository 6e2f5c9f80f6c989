"""Arrays and tensors that NumPy does not know."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_array(values: Any) -> np.ndarray:
    """The values as an array; bfloat16, which NumPy takes for no number, as float32."""
    array = np.asarray(values)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def is_gappy(tensor: Any) -> bool:
    """Whether it is a sparse or ragged tensor of TensorFlow, or stands for some."""
    return type(tensor).__name__.removesuffix("Spec") in (
        "SparseTensor",
        "RaggedTensor",
    )


def without_gaps(tensor: Any) -> Any:
    """What a sparse or ragged tensor holds; any other as it is."""
    while is_gappy(tensor):
        tensor = tensor.values
    return tensor
