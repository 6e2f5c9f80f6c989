"""Masks of given sizes on the tables of a model, taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.surgery.masking import Masking
from keras_eds.surgery.sites import Site


class FixedMasks(keras.layers.Layer):  # type: ignore[misc]
    """The mask of every id: `m_ij = 1 if j < sizes[i] else 0`.

    Args:
        sizes: Integers of shape `(input_dim,)`.
        output_dim: Width of the table.
    """

    def __init__(self, sizes: np.ndarray, output_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.places = np.arange(output_dim, dtype="int32")
        self.size_of_id = self.add_weight(
            name="size_of_id",
            shape=(len(sizes),),
            initializer="zeros",
            dtype="int32",
            trainable=False,
        )
        self.size_of_id.assign(np.asarray(sizes, "int32"))
        self.built = True

    def call(self, ids: Any) -> Any:
        sizes = ops.expand_dims(ops.take(self.size_of_id, ids, axis=0), -1)
        return ops.cast(ops.less(self.places, sizes), self.compute_dtype)


class TurnedMasking(Masking):
    """Masks along other directions than the columns: `((e @ R) * m) @ R^T`.

    Args:
        site: The table.
        masks: See `Masking`.
        directions: `R`, orthogonal, of shape `(output_dim, output_dim)`.
    """

    def __init__(self, site: Site, masks: Any, directions: np.ndarray) -> None:
        super().__init__(site, masks)
        self._directions = np.asarray(directions, "float32")

    def apply(self, rows: Any, ids: Any) -> Any:
        turn = ops.cast(self._directions, rows.dtype)
        turned = super().apply(ops.matmul(rows, turn), ids)
        return ops.matmul(turned, ops.transpose(turn))


@contextmanager
def sizes_on(
    sites: Sequence[Site],
    sizes: Mapping[str, np.ndarray],
    directions: Mapping[str, np.ndarray] | None = None,
) -> Iterator[list[Masking]]:
    """Cuts the vector of every id to its first values for a while.

    The tables keep their width and their values; what is masked gets no gradient.

    Args:
        sites: The tables.
        sizes: A size for each id, by the table's name.
        directions: What a size counts, by the table's name: the columns of an
            orthogonal matrix. Defaults to the columns of the table.
    """
    with ExitStack() as stack:
        maskings = []
        for site in sites:
            name = site.field.name
            masks = FixedMasks(sizes[name], site.field.output_dim, dtype="float32")
            made = (
                Masking(site, masks)
                if directions is None
                else TurnedMasking(site, masks, directions[name])
            )
            maskings.append(made)
            made.attach()
            stack.callback(made.remove)
        yield maskings
