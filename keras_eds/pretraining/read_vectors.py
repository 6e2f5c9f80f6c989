"""Reads vectors in the format of word2vec, which most tools can write."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_eds.errors import DataError


def read_vectors(
    path: str | os.PathLike[str], binary: bool = False
) -> dict[str, np.ndarray]:
    """Reads vectors by token from a file in word2vec's format.

    The first line is `<number of tokens> <width>`. As text, every further line is
    `<token> <number> ... <number>`; binary, every token is followed by a blank and
    its numbers as little-endian float32. Gensim's `save_word2vec_format`, word2vec,
    fastText and most libraries for walks on graphs write it.

    Args:
        path: The file; `.gz` is unpacked.
        binary: Whether the numbers are binary. Defaults to `False`: text.

    Returns:
        A float32 vector of the file's width by token, in the file's order.

    Raises:
        DataError: If the file is not in this format, is cut off, names a token
            twice or holds a number that is not finite.
        FileNotFoundError: If there is no such file.

    Example:

    >>> vectors = keras_eds.pretraining.read_vectors("item2vec.txt")
    >>> keras_eds.load_tables(model, {"movie": vectors}, ids={"movie": vocabulary})
    """
    path = Path(path)
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    try:
        with opened as file:
            return _read(file, binary, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        what = f"a .gz that cannot be unpacked ({error})"
        raise _damaged(path, what, "Pack it again, or drop the ending") from error


def _read(file: Any, binary: bool, path: Path) -> dict[str, np.ndarray]:
    number, width = _header(file, path)
    lines = _binary if binary else _text
    vectors = {}
    for token, values in lines(file, number, width, path):
        if token in vectors:
            raise _damaged(path, f"token {token!r} twice", "Keep one of them")
        if not np.isfinite(values).all():
            what = f"a value of token {token!r} that is not finite"
            raise _damaged(path, what, "Drop the token or learn it again")
        vectors[token] = values
    if file.read(64).strip():
        what = f"more than the {number} entries of its first line"
        raise _damaged(path, what, "Correct that, or pass the other `binary`")
    return vectors


def _header(file: Any, path: Path) -> tuple[int, int]:
    line = file.readline(64)
    numbers = line.split()
    if len(numbers) != 2 or not all(n.isdigit() and int(n) for n in numbers):
        what = f"{line[:40]!r} as the first line"
        raise _damaged(path, what, "Put `<number of tokens> <width>` before the first")
    return int(numbers[0]), int(numbers[1])


def _text(
    file: Any, number: int, width: int, path: Path
) -> Iterator[tuple[str, np.ndarray]]:
    for index in range(number):
        line = file.readline()
        # A token may hold blanks; numbers cannot.
        token, *numbers = line.rstrip().rsplit(b" ", width)
        try:
            values = np.array(numbers, "float32")
            text = token.decode()
        except ValueError:
            values, text = np.zeros(0), ""
        if len(values) != width or not text:
            what = f"line {index + 2} without a token and {width} numbers"
            raise _damaged(path, what, _remedy(line, "Pass binary=True if it is"))
        yield text, values


def _binary(
    file: Any, number: int, width: int, path: Path
) -> Iterator[tuple[str, np.ndarray]]:
    for index in range(number):
        token = b"".join(iter(lambda: file.read(1).replace(b" ", b""), b""))
        numbers = file.read(4 * width)
        try:
            # Some tools end every entry with a line break, some do not.
            text = token.lstrip(b"\n").decode()
        except ValueError:
            text = ""
        if len(numbers) != 4 * width or not text:
            what = f"entry {index + 1} without a token and {width} numbers"
            raise _damaged(
                path, what, _remedy(token, "Pass binary=False if it is text")
            )
        yield text, np.frombuffer(numbers, "<f4").astype("float32")


def _remedy(read: bytes, advice: str) -> str:
    return advice if read else "It is cut off: write it again"


def _damaged(path: Path, what: str, remedy: str) -> DataError:
    return DataError(
        f"`path` must be a file in word2vec's format. Received: {path} with {what}. "
        f"{remedy}."
    )
