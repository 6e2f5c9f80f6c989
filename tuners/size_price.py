"""The price at which masked tables are expected to cost what they may."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_eds.field import Field
from keras_eds.field_plan import field_cost
from keras_eds.layers.row_blocks import RowBlock
from keras_eds.layers.twin_masks import TwinMasks
from keras_eds.row_plan import row_cost
from keras_eds.surgery.masking import Masking

_STEPS = 24
_CLOSE = 1e-3
# How steeply the price of a value rises as its id gets rarer. 0, one price for all,
# takes sizes of common ids of small tables, which cost next to nothing.
RARITY = 0.5


class SizePrice:
    """What every further value of an id costs, in the logits of its sizes.

    With the logits `o_ik` of the sizes of id i, `n_i` how often it comes, and the
    price p,

        t_ik = softmax_k(o_ik - p w_i k),    size_i = sum_k k t_ik
        w_i = (max_j n_j / n_i) ** 0.5

    all sizes fall as p rises, those of rare ids first: a value of a rare id takes
    as much room, and serves fewer examples. The maximum is over the ids of all
    tables, so that a few ids which come often keep long vectors where many that
    seldom come do not. An id that never comes counts as half a time. The expected
    cost of a table is the bytes of `sum_i size_i` values and of its index, at most
    those of the whole table. An index that takes more than the values counts as
    much as they do, so that sizes are learned at a budget below what all indexes
    take, too: there tables end with one width, and without an index.

    Args:
        maskings: The masked tables.
    """

    def __init__(self, maskings: Sequence[Masking]) -> None:
        self._maskings = maskings
        self._price = 0.0
        self._used = [self._groups(masking) for masking in maskings]
        self._weights = _weights([masking.masks for masking in maskings])

    def read(self) -> float:
        """Reads the logits; returns the bytes that the expected sizes would have."""
        self._now = self._logits()
        return self._cost_at(self._now, self._price)

    def meet(self, target: float) -> float:
        """Sets the price of all masks so that the logits read cost `target`.

        Returns:
            What they cost then, nearly the target if it can be met.
        """
        logits = self._now
        low, high = self._bracket(logits, target)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            cost = self._cost_at(logits, middle)
            low, high = (middle, high) if cost > target else (low, middle)
            if abs(cost - target) < _CLOSE * target:
                break
        self._price = (low + high) / 2
        for masking, weights in zip(self._maskings, self._weights, strict=True):
            masking.masks.price.assign(self._price * weights)
        return self._cost_at(logits, self._price)

    def _bracket(
        self, logits: Sequence[np.ndarray], target: float
    ) -> tuple[float, float]:
        width = 0.1
        low = high = self._price
        while self._cost_at(logits, low) < target and width < 1e6:
            low, width = low - width, 2 * width
        width = 0.1
        while self._cost_at(logits, high) > target and width < 1e6:
            high, width = high + width, 2 * width
        return low, high

    def _logits(self) -> list[np.ndarray]:
        """Of the groups that have ids, without the price."""
        found = []
        for masking, (used, _), weights in zip(
            self._maskings, self._used, self._weights, strict=True
        ):
            logits = masking.masks.group_logits()[used]
            price = self._price * weights[used, None]
            found.append(logits + price * np.arange(logits.shape[1]))
        return found

    def _cost_at(self, logits: Sequence[np.ndarray], price: float) -> float:
        total = 0.0
        for masking, (used, ids), free, weights in zip(
            self._maskings, self._used, logits, self._weights, strict=True
        ):
            places = np.arange(free.shape[1])
            priced = free - price * weights[used, None] * places
            chances = np.exp(priced - priced.max(axis=1, keepdims=True))
            mean = chances @ places / chances.sum(axis=1) + masking.masks.min_size
            field = masking.site.field
            values = float(ids @ mean) * field.value_bytes
            index = min(_index_bytes(field), values)
            total += min(values + index, _whole_bytes(field))
        return total

    @staticmethod
    def _groups(masking: Masking) -> tuple[np.ndarray, np.ndarray]:
        """The groups that have ids, and how many."""
        of_id = ops.convert_to_numpy(masking.masks.group_of_id)
        return np.unique(of_id, return_counts=True)


def _weights(masks: Sequence[TwinMasks]) -> list[np.ndarray]:
    """The `w_i` of each table's groups."""
    counts = [np.maximum(mask.group_counts(), 0.5) for mask in masks]
    most = max(float(count.max()) for count in counts)
    return [(most / count) ** RARITY for count in counts]


def _index_bytes(field: Field) -> int:
    one = row_cost(field, [RowBlock(field.input_dim, 1)], False, False)
    return one.in_unit("bytes", field) - field.input_dim * field.value_bytes


def _whole_bytes(field: Field) -> int:
    return field_cost(field, field.output_dim, False).in_unit("bytes", field)
