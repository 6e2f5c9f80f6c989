"""Files of named arrays with a checksum, written at once and without pickle."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from keras_eds.arrays import as_array
from keras_eds.errors import PlanError

_VERSION = 1


def write(
    path: str | Path, kind: str, meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Writes `meta` (plain JSON values) and `arrays` to `path`, all or nothing."""
    arrays = {name: as_array(array) for name, array in arrays.items()}
    header = {"kind": kind, "version": _VERSION, "meta": meta}
    header["checksum"] = _checksum(arrays)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    named: dict[str, Any] = {f"data/{name}": array for name, array in arrays.items()}
    np.savez(buffer, header=text, **named)
    write_bytes(path, buffer.getvalue())


def read(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what `write` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        PlanError: If the file is damaged, or of another kind.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"`path` must exist. Received: path={str(path)!r}.")
    try:
        # From memory: NumPy leaves a damaged file open.
        content = io.BytesIO(Path(path).read_bytes())
        with np.load(content, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]).decode())
            names = [name for name in file.files if name.startswith("data/")]
            arrays = {name.removeprefix("data/"): file[name] for name in names}
        whole = header["checksum"] == _checksum(arrays)
    except Exception as error:  # A damaged zip file fails in many ways.
        raise PlanError(_damaged(path, kind)) from error
    if header.get("kind") != kind or header.get("version") != _VERSION or not whole:
        raise PlanError(_damaged(path, kind))
    return header["meta"], arrays


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old or the new one, never a part.

    A link stays one, and a file that is replaced keeps its permissions.
    """
    path = Path(os.path.realpath(path))
    # Each writer has its own; a long name must leave room for the rest.
    temporary = path.with_name(f"{path.name[:50]}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "xb") as file:
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(path, temporary)
            file.write(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    text = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        text.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return text.hexdigest()


def _damaged(path: str | Path, kind: str) -> str:
    return (
        f"`path` must be a whole {kind} file. Received: path={str(path)!r}, which is "
        "damaged, truncated or of another kind. Write it again."
    )
