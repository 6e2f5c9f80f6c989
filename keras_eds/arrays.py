"""NumPy arrays of whatever holds numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_array(values: Any) -> np.ndarray:
    """The values as an array; bfloat16, which NumPy takes for no number, as float32."""
    array = np.asarray(values)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
