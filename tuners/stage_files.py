"""A folder of its own for what a callback writes in each stage of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras


def write_apart(callback: Any, name: str) -> None:
    """Lets a callback write below a folder `name`, beside what it was told.

    Stages that write to one file would overwrite each other: a `ModelCheckpoint`
    would leave a small model where the full one was. `logs` of a `TensorBoard` and
    the `backup_dir` of a `BackupAndRestore` become `logs/name`; `runs/best.keras` of
    a `ModelCheckpoint` or the file of a `CSVLogger` becomes `runs/name/best.keras`.

    Args:
        callback: A callback of one stage; others stay as they are.
        name: The stage.
    """
    if isinstance(callback, keras.callbacks.TensorBoard):
        callback.log_dir = str(Path(callback.log_dir) / name)
    elif isinstance(callback, keras.callbacks.ModelCheckpoint):
        callback.filepath = _below(callback.filepath, name)
    elif isinstance(callback, keras.callbacks.CSVLogger):
        callback.filename = _below(callback.filename, name)
    elif isinstance(callback, keras.callbacks.BackupAndRestore):
        old = str(callback.backup_dir)
        # The names of all its files are made when it is.
        for key, value in vars(callback).items():
            if isinstance(value, str | Path) and str(value).startswith(old):
                setattr(callback, key, str(Path(old) / name) + str(value)[len(old) :])


def _below(file: str, name: str) -> str:
    path = Path(file)
    folder = path.parent / name
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / path.name)
