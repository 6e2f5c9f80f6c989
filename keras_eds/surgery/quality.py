"""Measures how well a model serves every id, in one pass over the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.errors import DataError, StageError
from keras_eds.id_quality import IdQuality, Qualities
from keras_eds.surgery import keras_private, keras_training
from keras_eds.surgery.batches import read_batches
from keras_eds.surgery.count import check_ids
from keras_eds.surgery.measure import ENOUGH_EXAMPLES
from keras_eds.surgery.sites import Filters, Site, find_sites
from keras_eds.surgery.told_ids import told_ids


def measure_quality(
    model: keras.Model, data: Mapping[str, Any], filters: Filters = None
) -> Qualities:
    """The mean score of the examples that carry each id.

    An example whose loss is l, of all outputs together, has the score

        1 / (1 + l) for l >= 0,    1 - l for l < 0

    which is from 0 to 1 for losses that are never negative. Penalties and sample
    weights are left out. An example that carries an id several times counts as
    often. Id 0 of a table with `mask_zero` is padding and gets no score. Of a table
    that is read whole the model has to tell the ids, see `told_ids`.

    Args:
        model: A built and compiled model. Nothing in it changes.
        data: `x`, `y`, `batch_size`, `steps` as in `evaluate`.
        filters: Which tables, as in `find_fields`.

    Returns:
        The scores, and on how many examples they rest, by field name.

    Raises:
        DataError: If there is no loss of each example, or a table is not looked up
            for one example after the other.
        StageError: If a loss is not finite.

    Example:

    >>> quality = measure_quality(model, {"x": x, "y": y})
    >>> quality["user"].score.shape
    (1000,)
    """
    taps = [_Tap(site) for site in find_sites(model, filters)]
    with ExitStack() as stack:
        for tap in taps:
            stack.enter_context(tap.on_layer())
        for x, y in _examples(data):
            predicted = model(x, training=False)
            losses = _losses(model, y, predicted)
            scores = scores_of(ops.convert_to_numpy(losses))
            told = told_ids(model, x)
            for tap in taps:
                tap.credit(scores, told.get(id(tap.site.layer)))
    return Qualities({tap.site.field.name: tap.quality() for tap in taps})


def _losses(model: keras.Model, y: Any, predicted: Any) -> Any:
    # A model without a compiled loss may know it of every example by itself.
    if hasattr(model, "losses_by_example"):
        return model.losses_by_example(y, predicted)
    return keras_training.losses_by_example(model, y, predicted)


def scores_of(losses: np.ndarray) -> np.ndarray:
    """What examples score, the higher the better.

    Raises:
        StageError: If a loss is not finite.
    """
    losses = np.asarray(losses, "float64")
    wrong = int((~np.isfinite(losses)).sum())
    if wrong:
        raise StageError(
            "The loss of every example must be finite. Received: "
            f"{wrong} of {losses.size} that are not. Check the data, or train with a "
            "smaller learning rate."
        )
    return np.where(losses < 0, 1 - losses, 1 / (1 + np.maximum(losses, 0)))


class _Tap:
    """Takes down the ids that pass a table, and adds the scores up."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._passed: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._sum = np.zeros(site.field.input_dim)
        self._examples = np.zeros(site.field.input_dim, np.int64)

    @contextmanager
    def on_layer(self) -> Iterator[None]:
        layer = self.site.layer
        own_call, lookup = vars(layer).get("call"), layer.call

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            ids, example = _ids_and_examples(inputs)
            check_ids(ids, self.site.field)
            self._passed.append((ids, example))
            return lookup(inputs, *args, **kwargs)

        layer.call = call
        try:
            yield
        finally:
            keras_private.restore_call(layer, own_call)

    def credit(self, scores: np.ndarray, told: np.ndarray | None) -> None:
        """Gives the ids that have passed, or those told, their examples' scores."""
        if told is not None:
            check_ids(told, self.site.field)
            self._passed = [(told, None)]
        for ids, example in self._passed:
            if example is None:
                example = self._rows(ids, len(scores))
            of_ids = scores[example]
            flat = ids.ravel()
            np.add.at(self._sum, flat, of_ids)
            np.add.at(self._examples, flat, 1)
        self._passed = []

    def quality(self) -> IdQuality:
        """What was found."""
        if self.site.layer.mask_zero:
            self._sum[0] = self._examples[0] = 0
        return IdQuality(self._sum / np.maximum(self._examples, 1), self._examples)

    def _rows(self, ids: np.ndarray, examples: int) -> np.ndarray:
        if not ids.ndim or len(ids) != examples:
            raise DataError(
                "`model` must look ids up for one example after the other. Received: "
                f"table {self.site.field.name!r}, which is given ids of shape "
                f"{ids.shape} for {examples} examples. Leave it out with `filters`, "
                "give the model a method `ids_by_table`, or the method a `quality`."
            )
        return np.repeat(np.arange(examples), ids.size // examples)


def _ids_and_examples(inputs: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids, and the example of each where their shape does not tell."""
    kind, example = type(inputs).__name__, None
    values = inputs
    if kind == "SparseTensor":
        values, example = inputs.values, np.asarray(inputs.indices)[:, 0]
    elif kind == "RaggedTensor":
        values, example = inputs.flat_values, _ragged_rows(inputs)
    ids = ops.convert_to_numpy(values).astype(np.int64)
    return ids, example


def _ragged_rows(inputs: Any) -> np.ndarray:
    rows = np.asarray(inputs.value_rowids())
    while type(inputs.values).__name__ == "RaggedTensor":
        inputs = inputs.values
        rows = rows[np.asarray(inputs.value_rowids())]
    return rows


def _examples(data: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    data = dict(data)
    leaves = keras.tree.flatten(data.get("x"))
    steps = data.pop("steps", None)
    if any(isinstance(a, np.ndarray) and a.dtype.kind == "O" for a in leaves):
        # Keras does not cut arrays of strings: they are one batch.
        yield data["x"], data.get("y")
        return
    if steps is None and leaves and all(isinstance(a, np.ndarray) for a in leaves):
        # A pass costs by the batch.
        data["batch_size"] = max(data.get("batch_size") or 32, ENOUGH_EXAMPLES)
    batches, number = read_batches({**data, "steps_per_epoch": steps})
    for batch in islice(batches, number):
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        yield parts[0], parts[1] if len(parts) > 1 else None
