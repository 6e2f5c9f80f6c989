"""Keeps the weights of the best epoch, also when training is stopped and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras

from keras_eds import archive


class BestEpoch(keras.callbacks.ModelCheckpoint):  # type: ignore[misc]
    """Keeps the weights of the best epoch; those without validation do not count.

    Args:
        path: A file for the weights; a second one beside it holds their score.
        objective: A `keras_tuner.Objective`.
        best: What an epoch has to be better than. Defaults to None: nothing.
        goes_on: Whether an earlier training goes on, whose best epoch counts.
    """

    def __init__(
        self, path: Path, objective: Any, best: float | None, goes_on: bool
    ) -> None:
        self._weights, self._score = path, path.with_suffix(".json")
        if goes_on and path.exists() and self._score.exists():
            best = json.loads(self._score.read_text())
        else:
            self._forget()
        super().__init__(
            str(path),
            monitor=objective.name,
            mode=objective.direction,
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=best,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # An epoch without validation is no reason for a warning.
        if self.monitor not in (logs or {}):
            return
        before = self.best
        super().on_epoch_end(epoch, logs)
        if self.best != before:
            archive.write_bytes(self._score, json.dumps(float(self.best)).encode())

    def restore(self, model: keras.Model) -> None:
        """Gives a model the weights of the best epoch, if there is one."""
        if self._weights.exists():
            model.load_weights(self._weights)
        self._forget()

    def _forget(self) -> None:
        for path in (self._weights, self._score):
            path.unlink(missing_ok=True)
