from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import keras_eds
from keras_eds.errors import ProjectError
from keras_eds.tuners import SSEDSOracle

SCRIPT = Path(__file__).with_name("child_search.py")


def start(directory, port, tuner_id, **options):
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        "KERASTUNER_TUNER_ID": tuner_id,
    }
    role = "chief" if tuner_id == "chief" else "worker"
    arguments = [
        sys.executable,
        SCRIPT,
        directory,
        json.dumps({"role": role, **options}),
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, env=env, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def finish(processes):
    try:
        deadline = time.monotonic() + 150
        for process in processes:
            process.wait(max(1.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
        outputs = [process.communicate() for process in processes]
        print(*outputs, sep="\n")
    return outputs


def test_chief_and_two_workers(tmp_path, port):
    ids = ("chief", "tuner0", "tuner1")
    processes = [start(tmp_path / "shared", port, name) for name in ids]
    outputs = finish(processes)
    codes = [process.returncode for process in processes]
    assert codes == [0, 0, 0], outputs
    one, other = (json.loads(out.splitlines()[-1]) for out, _ in outputs[1:])
    assert one["stages"][:2] == ["pretrain", "probe"]
    assert sorted(one["stages"]) == ["pretrain", "probe", "retrain", "retrain"]
    # Both workers see the whole result.
    assert one["plans"] == other["plans"] and one["best"] == other["best"]
    alone = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "alone"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(alone.stdout.splitlines()[-1])
    assert sorted(answer["plans"]) == sorted(one["plans"])
    assert sorted(answer["scores"]) == pytest.approx(sorted(one["scores"]), abs=1e-6)


def test_failed_first_stage_ends_every_process(tmp_path, port):
    ids = ("chief", "tuner0")
    processes = [start(tmp_path, port, name, fail=True) for name in ids]
    outputs = finish(processes)
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 1, error
        assert "StageError" in error and "pretrain" in error and "disk" in error


def test_worker_waits_for_what_the_chief_is_writing(tmp_path):
    fields = [keras_eds.Field("user", 40, 8)]

    def oracle():
        made = SSEDSOracle(fields, 0.5, "val_auc", seed=1)
        made._set_project_dir(str(tmp_path), "p")
        made.verbose = 0
        return made

    chief, worker = oracle(), oracle()
    trial = chief.create_trial("tuner0")
    path = tmp_path / "p" / f"trial_{trial.trial_id}" / "trial.json"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ProjectError, match="trial.json"):
        worker.reload()
    late = threading.Timer(0.3, path.write_bytes, [content])
    late.start()
    worker.follow()
    late.join()
    assert list(worker.trials) == [trial.trial_id]


def test_idle_worker_does_not_ask_at_full_speed(tmp_path):
    oracle = SSEDSOracle([keras_eds.Field("user", 40, 8)], 0.5, "val_auc", seed=1)
    oracle._set_project_dir(str(tmp_path), "p")
    oracle.verbose = 0
    assert oracle.create_trial("tuner0").status == "RUNNING"
    began = time.monotonic()
    statuses = [oracle.create_trial("tuner1").status for _ in range(3)]
    assert statuses == ["IDLE"] * 3
    assert time.monotonic() - began >= 0.29
