"""Counts how often every id comes, in one pass over the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.arrays import without_gaps
from keras_eds.errors import DataError
from keras_eds.field import Field
from keras_eds.surgery import keras_private
from keras_eds.surgery.batches import examples_in_a_batch, read_batches
from keras_eds.surgery.sites import Filters, Site, find_sites
from keras_eds.surgery.told_ids import told_ids

# Arrays are cut in large batches: a pass costs by the batch. Smaller ones, but the
# user's at least, where examples are long, or models are run to their end: both
# take memory.
BATCH_SIZE, WHOLE_BATCH_SIZE = 65536, 1024


def count_ids(
    model: keras.Model, data: Mapping[str, Any], filters: Filters = None
) -> dict[str, np.ndarray]:
    """Counts the ids that reach every table of a model.

    The ids are taken where a table's layer is called, behind any lookup of
    strings or hashing in front. A table that several inputs share gets the sum of
    their counts. Of a table that is read whole the model tells the ids, see
    `told_ids`. Id 0 of a table with `mask_zero` is padding and is not counted.

    Args:
        model: A built model. Nothing in it changes.
        data: `x`, `batch_size`, `steps_per_epoch` as in `fit`.
        filters: Which tables, as in `find_fields`.

    Returns:
        Integers of shape `(input_dim,)` by field name.

    Raises:
        DataError: If an id is out of range.

    Example:

    >>> counts = keras_eds.count_ids(model, {"x": x})
    >>> counts["user"].shape
    (1000,)
    """
    sites = find_sites(model, filters)
    counters = [_Counter(site) for site in sites]
    # What follows the last lookup of a batch need not be run.
    once = all(site.called_once for site in sites)
    with ExitStack() as stack:
        for counter in counters:
            stack.enter_context(counter.on_layer(counters, once))
        for x in _inputs(data, once):
            told = told_ids(model, x)
            for counter in counters:
                counter.begin(told.get(id(counter.site.layer)))
            if all(counter.seen for counter in counters):
                continue
            try:
                model(x, training=False)
            except _AllCounted:
                pass
    return {counter.site.field.name: counter.counts() for counter in counters}


class _AllCounted(BaseException):
    """Ends a forward pass; no error, so that nothing on the way handles it."""


class _Counter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.seen = self._told = False
        self._counts = np.zeros(site.field.input_dim, np.int64)

    def begin(self, told: np.ndarray | None) -> None:
        """A new batch; of a table that is read whole, the ids are told."""
        self.seen = self._told = told is not None
        if told is not None:
            self._add_ids(told)

    def counts(self) -> np.ndarray:
        if self.site.layer.mask_zero:
            self._counts[0] = 0
        return self._counts

    @contextmanager
    def on_layer(self, all_of_them: Sequence[_Counter], once: bool) -> Iterator[None]:
        layer = self.site.layer
        own_call, lookup = vars(layer).get("call"), layer.call

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._told:
                self._add(inputs)
            self.seen = True
            if once and all(counter.seen for counter in all_of_them):
                raise _AllCounted
            return lookup(inputs, *args, **kwargs)

        layer.call = call
        try:
            yield
        finally:
            keras_private.restore_call(layer, own_call)

    def _add(self, inputs: Any) -> None:
        ids = ops.convert_to_numpy(without_gaps(inputs))
        self._add_ids(ids.astype(np.int64))

    def _add_ids(self, ids: np.ndarray) -> None:
        ids = ids.ravel()
        check_ids(ids, self.site.field)
        # Not a bincount: a batch costs its ids, not the vocabulary.
        np.add.at(self._counts, ids, 1)


def check_ids(ids: np.ndarray, field: Field) -> None:
    """Refuses ids that a table has no row for.

    Raises:
        DataError: If there are such.
    """
    if ids.size and (ids.min() < 0 or ids.max() >= field.input_dim):
        raise DataError(
            f"`x` must hold ids from 0 to {field.input_dim - 1} for table "
            f"{field.name!r}. Received: ids from {ids.min()} to "
            f"{ids.max()}. Raise the table's input_dim, or map unknown ids to one "
            "that is reserved for them."
        )


def _inputs(data: Mapping[str, Any], once: bool) -> Iterator[Any]:
    data = dict(data)
    leaves = keras.tree.flatten(data.get("x"))
    if leaves and all(isinstance(leaf, np.ndarray) for leaf in leaves):
        given = data.get("batch_size") or 32
        most = examples_in_a_batch(leaves) if once else 0
        data["batch_size"] = max(given, min(most, BATCH_SIZE), WHOLE_BATCH_SIZE)
        data.pop("steps_per_epoch", None)
    batches, number = read_batches(data)
    for batch in islice(batches, number):
        yield batch[0] if isinstance(batch, tuple | list) else batch
