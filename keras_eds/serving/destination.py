"""Writes a file or a folder whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_free(path: Path, overwrite: bool, folder: bool) -> None:
    """Refuses a place where something stands that may not be replaced.

    Raises:
        FileExistsError: If something is there and `overwrite` is not set, or it is
            nothing that an export has written.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(
            f"`path` must be free. Received: path={str(path)!r}, which exists. Pass "
            "overwrite=True to replace it, or choose another path."
        )
    if path.is_dir() and not folder:
        reason = "is a folder, where the format is one file"
    elif path.is_dir() and any(path.iterdir()) and not _is_saved_model(path):
        reason = "is a folder that holds other things than a SavedModel"
    elif folder and not path.is_dir():
        reason = "is a file, where the format is a folder"
    else:
        return
    raise FileExistsError(
        f"`path` must be an earlier export for overwrite=True. Received: "
        f"path={str(path)!r}, which {reason}. Choose another path."
    )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        # Not `work` itself: that is for nobody else to read.
        yield work / "new"
        _put(work / "new", path, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put(new: Path, path: Path, aside: Path) -> None:
    if not path.is_dir():
        os.replace(new, path)
        return
    # A folder cannot be replaced in one step.
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(aside, path)
        raise


def _is_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").exists()
