"""Runs a search in a process of its own; prints plans and scores as JSON.

    child_search.py DIRECTORY [OPTIONS]

OPTIONS is JSON: `name`, the method's, and `method`, its arguments; `kill`, the point
to die at (see `arm`); `fail`, to fail in every training; `role`, `"chief"` for the
process that trains nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import keras
from search_setup import FIT, build, data, search, validation

from keras_eds import archive, methods
from keras_eds.tuners import stage as stages


def die(*_args, **_kwargs):
    """What `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


class DieInEpoch(keras.callbacks.Callback):
    """Dies in the middle of the given training of this process."""

    trainings = 0

    def __init__(self, training):
        super().__init__()
        self.training = training

    def on_train_begin(self, logs=None):
        DieInEpoch.trainings += 1

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2 and DieInEpoch.trainings == self.training:
            die()


class Fail(keras.callbacks.Callback):
    """Fails in every training."""

    def on_train_begin(self, logs=None):
        raise OSError("the disk is full")


def arm(point):
    """Makes the process die at `point`."""
    if point.startswith("training "):
        return [DieInEpoch(int(point.split()[1]))]
    if point == "probe":
        measured, stages.measure = (
            stages.measure,
            lambda *a, **k: die(measured(*a, **k)),
        )
    if point.startswith(("write ", "after ")):
        die_while_writing(point)
    if point.startswith("weights "):
        die_while_saving(point.removeprefix("weights "))
    return []


def die_while_writing(point):
    """`write 3 oracle.json`: half of the third one is on disk; `after`: all of it."""
    moment, number, name = point.split()
    seen = 0

    def write(path, content):
        nonlocal seen
        path = Path(path)
        if path.name != name:
            return whole(path, content)
        seen += 1
        if seen == int(number) and moment == "write":
            half = content[: len(content) // 2]
            path.with_name(path.name + ".part").write_bytes(half)
            die()
        whole(path, content)
        if seen == int(number):
            die()

    whole, archive.write_bytes = archive.write_bytes, write


def die_while_saving(name):
    """Dies with half of a weights or model file on disk."""
    rename = Path.replace

    def replace(self, target):
        if Path(target).name == name:
            content = self.read_bytes()
            self.write_bytes(content[: len(content) // 2])
            die()
        return rename(self, target)

    Path.replace = replace


def main():
    directory, options = sys.argv[1], json.loads((sys.argv[2:] or ["{}"])[0])
    method = methods.METHODS[options.get("name", "sseds")](**options.get("method", {}))
    callbacks = arm(options.get("kill", "")) + [Fail()] * bool(options.get("fail"))
    found = search(directory, build, [0.5, 0.25], method=method)
    x, y = data()
    fit = {**FIT, "validation_data": validation(), "callbacks": callbacks}
    found.search(x, y, **fit)
    if options.get("role") == "chief":
        return
    results = found.results()
    answer = {
        "plans": [plan.digest() for plan in found.get_best_plans(2)],
        "stages": [result.stage for result in results],
        "scores": [result.score for result in results],
        "best": found.get_best_models()[0].evaluate(*validation(), verbose=0)[1],
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
