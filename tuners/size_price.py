"""The price at which masked tables are expected to cost what they may."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_eds.field import Field
from keras_eds.layers.row_blocks import RowBlock
from keras_eds.row_plan import row_cost
from keras_eds.surgery.masking import Masking

_STEPS = 24
_CLOSE = 1e-3


class SizePrice:
    """What every further value of an id costs, in the logits of its sizes.

    With the logits `o_ik` of the sizes of id i, the price p and

        t_ik = softmax_k(o_ik - p k),    size_i = sum_k k t_ik

    all sizes fall as p rises. The expected cost of a table is the bytes of
    `sum_i size_i` values and of its index, at most those of the whole table.

    Args:
        maskings: The masked tables.
    """

    def __init__(self, maskings: Sequence[Masking]) -> None:
        self._maskings = maskings
        self._price = 0.0
        self._used = [self._groups(masking) for masking in maskings]

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
        for masking in self._maskings:
            masking.masks.price.assign(self._price)
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
        for masking, (used, _) in zip(self._maskings, self._used, strict=True):
            logits = masking.masks.group_logits()[used]
            found.append(logits + self._price * np.arange(logits.shape[1]))
        return found

    def _cost_at(self, logits: Sequence[np.ndarray], price: float) -> float:
        total = 0.0
        for masking, (_, ids), free in zip(
            self._maskings, self._used, logits, strict=True
        ):
            places = np.arange(free.shape[1])
            priced = free - price * places
            chances = np.exp(priced - priced.max(axis=1, keepdims=True))
            mean = chances @ places / chances.sum(axis=1) + masking.masks.min_size
            field = masking.site.field
            kept = float(ids @ mean) * field.itemsize + _index_bytes(field)
            total += min(kept, field.num_bytes)
        return total

    @staticmethod
    def _groups(masking: Masking) -> tuple[np.ndarray, np.ndarray]:
        """The groups that have ids, and how many."""
        of_id = ops.convert_to_numpy(masking.masks.group_of_id)
        return np.unique(of_id, return_counts=True)


def _index_bytes(field: Field) -> int:
    one = row_cost(field, [RowBlock(field.input_dim, 1)], False, False)
    return one.in_unit("bytes", field.itemsize) - field.input_dim * field.itemsize
