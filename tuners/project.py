"""What a project directory is for, so that another search does not resume it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_eds import archive
from keras_eds.budget import Budget
from keras_eds.errors import ProjectError
from keras_eds.field import Field
from keras_eds.methods import Method
from keras_eds.tuners.trial_files import read_json

_FILE = "eds_project.json"


def claim(
    folder: Path,
    model: Any,
    fields: Sequence[Field],
    budgets: Sequence[Budget],
    method: Method,
    overwrite: bool,
) -> None:
    """Writes down what the project is for, or checks that it is for the same.

    Raises:
        ProjectError: If the folder holds another search, or is damaged.
    """
    mine = _description(model, fields, budgets, method)
    path = folder / _FILE
    if overwrite or not path.exists():
        if not overwrite and (folder / "oracle.json").exists():
            raise ProjectError(
                "`directory` must be empty or hold a project of this library. "
                f"Received: {str(folder)!r}, a project of another tuner. Choose "
                "another project_name, or start anew with overwrite=True."
            )
        return
    theirs = read_json(path)
    different = sorted(key for key in mine if theirs.get(key) != mine[key])
    if different:
        raise ProjectError(
            "`directory` must hold a search of the same "
            f"{', '.join(different)}. Received: {str(folder)!r}, where "
            f"{_short(different[0], theirs)}, not {_short(different[0], mine)}. Choose "
            "another project_name, or start anew with overwrite=True."
        )
    for name in ("oracle.json", "tuner0.json"):
        if (folder / name).exists():
            read_json(folder / name)


def sign(
    folder: Path,
    model: Any,
    fields: Sequence[Field],
    budgets: Sequence[Budget],
    method: Method,
) -> None:
    """Writes down what the project is for."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_description(model, fields, budgets, method), indent=1)
    archive.write_bytes(folder / _FILE, text.encode())


def _description(
    model: Any,
    fields: Sequence[Field],
    budgets: Sequence[Budget],
    method: Method,
) -> dict[str, Any]:
    shapes = [list(v.shape) for v in model.weights]
    options = {k: v for k, v in vars(method).items() if not k.startswith("_")}
    return {
        "model": hashlib.sha256(repr(shapes).encode()).hexdigest()[:16],
        "fields": [[f.input_dim, f.output_dim] for f in fields],
        "budget": [budget.label for budget in budgets],
        "method": json.loads(json.dumps([method.name, options], default=repr)),
    }


def _short(key: str, description: dict[str, Any]) -> str:
    text = f"{key}={description.get(key)}"
    return text if len(text) < 120 else text[:117] + "..."
