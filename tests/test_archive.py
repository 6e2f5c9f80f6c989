"""Files are written whole or not at all, and nothing beside them is touched."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_eds.archive import write_bytes

WRITERS = 4


def test_many_writers_and_a_reader_see_whole_files(tmp_path):
    path = tmp_path / "plan.npz"
    # Of different letters and lengths: no mixture is one of them.
    contents = [bytes([65 + n]) * (200_000 + n) for n in range(WRITERS)]
    write_bytes(path, contents[0])

    enough = threading.Event()

    def write(content):
        while not enough.is_set():
            write_bytes(path, content)

    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, content) for content in contents]
        try:
            seen = {path.read_bytes() for _ in range(500)}
        finally:
            enough.set()
    for writer in writers:
        writer.result()
    assert len(seen) > 1 and seen <= set(contents)
    assert os.listdir(tmp_path) == ["plan.npz"]


def test_other_files_stay(tmp_path):
    (tmp_path / "x.part").write_text("mine")
    write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert (tmp_path / "x.part").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["x", "x.part"]


def test_a_failure_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_bytes(tmp_path / "folder", b"new")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_bytes(tmp_path / "nowhere" / "x", b"new")
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(TypeError):
        write_bytes(tmp_path / "x", "no bytes")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["folder", "x"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(there, tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "x", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(target)
    write_bytes(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_that_open_gives(umask, tmp_path):
    def modes(write):
        write("new")
        (tmp_path / "old").write_bytes(b"")
        (tmp_path / "old").chmod(0o640)
        write("old")
        names = ("new", "old")
        found = [(tmp_path / name).stat().st_mode & 0o777 for name in names]
        for name in names:
            (tmp_path / name).unlink()
        return found

    before = os.umask(umask)
    try:
        expected = modes(lambda name: (tmp_path / name).write_bytes(b"new"))
        found = modes(lambda name: write_bytes(tmp_path / name, b"new"))
    finally:
        os.umask(before)
    assert found == expected == [0o666 & ~umask, 0o640]


def test_the_longest_name_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
