"""What a project directory is for, so that another search does not resume it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from keras_eds import archive
from keras_eds.errors import ProjectError
from keras_eds.tuners.oracle import EDSOracle
from keras_eds.tuners.trial_files import read_json

_FILE = "eds_project.json"


def purpose(model: Any, oracle: EDSOracle) -> dict[str, Any]:
    """What a search is for."""
    shapes = [list(v.shape) for v in model.weights]
    options = {k: v for k, v in vars(oracle.method).items() if not k.startswith("_")}
    method = [oracle.method.name, options]
    return {
        "model": hashlib.sha256(repr(shapes).encode()).hexdigest()[:16],
        "fields": [[f.input_dim, f.output_dim] for f in oracle.fields],
        "quantize": any(field.quantized for field in oracle.fields),
        "budget": [repr(budget) for budget in oracle.budgets],
        "method": json.loads(json.dumps(method, default=repr)),
        "objective": [oracle.objective.name, oracle.objective.direction],
    }


def claim(
    folder: Path, mine: dict[str, Any], overwrite: bool, joins: bool = False
) -> None:
    """Checks that a folder is free, or for the same purpose.

    It is free as long as no stage has ended there, but for a worker, which `joins`.

    Raises:
        ProjectError: If the folder holds another search, or is damaged.
    """
    path = folder / _FILE
    if overwrite:
        return
    if not path.exists():
        if (folder / "oracle.json").exists():
            raise ProjectError(
                "`directory` must be empty or hold a project of this library. "
                f"Received: {str(folder)!r}, a project of another tuner. Choose "
                "another project_name, or start anew with overwrite=True."
            )
        return
    theirs = read_json(path)
    different = sorted(key for key in mine if theirs.get(key) != mine[key])
    if different and (joins or has_ended_trials(folder)):
        raise ProjectError(
            "`directory` must hold a search of the same "
            f"{', '.join(different)}. Received: {str(folder)!r}, where "
            f"{_shown(different[0], theirs, mine)}, "
            f"not {_shown(different[0], mine, theirs)}. Choose "
            "another project_name, or start anew with overwrite=True."
        )
    for file in folder.glob("*.json"):
        read_json(file)


def has_ended_trials(folder: Path) -> bool:
    """Whether a search in this folder has got anywhere."""
    path = folder / "oracle.json"
    return path.exists() and bool(read_json(path).get("end_order"))


def sign(folder: Path, mine: dict[str, Any]) -> None:
    """Writes down what the project is for."""
    folder.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(folder / _FILE, json.dumps(mine, indent=1).encode())


def _shown(key: str, description: dict[str, Any], other: dict[str, Any]) -> str:
    """What is said under `key`; of a method's options those that differ."""
    value, against = description.get(key), other.get(key)
    if key == "method" and value and against and value[0] == against[0]:
        options = {k: v for k, v in value[1].items() if against[1].get(k) != v}
        value = [value[0], options]
    text = f"{key}={value}"
    return text if len(text) < 120 else text[:117] + "..."
