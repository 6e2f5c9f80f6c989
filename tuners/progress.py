"""Tells what a search is doing and how long it may still take."""

from __future__ import annotations

import time
from typing import Any

from keras_eds.methods import Proposal
from keras_eds.results import StageResult

_TITLES = {
    "pretrain": "train the full model",
    "probe": "measure the tables",
    "learn": "train with masks",
    "step": "try sizes",
    "retrain": "train within",
}


class Progress:
    """Prints a line before and after every stage; `fit` draws the bar between.

    Args:
        verbose: 0 prints nothing.
    """

    def __init__(self, verbose: Any) -> None:
        self._silent = verbose == 0
        self._began = time.monotonic()
        self._trainings: list[float] = []
        self._left = 0

    def begin(self, proposal: Proposal, index: int, total: int) -> None:
        """Announces a stage."""
        self._left = max(0, total - index - 1)
        what = _TITLES[proposal.stage]
        if proposal.budget is not None:
            what = f"{what} {proposal.budget.label} of the tables"
        self._print(f"\nStage {index + 1}/{total}: {what}")

    def end(self, result: StageResult) -> None:
        """Tells a stage's score and when the search may end."""
        if result.stage != "probe":
            self._trainings.append(result.seconds)
        text = f"{result.objective} {result.score:.4f}"
        if result.score_before is not None:
            text += f" ({result.score_before:.4f} before retraining)"
        if result.full_score is not None and result.stage == "retrain":
            text += f", full model {result.full_score:.4f}"
        text += f", {_duration(result.seconds)}"
        if self._left and self._trainings:
            mean = sum(self._trainings) / len(self._trainings)
            text += f"; about {_duration(mean * self._left)} left"
        self._print(text)

    def fail(self, failure: str) -> None:
        """Tells that a stage failed."""
        self._print(failure)

    def _print(self, text: str) -> None:
        if not self._silent:
            print(text, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
