"""Refuses values for ids that nothing can be learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.errors import DataError


def check_rows(
    name: str, values: Any, width: int | None = None, rows: int | None = None
) -> npt.NDArray[np.float64]:
    """Reads finite numbers, one row of `width` (or one number) for each id.

    Args:
        name: Of the argument.
        values: What was given.
        width: Numbers in a row; `None` for a flat array.
        rows: How many; `None` for any number from 1.

    Raises:
        DataError: If they are not.
    """
    array = np.asarray(values)
    tail = () if width is None else (width,)
    fits = array.ndim == 1 + len(tail) and array.shape[1:] == tail and len(array) > 0
    if not fits or rows not in (None, len(array)) or array.dtype.kind not in "iuf":
        wanted = ", ".join(str(n) for n in ("ids" if rows is None else rows, *tail))
        raise DataError(
            f"`{name}` must be numbers of shape ({wanted}). Received: {name} of shape "
            f"{array.shape} and dtype {array.dtype}. Give one row for each id."
        )
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        at = tuple(int(place) for place in wrong[0])
        raise DataError(
            f"`{name}` must be finite. Received: {name}{list(at)}={array[at]}, one of "
            f"{len(wrong)} that are not. Correct what was measured."
        )
    return array.astype(np.float64)


def check_metric(name: str, values: Any) -> npt.NDArray[np.float64]:
    """Reads a finite number of at least 0 for each id.

    Raises:
        DataError: If they are not.
    """
    array = check_rows(name, values)
    wrong = np.flatnonzero(array < 0)
    if wrong.size:
        raise DataError(
            f"`{name}` must be at least 0. Received: {name}[{wrong[0]}]="
            f"{array[wrong[0]]}, one of {wrong.size} that are not. Give a metric of "
            "which more is better."
        )
    return array
