from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from search_setup import FIT, build, data, search, validation

from keras_eds.methods import METHODS

SCRIPT = Path(__file__).with_name("child_search.py")

# A search is killed at one point, started again, killed at the next, and so on. A
# process counts its own trainings and writings: `training 1` is its first one.
STAGES = ["training 1", "probe", "training 1", "training 2"]
FILES = [
    "write 1 oracle.json",
    "weights full.weights.h5",
    "write 1 measurements.npz",
    # When a trial begins, when it is scored, when it ends.
    "write 4 trial.json",
    "weights model.keras",
    # When the stage ends: the oracle counts it as both running and ended.
    "after 2 oracle.json",
    "after 1 trial.json",
]


def child(directory, **options):
    return subprocess.run(
        [sys.executable, SCRIPT, directory, json.dumps(options)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


LEARNING = ["training 1", "weights learned_1.weights.h5", "training 2", "training 2"]
# In the first step, twice in the third, when nothing of the agents is on disk but
# what the steps before have measured, and in the second retraining.
TRYING = [
    "write 2 qualities.npz",
    "after 3 qualities.npz",
    "write 1 qualities.npz",
    "training 2",
]
STAGES_OF = {
    "ciess": ["pretrain", "probe", *["step"] * 4, "retrain", "retrain"],
    "sseds": ["pretrain", "probe", "retrain", "retrain"],
    "amtl": ["learn", "retrain", "retrain"],
}
OPTIONS_OF = {
    "amtl": {"compare": False},
    "ciess": {
        "episodes": 2,
        "iterations": 2,
        "compare": False,
        "low": 0,
        "updates": 2,
        "steps": 2,
        "agent": {"td3": {"hidden_units": [8], "batch_size": 16}},
    },
}


@pytest.mark.parametrize(
    ("name", "points"),
    [("sseds", STAGES), ("sseds", FILES), ("amtl", LEARNING), ("ciess", TRYING)],
    ids=["stages", "files", "learning", "trying"],
)
def test_killed_search_goes_on(tmp_path, name, points):
    if points is FILES and keras.backend.backend() != "tensorflow":
        pytest.skip("writes the same files on every backend")
    for point in points:
        killed = child(tmp_path, name=name, kill=point, method=OPTIONS_OF.get(name, {}))
        assert killed.returncode == -9, (point, killed.stderr)
    answers = []
    for directory in (tmp_path, tmp_path / "uninterrupted"):
        method = METHODS[name](**OPTIONS_OF.get(name, {}))
        found = search(directory, build, [0.5, 0.25], method=method)
        found.search(*data(), validation_data=validation(), **FIT)
        answers.append(
            {
                "stages": [(r.index, r.stage, r.plan) for r in found.results()],
                "sizes": [
                    trial.hyperparameters.values.get("eds/plan")
                    for trial in found.oracle.trials.values()
                ],
                "scores": [r.score for r in found.results()],
                "plans": found.get_best_plans(2),
                "best": found.get_best_models()[0].evaluate(*validation(), verbose=0),
            }
        )
    resumed, uninterrupted = answers
    assert [stage for _, stage, _ in resumed["stages"]] == STAGES_OF[name]
    assert resumed["stages"] == uninterrupted["stages"]
    assert resumed["sizes"] == uninterrupted["sizes"]
    assert resumed["plans"] == uninterrupted["plans"]
    assert resumed["scores"] == pytest.approx(uninterrupted["scores"], abs=1e-6)
    assert resumed["best"] == pytest.approx(uninterrupted["best"], abs=1e-6)
