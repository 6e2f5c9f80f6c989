"""How often each id occurs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_eds.arrays import without_gaps


def count_ids(data: Any, input_dim: int) -> npt.NDArray[np.int64]:
    """How often each id occurs in all of the data.

    Args:
        data: Ids of any shape, as an array or tensor; or an iterable of such
            batches, for instance a `tf.data.Dataset`. Of a batch that is a
            tuple, such as `(x, y)`, the first entry is taken.
        input_dim: Number of ids.

    Returns:
        Counts of shape `(input_dim,)`.

    Raises:
        ValueError: If there are no ids, or some are not from 0 to `input_dim`.
    """
    counts = np.zeros(input_dim, np.int64)
    for batch in _batches(data):
        # Not a bincount: a batch costs its ids, not the vocabulary.
        np.add.at(counts, _as_ids(batch, input_dim), 1)
    if not counts.any():
        raise ValueError(
            "`data` must hold ids. Received: data without any. A generator can be "
            "read only once: make it anew."
        )
    return counts


def _batches(data: Any) -> Iterator[Any]:
    if isinstance(data, np.ndarray) or ops.is_tensor(data):
        yield data
    elif isinstance(data, keras.utils.PyDataset):
        yield from (_first(data[index]) for index in range(len(data)))
    elif hasattr(data, "to_numpy"):
        # A Series of pandas, which is iterated id by id.
        yield data.to_numpy()
    elif isinstance(data, list | tuple) and all(
        isinstance(id, int | np.number) for id in data
    ):
        yield np.asarray(data)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        yield from (_first(batch) for batch in data)
    else:
        raise ValueError(
            "`data` must be an array of ids or an iterable of such arrays. "
            f"Received: data of type {type(data).__name__}. Give the ids of this "
            "field alone."
        )


def _first(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) else batch


def _as_ids(batch: Any, input_dim: int) -> npt.NDArray[np.int64]:
    batch = without_gaps(batch)
    ids = ops.convert_to_numpy(batch) if ops.is_tensor(batch) else np.asarray(batch)
    if ids.dtype.kind not in "iuf":
        raise ValueError(
            "`data` must hold arrays of ids. Received: a batch of type "
            f"{type(batch).__name__}. Give the ids of this field alone, for instance "
            "dataset.map(lambda x, y: x['field'])."
        )
    wrong = ids[~((ids >= 0) & (ids < input_dim))]
    if wrong.size:
        raise ValueError(
            f"`data` must hold ids from 0 to input_dim - 1 = {input_dim - 1}. "
            f"Received: {wrong.flat[0]}, one of {wrong.size} out of range. Raise "
            "input_dim or correct the ids."
        )
    return ids.astype(np.int64).reshape(-1)


def check_counts(counts: Any, input_dim: int) -> npt.NDArray[np.float64]:
    """Reads one count for each id.

    Raises:
        ValueError: If they are not `input_dim` numbers of at least 0.
    """
    array = np.asarray(counts)
    if array.dtype.kind not in "iuf" or array.shape != (input_dim,):
        raise ValueError(
            f"`counts` must be numbers of shape ({input_dim},), one for each id. "
            f"Received: counts of shape {array.shape} and dtype {array.dtype}. "
            f"Give np.bincount(ids, minlength={input_dim})."
        )
    wrong = np.flatnonzero(~((array >= 0) & np.isfinite(array)))
    if wrong.size:
        raise ValueError(
            "`counts` must be finite and at least 0. Received: "
            f"counts[{wrong[0]}]={array[wrong[0]]}, one of {wrong.size} that are not. "
            "Give 0 for an id that does not occur."
        )
    return array.astype(np.float64)
