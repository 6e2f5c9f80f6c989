"""Where a data set may lie on this machine."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

# What readers raise for text that is not theirs, and for damaged archives.
UNREADABLE = (ValueError, EOFError, gzip.BadGzipFile, zlib.error)


def find_data(
    name: str,
    path: str | os.PathLike[str] | None,
    filenames: Sequence[str],
    advice: str,
) -> Path:
    """Find the first of `filenames` that exists.

    Looked at, in this order: `path` (a file, or a folder that holds one of
    the files) and nothing else if it is given; the folder `name` in the
    folder that the environment variable `KERAS_EDS_DATA` names; the folder
    `shared/data/<name>` beside a checkout of this library.

    Args:
        name: Folder name of the data set, such as `"criteo"`.
        path: The user's own file or folder, or `None`.
        filenames: Accepted file names, the best first.
        advice: How to get the data: the end of the error message.

    Raises:
        FileNotFoundError: If none is there; names every place looked at.

    Example:

    >>> find_data("nothing", "/no/such/place", ["a.csv"], "Write one.")
    Traceback (most recent call last):
    FileNotFoundError: No nothing data. Looked for a.csv in: /no/such/place. Write one.
    """
    places = [Path(path)] if path is not None else _default_places(name)
    for place in places:
        if place.is_file():
            return place
        for filename in filenames:
            if (place / filename).is_file():
                return place / filename
    looked = ", ".join(str(place) for place in places) or "nowhere"
    if path is None and "KERAS_EDS_DATA" not in os.environ:
        looked += " (the environment variable KERAS_EDS_DATA is not set)"
    raise FileNotFoundError(
        f"No {name} data. Looked for {' or '.join(filenames)} in: {looked}. {advice}"
    )


def _default_places(name: str) -> list[Path]:
    places = []
    if "KERAS_EDS_DATA" in os.environ:
        places.append(Path(os.environ["KERAS_EDS_DATA"]) / name)
    root = Path(__file__).resolve().parents[2]
    # An installed package has no pyproject.toml two levels up; a checkout has.
    if (root / "pyproject.toml").is_file():
        places.append(root.parent / "shared" / "data" / name)
    return places
