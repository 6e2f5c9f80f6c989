"""Brings learned sizes down to the budgets while a model trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_eds.budget import Budget
from keras_eds.field import total_bytes, total_parameters
from keras_eds.surgery import keras_private
from keras_eds.surgery.masking import Masking
from keras_eds.tuners.size_price import SizePrice

# Sizes are brought to their target so many times in a training.
CORRECTIONS = 100
# By how much the penalty moves each time, and the drift at which it moves that much.
GAIN, FULL_DRIFT = 0.2, 0.02
FIRST_PENALTY = 0.1
# The smallest budget is to be reached after this share of the training.
ARRIVAL = 0.8


class SizeSchedule(keras.callbacks.Callback):  # type: ignore[misc]
    """Holds what the masked tables are expected to cost to a falling target.

    After the share s of all steps the target is

        target(s) = first * (smallest / first) ** min(1, s / 0.8)

    with `first` the cost at the beginning and `smallest` that of the smallest
    budget. It is met at every correction by a price, in logits, that every further
    value of any id costs (`SizePrice`). That alone would not make sizes right: what
    a value gains would be weighed against the other values, but not against the
    bytes of all ids that have it. So the loss has the penalty

        penalty * (expected share of all table values that is kept)

    At each correction the penalty is multiplied by `exp(0.2 * drift / 0.02)`,
    `drift = log(cost / target)` since the last one, within -0.02 and 0.02. Where
    gains and penalty are in balance nothing drifts: the penalty is what a value is
    worth at this budget.

    Whenever the target has come down to a budget `take_down` is called.

    Args:
        maskings: The masks, with a penalty of their own each.
        budgets: What to come down to.
        take_down: Called with a budget's place, once for each.
        count_steps: Called where `fit` does not know how many batches an epoch has.
    """

    def __init__(
        self,
        maskings: Sequence[Masking],
        budgets: Sequence[Budget],
        take_down: Callable[[int], None],
        count_steps: Callable[[], int],
    ) -> None:
        super().__init__()
        self._maskings = maskings
        self._price = SizePrice(maskings)
        self._fields = [masking.site.field for masking in maskings]
        self._take_down = take_down
        whole = float(total_bytes(self._fields))
        self._limits = [b.share(self._fields) * whole for b in budgets]
        self._waiting = sorted(range(len(budgets)), key=lambda i: -self._limits[i])
        self._penalty = FIRST_PENALTY
        self._step = self._epoch = 0
        self._count_steps = count_steps
        self._steps_an_epoch = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._steps_an_epoch = self.params.get("steps") or self._count_steps()
        self._first = self._target = self._cost = self._price.read()
        self._set_penalties()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._step = epoch, 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # Several at once where `steps_per_execution` says so.
        before, self._step = self._step, batch + 1
        steps = self._steps_an_epoch * self.params["epochs"]
        every = max(1, steps // CORRECTIONS)
        if self._step // every > before // every:
            self._correct()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._correct()
        if logs is not None:
            logs["expected_bytes"] = self._cost
            logs["target_bytes"] = self._target
            logs["size_penalty"] = self._penalty

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        keras_private.sync(self.model)
        while self._waiting:
            self._take_down(self._waiting.pop(0))

    def _correct(self) -> None:
        keras_private.sync(self.model)
        drift = math.log(self._price.read() / self._target) / FULL_DRIFT
        self._penalty *= math.exp(GAIN * min(1.0, max(-1.0, drift)))
        self._set_penalties()
        self._target = self._next_target()
        self._cost = self._price.meet(self._target)
        while self._waiting and self._target <= self._limits[self._waiting[0]]:
            self._take_down(self._waiting.pop(0))

    def _next_target(self) -> float:
        epochs = self._epoch + self._step / self._steps_an_epoch
        way = min(1.0, epochs / self.params["epochs"] / ARRIVAL)
        last = min(self._first, *self._limits)
        return float(self._first * (last / self._first) ** way)

    def _set_penalties(self) -> None:
        for masking, field in zip(self._maskings, self._fields, strict=True):
            # A layer that is called at several places adds its penalty at each.
            calls = max(1, keras_private.call_sites(masking.site.layer))
            share = field.input_dim / total_parameters(self._fields) / calls
            assert masking.masks.size_penalty is not None
            masking.masks.size_penalty.assign(self._penalty * share)
