"""Prefix masks on the tables of a model, put on for a while and taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from keras import ops

from keras_eds.backend.lookup import lookup
from keras_eds.layers.combining import reduce_rows, scale_of
from keras_eds.layers.twin_masks import TwinMasks
from keras_eds.surgery import keras_private
from keras_eds.surgery.sites import Site, is_reducing

_NAME = "size_masks"


class Masking:
    """Multiplies every vector that a table gives by the mask of its id.

    Args:
        site: The table.
        masks: A layer that gives a mask of 0 to 1 for every value of every id.
    """

    def __init__(self, site: Site, masks: Any) -> None:
        self.site = site
        self.masks = masks

    def attach(self) -> None:
        """Puts the masks on the layer, as a layer inside."""
        layer = self.site.layer
        keras_private.add_layer(layer, _NAME, self.masks)
        self._own_call = vars(layer).get("call")
        self._lookup = layer.call
        layer.call = self._reduced if is_reducing(layer) else self._masked

    def remove(self) -> None:
        """Takes the masks off; the layer is what it was."""
        keras_private.restore_call(self.site.layer, self._own_call)
        keras_private.remove_layer(self.site.layer, _NAME)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Leaves the masks out of what is saved of the model meanwhile."""
        keras_private.remove_layer(self.site.layer, _NAME)
        try:
            yield
        finally:
            keras_private.add_layer(self.site.layer, _NAME, self.masks)

    def _masked(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return self.apply(self._lookup(inputs, *args, **kwargs), _integers(inputs))

    def apply(self, rows: Any, ids: Any) -> Any:
        """The rows of ids, masked."""
        return rows * ops.cast(self.masks(ids), rows.dtype)

    def _reduced(self, inputs: Any, weights: Any = None, **kwargs: Any) -> Any:
        layer, ids = self.site.layer, _integers(inputs)
        dtype = layer.compute_dtype
        rows = lookup(keras_private.table_variable(layer), ids, dtype)
        rows = self.apply(rows, ids)
        scale = scale_of(ids, weights, layer.combiner, dtype, layer.name)
        return rows if scale is None else reduce_rows(rows, scale)


def _integers(inputs: Any) -> Any:
    return ops.cast(inputs, "int32") if "int" not in str(inputs.dtype) else inputs


@contextmanager
def masks_on(
    sites: Sequence[Site], counts: Mapping[str, np.ndarray], **options: Any
) -> Iterator[list[Masking]]:
    """Puts masks on tables for a while.

    Args:
        sites: The tables.
        counts: How often each id occurs, by the table's name.
        **options: Those of `TwinMasks`. A seed is raised by one a table; the least
            size of a table is at most its width.
    """
    seed, least = options.pop("seed", None), options.pop("min_size", 1)
    with ExitStack() as stack:
        maskings = []
        for place, site in enumerate(sites):
            masks = TwinMasks(
                site.field.input_dim,
                site.field.output_dim,
                min_size=min(least, site.field.output_dim),
                mask_zero=site.layer.mask_zero,
                seed=None if seed is None else seed + place,
                dtype="float32",
                name=_NAME,
                **options,
            )
            masks.update_frequencies(counts[site.field.name])
            maskings.append(Masking(site, masks))
            maskings[-1].attach()
            stack.callback(maskings[-1].remove)
        yield maskings
