"""CIESS with a chief and two workers, one of which is killed and comes back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from test_distributed_search import SCRIPT, finish, start
from test_distributed_search import port as port
from test_resume import OPTIONS_OF, STAGES_OF

OPTIONS = {"name": "ciess", "method": OPTIONS_OF["ciess"]}


def test_no_step_is_lost_when_a_worker_is_killed(tmp_path, port):
    shared = tmp_path / "shared"
    chief = start(shared, port, "chief", **OPTIONS)
    # In the first step: the full model's qualities were the first to be written.
    killed = start(shared, port, "tuner0", kill="write 2 qualities.npz", **OPTIONS)
    try:
        assert killed.wait(150) == -9
    finally:
        killed.kill()
        killed.communicate()
    workers = [start(shared, port, name, **OPTIONS) for name in ("tuner0", "tuner1")]
    outputs = finish([chief, *workers])
    assert [p.returncode for p in (chief, *workers)] == [0, 0, 0], outputs
    one, other = (json.loads(out.splitlines()[-1]) for out, _ in outputs[1:])
    assert sorted(one["stages"]) == sorted(STAGES_OF["ciess"])
    assert one["plans"] == other["plans"] and one["best"] == other["best"]
    alone = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "alone", json.dumps(OPTIONS)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(alone.stdout.splitlines()[-1])
    assert sorted(answer["plans"]) == sorted(one["plans"])
    assert sorted(answer["scores"]) == pytest.approx(sorted(one["scores"]), abs=1e-6)
