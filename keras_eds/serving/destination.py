"""Writes a file or a folder whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What TensorFlow puts into the folder of a SavedModel.
_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}


def check_free(path: Path, overwrite: bool, folder: bool) -> None:
    """Refuses a place where something stands that may not be replaced.

    Raises:
        FileExistsError: If something is there and `overwrite` is not set, or it is
            nothing that an export has written; or if a file stands where a folder
            on the way should be.
    """
    above = next((p for p in path.parents if p.exists() and not p.is_dir()), None)
    if above is not None:
        raise FileExistsError(
            f"`path` must be in a folder. Received: path={str(path)!r}, where "
            f"{str(above)!r} is a file. Choose another path."
        )
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(
            f"`path` must be free. Received: path={str(path)!r}, which exists. Pass "
            "overwrite=True to replace it, or choose another path."
        )
    if path.is_dir() and not folder:
        reason = "is a folder, where the format is one file"
    elif path.is_dir() and not _is_saved_model(path):
        reason = "is a folder that holds other things than a SavedModel"
    elif folder and not path.is_dir():
        reason = "is a file, where the format is a folder"
    elif not path.is_dir() and not _is_exported_file(path):
        reason = "is a file of another kind"
    else:
        return
    raise FileExistsError(
        f"`path` must be an earlier export for overwrite=True. Received: "
        f"path={str(path)!r}, which {reason}. Choose another path."
    )


def _is_saved_model(path: Path) -> bool:
    """Whether the folder holds one and nothing else, or nothing at all."""
    names = {entry.name for entry in path.iterdir()}
    return not names or "saved_model.pb" in names <= _SAVED_MODEL


def _is_exported_file(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(64)
    # LiteRT's identifier; the name of the only writer of ONNX here.
    return head[4:8] == b"TFL3" or b"tf2onnx" in head


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes `path` when all went well."""
    new_folders = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        # Not `work` itself: that is for nobody else to read.
        yield work / "new"
        _put(work / "new", path, work / "old")
    finally:
        # What was there before is never deleted before the new one stands.
        if path.exists() or not os.path.lexists(work / "old"):
            shutil.rmtree(work, ignore_errors=True)
        for folder in new_folders:
            with suppress(OSError):  # it holds the export
                folder.rmdir()


def _put(new: Path, path: Path, aside: Path) -> None:
    if not path.is_dir():
        os.replace(new, path)
        return
    # A folder cannot be replaced in one step.
    try:
        os.replace(path, aside)
        os.replace(new, path)
    except BaseException:  # Ctrl-C, too
        if not os.path.lexists(path):
            os.replace(aside, path)
        raise
