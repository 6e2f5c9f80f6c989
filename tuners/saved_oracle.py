"""A KerasTuner oracle on disk."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import keras_tuner

from keras_eds import archive
from keras_eds.errors import ProjectError
from keras_eds.tuners.trial_files import read_json

READINGS = 20
READ_AGAIN_SECONDS = 0.1


class SavedOracle(keras_tuner.Oracle):
    """An oracle whose search may be killed at any moment, and goes on.

    Its files are written all or nothing, and what a killed process left half done
    is done again.
    """

    def failed_trials(self) -> list[Any]:
        """The trials that failed for good."""
        return [t for t in self.trials.values() if t.status == "FAILED"]

    def save(self) -> None:
        """Saves the oracle, all or nothing."""
        _write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        _write_json(path, trial.get_state())

    def reload(self) -> None:
        """Reads what was saved, and tidies up what a killed process left behind.

        Raises:
            ProjectError: If a file is missing or damaged.
        """
        self._check_files()
        self.trials: dict[str, Any] = {}
        try:
            super().reload()
            self._tidy_up()
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ProjectError(
                "`directory` must hold a project of this library. Received: "
                f"{str(self._project_dir)!r}, which could not be read "
                f"({type(error).__name__}: {error}). Start again with overwrite=True."
            ) from error

    def follow(self) -> None:
        """Reads what another process may be writing at this moment."""
        for _ in range(READINGS - 1):
            try:
                return self.reload()
            except ProjectError:
                time.sleep(READ_AGAIN_SECONDS)
        self.reload()

    def _tidy_up(self) -> None:
        # A process may die between the writing of a trial and of the oracle.
        self.trials = {name: self.trials[name] for name in self.start_order}
        for name, trial in self.trials.items():
            # The project may have been moved.
            trial.hyperparameters.values["eds/folder"] = self._get_trial_dir(name)
        # Whoever starts a search again has corrected what made a stage fail.
        failed = {trial.trial_id for trial in self.failed_trials()}
        self.end_order: list[str] = [
            name for name in self.end_order if name not in failed
        ]
        for name in failed:
            self._run_times[name] = 0
        again = {*self._retry_queue, *failed} - set(self.end_order)
        # KerasTuner takes the last one first.
        self._retry_queue: list[str] = sorted(
            again, key=self.start_order.index, reverse=True
        )

    def _check_files(self) -> None:
        path = Path(self._get_oracle_fname())
        for name in read_json(path).get("start_order", []):
            read_json(path.parent / f"trial_{name}" / "trial.json")


def _write_json(path: str | Path, content: Any) -> None:
    archive.write_bytes(path, json.dumps(content).encode())
