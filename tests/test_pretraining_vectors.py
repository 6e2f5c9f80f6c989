"""Vectors from files, and vectors for new items."""

from __future__ import annotations

import doctest
import gzip
import struct

import numpy as np
import pytest

from keras_eds.errors import DataError
from keras_eds.pretraining import (
    mean_of_similar,
    new_items,
    read_vectors,
    vectors_from_content,
)

TEXT = b"3 2\n1193 0.5 -1\nThe Matrix 2e-1 3\n\xc3\xa9 4 5\n"
VALUES = {"1193": [0.5, -1], "The Matrix": [0.2, 3], "é": [4, 5]}


def write(folder, contents, name="vectors.txt"):
    path = folder / name
    path.write_bytes(contents)
    return path


def binary(entries, end=b""):
    head = f"{len(entries)} {len(entries[0][1])}\n".encode()
    packed = [
        token.encode() + b" " + struct.pack(f"<{len(v)}f", *v) + end
        for token, v in entries
    ]
    return head + b"".join(packed)


def assert_vectors(found, expected):
    assert list(found) == list(expected)
    for token, vector in expected.items():
        assert found[token].dtype == np.float32
        np.testing.assert_allclose(found[token], vector, rtol=1e-6)


def test_text(tmp_path):
    assert_vectors(read_vectors(write(tmp_path, TEXT)), VALUES)
    packed = write(tmp_path, gzip.compress(TEXT), "vectors.txt.gz")
    assert_vectors(read_vectors(packed), VALUES)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_binary(tmp_path, end):
    entries = [("a", [1.0, 2.0]), ("é", [-3.5, 0.25])]
    path = write(tmp_path, binary(entries, end))
    assert_vectors(read_vectors(path, binary=True), dict(entries))


@pytest.mark.parametrize("as_binary", [False, True])
def test_what_gensim_writes(tmp_path, as_binary):
    models = pytest.importorskip(
        "gensim.models", reason="gensim is not installed", exc_type=ImportError
    )
    words = models.KeyedVectors(3)
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    words.add_vectors(["10", "9", "b", "c"], vectors)
    path = tmp_path / "vectors"
    words.save_word2vec_format(path, binary=as_binary)
    expected = dict(zip(["10", "9", "b", "c"], vectors, strict=True))
    assert_vectors(read_vectors(path, as_binary), expected)


@pytest.mark.parametrize(
    ("contents", "as_binary", "message"),
    [
        (b"", False, "b'' as the first line"),
        (b"a 1 2\nb 3 4\n", False, "b'a 1 2.n' as the first line"),
        (b"0 2\n", False, "as the first line"),
        (b"2 2\na 1 2\n", False, "line 3 .* It is cut off"),
        (b"1 2\na 1\n", False, "line 2 without a token and 2 numbers"),
        (b"1 2\na 1 x\n", False, "line 2 without"),
        (b"2 1\na 1\na 2\n", False, "token 'a' twice"),
        (b"1 2\na 1 nan\n", False, "token 'a' that is not finite"),
        (binary([("a", [1.0, np.inf])]), True, "not finite"),
        (binary([("a", [1.0, 2.0])])[:-1], True, "entry 1 without"),
        (binary([("a", [1.0, 2.0])]).replace(b"1 ", b"2 ", 1), True, "cut off"),
        (b"2 2\na 1 2\nb 3 4\n", True, "entry 2 .* Pass binary=False"),
        (TEXT + b"more 1 2\n", False, "more than the 3 entries"),
        (b"1 2\n\xff 1 2\n", False, "line 2 .* Pass binary=True"),
    ],
)
def test_damaged_files_are_named(tmp_path, contents, as_binary, message):
    with pytest.raises(DataError, match=message):
        read_vectors(write(tmp_path, contents), as_binary)


PACKED = gzip.compress(TEXT)


