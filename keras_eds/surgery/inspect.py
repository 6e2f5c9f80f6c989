"""Runs the first batches through a model and looks how its tables are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.errors import DataError, FieldError
from keras_eds.surgery import keras_private, keras_training
from keras_eds.surgery.batches import read_batches, refuse_gaps
from keras_eds.surgery.sites import Site, all_sites

FIRST_BATCHES = 2


def inspect_batches(
    model: keras.Model,
    data: Mapping[str, Any],
    names: Sequence[str] | None = None,
    argument: str = "x",
) -> None:
    """Refuses ids out of range, and tables that are read past their layer.

    A table that `call` reads directly, as in `ops.matmul(x, table.embeddings)`,
    would not go through a gate or a mask, and its width could not change.

    Args:
        model: A Keras model, built or not; it is built on the first batch.
        data: `x`, `y`, `sample_weight`, `batch_size` as in `fit`.
        names: The fields to look at. Defaults to all.
        argument: What errors call the data. Defaults to `"x"`.

    Raises:
        DataError: If there is no batch, or an id is out of range.
        FieldError: If a table is read directly.
    """
    batches, _ = read_batches(dict(data))
    seen = 0
    for batch in islice(batches, FIRST_BATCHES):
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        if not model.built:
            model(parts[0], training=False)
        _inspect(model, _chosen(model, names), argument, *parts)
        seen += 1
    if not seen:
        raise DataError(
            f"`{argument}` must hold at least one batch. Received: no batch. Pass data "
            "that is not empty and can be read again."
        )


def _chosen(model: keras.Model, names: Sequence[str] | None) -> list[Site]:
    return [s for s in all_sites(model) if names is None or s.field.name in names]


def _inspect(
    model: keras.Model, sites: Sequence[Site], argument: str, x: Any, *labels: Any
) -> None:
    tables = {
        id(keras_private.table_variable(site.layer)): site.field.name for site in sites
    }
    scope = _ReadRecorder(tables)
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(_watched(site, scope, argument))
        stack.enter_context(scope)
        outputs = model(x, training=False)
        if keras_training.has_own_loss(model):
            _run_own_loss(model, x, outputs, *labels)
    if scope.read_directly:
        raise FieldError(
            "`model` must read its tables through their layers alone. Received: "
            f"{sorted(scope.read_directly)}, read directly in the `call` of the model "
            "or of one of its layers, or in its `compute_loss`. Leave them out with "
            "`filters`, call the layer on ids instead, or give a table that is only "
            "penalized an `embeddings_regularizer`."
        )


def _run_own_loss(
    model: keras.Model, x: Any, outputs: Any, y: Any = None, weight: Any = None
) -> None:
    # The regularizer of a table may read it: it goes with the table.
    # A loss that fails does so again where the batch is scored, and is named there.
    with keras_training.without_regularizers(model), suppress(Exception):
        model.compute_loss(x, y, outputs, weight, training=False)


class _ReadRecorder(keras.StatelessScope):  # type: ignore[misc]
    """Notes which variables are read while no lookup is under way."""

    def __init__(self, tables: Mapping[int, str]) -> None:
        super().__init__()
        self._tables = tables
        self.depth = 0
        self.read_directly: set[str] = set()

    def get_current_value(self, variable: keras.Variable) -> Any:
        if self.depth == 0 and id(variable) in self._tables:
            self.read_directly.add(self._tables[id(variable)])
        return super().get_current_value(variable)


@contextmanager
def _watched(site: Site, scope: _ReadRecorder, argument: str) -> Iterator[None]:
    own_call, lookup = vars(site.layer).get("call"), site.layer.call

    def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_gaps(site.field.name, inputs)
        _check_range(site, inputs, argument)
        scope.depth += 1
        try:
            return lookup(inputs, *args, **kwargs)
        finally:
            scope.depth -= 1

    site.layer.call = call
    try:
        yield
    finally:
        keras_private.restore_call(site.layer, own_call)


def _check_range(site: Site, inputs: Any, argument: str) -> None:
    ids = np.asarray(ops.convert_to_numpy(inputs))
    if ids.size == 0:
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= site.field.input_dim:
        raise DataError(
            f"`{argument}` must hold ids from 0 to {site.field.input_dim - 1} for "
            f"table {site.field.name!r}. Received: ids from {low} to {high}. Raise the "
            "table's input_dim, or map unknown ids to one that is reserved for them."
        )
