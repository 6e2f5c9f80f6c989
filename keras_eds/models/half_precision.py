"""Sums that half precision would lose."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def dtype_of(tensor: Any) -> str:
    """The name of the tensor's dtype."""
    return str(keras.backend.standardize_dtype(tensor.dtype))


def widened(tensor: Any) -> Any:
    """The tensor in float32 where it is of half precision, else as it is."""
    half = dtype_of(tensor) in ("float16", "bfloat16")
    return ops.cast(tensor, "float32") if half else ops.convert_to_tensor(tensor)