@pytest.mark.parametrize(
    "contents",
    [TEXT, PACKED[:-9], PACKED[:14], PACKED[:20] + b"?" + PACKED[21:], PACKED + b"?"],
    ids=["not packed", "cut off", "nearly all cut off", "damaged", "with more"],
)
def test_damaged_gzip_files_are_named(tmp_path, contents):
    with pytest.raises(DataError, match="v.gz with .*"):
        read_vectors(write(tmp_path, contents, "v.gz"))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_vectors(tmp_path / "nothing.txt")


def test_mean_of_similar_items():
    random = np.random.default_rng(0)
    vectors, similar = random.normal(size=(9, 4)), random.integers(0, 9, (5, 3))
    weights = random.random((5, 3))
    plain, weighted = (mean_of_similar(vectors, similar, w) for w in (None, weights))
    for item in range(5):
        rows = vectors[similar[item]]
        np.testing.assert_allclose(plain[item], rows.mean(axis=0), rtol=1e-5)
        mean = np.average(rows, axis=0, weights=weights[item])
        np.testing.assert_allclose(weighted[item], mean, rtol=1e-5)
    weights[:, 1:] = 0.0
    alone = mean_of_similar(vectors, similar, weights)
    np.testing.assert_allclose(alone, vectors[similar[:, 0]], rtol=1e-5)


def test_content_finds_vectors_that_depend_on_it():
    random = np.random.default_rng(0)
    content, mapping = random.normal(size=(300, 6)), random.normal(size=(6, 4))
    vectors = content @ mapping + 2.0 + 0.01 * random.normal(size=(300, 4))
    new = random.normal(size=(20, 6))
    found = vectors_from_content(vectors, content, new)
    assert found.shape == (20, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found, new @ mapping + 2.0, atol=0.02)


def test_content_that_says_nothing_gives_the_weighted_mean():
    random = np.random.default_rng(1)
    vectors, weights = random.normal(size=(400, 1)), random.integers(1, 50, 400)
    found = vectors_from_content(vectors, np.zeros((400, 2)), np.ones((1, 2)), weights)
    assert found.shape == (1, 1)
    expected = np.average(vectors, axis=0, weights=weights)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: mean_of_similar([[np.nan]], [0]), "`vectors` must be a matrix"),
        (lambda v: mean_of_similar(v, [3]), "from 0 to 2"),
        (lambda v: mean_of_similar(v, [-1]), "from 0 to 2"),
        (lambda v: mean_of_similar(v, []), "at least one for each new item"),
        (lambda v: mean_of_similar(v, [0.5]), "dtype float64"),
        (lambda v: mean_of_similar(v, [0, 1], [1]), r"shape \(2,\). Received"),
        (lambda v: mean_of_similar(v, [0, 1], [1, -1]), "at least 0"),
        (lambda v: mean_of_similar(v, [0, 1], [0, 0]), "sum above 0"),
        (lambda v: vectors_from_content(v, v[:2], v), "a row for each"),
        (lambda v: vectors_from_content(v[:1], v[:1], v), "at least 2 items"),
        (lambda v: vectors_from_content(v, v, v[:, :1]), "the features of"),
        (lambda v: vectors_from_content(v, v, [["a"]]), "`new_content` must be"),
        (lambda v: vectors_from_content(v, v, v, [1, 1, -1]), "least -1.*sum 1"),
        (lambda v: vectors_from_content(v, v, v, [0, 0, 0]), "least 0.*sum 0"),
        (lambda v: vectors_from_content(v, v, v, 2.0), r"shape \(\)"),
        (lambda v: vectors_from_content(v, v, v, [[1], [1], [1]]), r"shape \(3, 1\)"),
        (lambda v: vectors_from_content(v, v, v, ["a", 1, 1]), "`weights` must be"),
        (lambda v: mean_of_similar(v, [0, 1], ["a", "b"]), "`weights` must be"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call(np.arange(6.0).reshape(3, 2))


def test_docstring_examples_run():
    results = doctest.testmod(new_items)
    assert results.attempted and not results.failed
