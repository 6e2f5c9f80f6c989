from __future__ import annotations

import doctest
import gzip
import importlib
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from keras_eds.datasets import (
    find_data,
    load_avazu,
    load_criteo,
    load_movielens_1m,
    make_planted,
)
from keras_eds.datasets.criteo import bucket
from keras_eds.datasets.dataset import split_rows
from keras_eds.datasets.vocabulary import encode
from keras_eds.errors import DataError
from keras_eds.models import FM

RATINGS = """1::10::5::100
1::20::3::300
2::10::4::200
3::30::1::500
2::20::2::400
"""
USERS = """1::F::1::10::48067
2::M::56::16::70072-1234
3::M::25::15::48099
"""
MOVIES = """10::Toy Story (1995)::Animation|Comedy
20::Star Wars: Episode VI (1983)::Action
30::Mis\xe9rables, Les (1995)::Drama|Action|War
"""
MODULES = ["criteo", "dataset", "find_data", "planted", "vocabulary"]


@pytest.fixture
def movielens(tmp_path):
    (tmp_path / "ratings.dat").write_text(RATINGS)
    (tmp_path / "users.dat").write_text(USERS)
    (tmp_path / "movies.dat").write_bytes(MOVIES.encode("latin-1"))
    return tmp_path


def whole(dataset, name):
    parts = (dataset.train, dataset.validation, dataset.test)
    return np.concatenate([x[name] for x, _ in parts])


def labels(dataset):
    parts = (dataset.train, dataset.validation, dataset.test)
    return np.concatenate([y for _, y in parts])


def check_form(dataset):
    assert list(dataset.train[0]) == [field.name for field in dataset.fields]
    for x, y in (dataset.train, dataset.validation, dataset.test):
        assert y.dtype == "float32"
        assert set(np.unique(y)) <= {0.0, 1.0}
        for field in dataset.fields:
            ids = x[field.name]
            assert ids.dtype == "int32"
            assert ids.ndim == (2 if field.multi_hot else 1)
            assert len(ids) == len(y)
            assert 0 <= ids.min() <= ids.max() < field.vocabulary_size
    for field in dataset.fields:
        seen = np.unique(dataset.train[0][field.name])
        assert set(range(1, field.vocabulary_size)) <= set(seen.tolist())


# --- places -----------------------------------------------------------------


def test_given_path_is_the_only_place(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "a.csv").write_text("")
    monkeypatch.setenv("KERAS_EDS_DATA", str(tmp_path))
    assert find_data("toy", None, ["a.csv"], "") == tmp_path / "toy" / "a.csv"
    assert find_data("toy", tmp_path / "toy", ["b", "a.csv"], "").name == "a.csv"
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        find_data("toy", tmp_path / "elsewhere", ["a.csv"], "")


def test_missing_data_names_places_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_EDS_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Write one") as error:
        find_data("toy", None, ["a.csv"], "Write one.")
    assert str(tmp_path / "toy") in str(error.value)
    assert str(Path("shared", "data", "toy")) in str(error.value)


@pytest.mark.parametrize(
    ("load", "remedy"),
    [(load_criteo, "Kaggle"), (load_avazu, "Kaggle"), (load_movielens_1m, "grouplens")],
)
def test_loaders_say_how_to_get_the_data(load, remedy, tmp_path):
    with pytest.raises(FileNotFoundError, match=remedy):
        load(tmp_path / "nowhere")


# --- rows and ids -----------------------------------------------------------


def test_random_split_deals_every_row_once():
    parts = split_rows(100, "random", (0.8, 0.1, 0.1), seed=0)
    assert [len(part) for part in parts] == [80, 10, 10]
    joined = np.concatenate(parts)
    assert sorted(joined) == list(range(100)) != joined.tolist()
    again = split_rows(100, "random", (0.8, 0.1, 0.1), seed=0)
    other = split_rows(100, "random", (0.8, 0.1, 0.1), seed=1)
    assert (again[0] == parts[0]).all()
    assert (other[0] != parts[0]).any()


@pytest.mark.parametrize(
    ("split", "fractions", "message"),
    [
        ("user", (0.8, 0.1, 0.1), "split='user'"),
        ("time", (0.8, 0.2), "fractions="),
        ("time", (0.8, 0.1, 0.2), "fractions="),
        ("time", (1.0, 0.1, -0.1), "fractions="),
        ("time", (0.98, 0.01, 0.01), "10 rows"),
    ],
)
def test_bad_split_is_refused(split, fractions, message):
    with pytest.raises(ValueError, match=message):
        split_rows(10, split, fractions, 0)


def test_rare_and_unseen_values_become_zero():
    values = ["a", "b", "a", None, None, "c", "b"]
    ids, size = encode(values, np.arange(5), min_count=2)
    assert ids.tolist() == [1, 0, 1, 2, 2, 0, 0]
    assert size == 3


def test_log_buckets():
    x = np.array([np.nan, -1, -7, 0, 1, 2, 3, 4, 7, 8, 1e6])
    expected = [-2, -1, -1, 0, 1, 2] + [
        int(np.log(v) ** 2) + 2 for v in (3, 4, 7, 8, 1e6)
    ]
    assert bucket(x, np.arange(11), "log").tolist() == expected


def test_quantile_buckets_come_from_training():
    x = np.array([np.nan, -5.0, *range(100), *range(5000, 5100)])
    result = bucket(x, np.arange(102), 4)
    assert result[:2].tolist() == [-2, -1]
    assert np.bincount(result[2:102]).tolist() == [25, 25, 25, 25]
    assert set(result[102:]) == {3}


# --- MovieLens --------------------------------------------------------------


def test_movielens_fields(movielens):
    thirds = (0.6, 0.2, 0.2)
    dataset = load_movielens_1m(movielens, split="time", fractions=thirds)
    check_form(dataset)
    names = "user movie gender age occupation zip year genres"
    assert [field.name for field in dataset.fields] == names.split()
    # By time: 1 and 2 like 10, 1 sees 20, 2 sees 20, 3 sees 30.
    assert labels(dataset).tolist() == [1, 1, 0, 0, 0]
    assert whole(dataset, "user").tolist() == [1, 2, 1, 2, 0]
    assert whole(dataset, "movie").tolist() == [1, 1, 2, 2, 0]
    assert whole(dataset, "gender").tolist() == [1, 2, 1, 2, 2]
    # 48099 is in the region of 48067, and its film of the year 1995.
    assert whole(dataset, "zip").tolist() == [1, 2, 1, 2, 1]
    assert whole(dataset, "year").tolist() == [1, 1, 2, 2, 1]
    # Action 1, Animation 2, Comedy 3; Drama and War are not in training.
    genres = [[2, 3, 0], [2, 3, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert whole(dataset, "genres").tolist() == genres


def test_movielens_threshold(movielens):
    dataset = load_movielens_1m(movielens, threshold=3, fractions=(0.6, 0.2, 0.2))
    assert labels(dataset).sum() == 3


def test_movielens_without_timestamps(movielens):
    text = RATINGS.replace("::300", "::")
    (movielens / "ratings.dat").unlink()
    with gzip.open(movielens / "ratings.dat.gz", "wt") as file:
        file.write(text)
    thirds = (0.6, 0.2, 0.2)
    check_form(load_movielens_1m(movielens, fractions=thirds))
    with pytest.raises(DataError, match="1 of 5 ratings"):
        load_movielens_1m(movielens, split="time", fractions=thirds)


def make_archive(folder):
    with zipfile.ZipFile(folder / "ml-1m.zip", "w") as archive:
        for name in ("ratings.dat", "users.dat", "movies.dat"):
            archive.write(folder / name, f"ml-1m/{name}")
    return folder / "ml-1m.zip"


def test_movielens_archive_is_the_same_as_the_folder(movielens):
    thirds = (0.6, 0.2, 0.2)
    dataset = load_movielens_1m(make_archive(movielens), fractions=thirds)
    expected = load_movielens_1m(movielens, fractions=thirds)
    assert dataset.fields == expected.fields
    for field in dataset.fields:
        a, b = whole(dataset, field.name), whole(expected, field.name)
        np.testing.assert_array_equal(a, b)


def test_movielens_is_downloaded_when_found_nowhere(movielens, monkeypatch):
    archive = make_archive(movielens)
    asked = {}

    def get_file(fname, origin, **kwargs):
        asked.update(kwargs, fname=fname, origin=origin)
        return str(archive)

    def nowhere(*args):
        raise FileNotFoundError("nowhere")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    monkeypatch.setattr("keras_eds.datasets.movielens_1m.find_data", nowhere)
    check_form(load_movielens_1m(fractions=(0.6, 0.2, 0.2)))
    assert asked["origin"].endswith("/ml-1m.zip")
    with pytest.raises(FileNotFoundError):
        load_movielens_1m(download=False)


def test_movielens_of_another_format_is_refused(movielens):
    (movielens / "ratings.dat").write_text("user,movie,rating\n1,2,3\n")
    with pytest.raises(DataError, match="user::movie::rating"):
        load_movielens_1m(movielens)


def test_movielens_files_must_belong_together(movielens):
    (movielens / "users.dat").write_text(USERS.splitlines()[0] + "\n")
    with pytest.raises(DataError, match="unknown user"):
        load_movielens_1m(movielens, fractions=(0.6, 0.2, 0.2))


def damage(folder, name, how):
    if how == "gone":
        (folder / name).unlink()
    elif isinstance(how, bytes):
        (folder / name).write_bytes(how)
    else:
        first, rest = (folder / name).read_text("latin-1").split("\n", 1)
        (folder / name).write_text(f"{how(first)}\n{rest}", "latin-1")


def drop_last(line):
    return line.rpartition("::")[0]


DAMAGES = {
    "no users": ("users.dat", "gone"),
    "user cut off": ("users.dat", drop_last),
    "user without age": ("users.dat", lambda line: line.replace("::10::", "::::")),
    "user twice": ("users.dat", lambda line: f"{line}\n{line}"),
    "user of letters": ("users.dat", lambda line: "x" + line),
    "users with commas": ("users.dat", b"user,gender\n1,F\n"),
    "no movies": ("movies.dat", "gone"),
    "movie cut off": ("movies.dat", drop_last),
    "movie twice": ("movies.dat", lambda line: f"{line}\n{line}"),
    "movie of letters": ("movies.dat", lambda line: "x" + line),
    "rating cut off": ("ratings.dat", lambda line: "1::10"),
    "gzipped ratings": ("ratings.dat", gzip.compress(RATINGS.encode())),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("name", "how"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_movielens_file_is_named(name, how, zipped, movielens):
    if zipped:
        path = make_archive(movielens)
        with zipfile.ZipFile(path) as archive:
            archive.extractall(movielens)
        damage(movielens / "ml-1m", name, how)
        with zipfile.ZipFile(path, "w") as archive:
            for file in (movielens / "ml-1m").iterdir():
                archive.write(file, f"ml-1m/{file.name}")
    else:
        path = movielens
        damage(path, name, how)
    with pytest.raises(DataError, match=f"{name} must be there with lines"):
        load_movielens_1m(path, fractions=(0.6, 0.2, 0.2))


def test_another_or_a_broken_archive_is_refused(movielens):
    path = make_archive(movielens)
    whole_archive = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "another")
    other = path.read_bytes()
    for content in (b"<html>", b"", whole_archive[:-30], other):
        path.write_bytes(content)
        with pytest.raises(DataError, match="ratings.dat must be there.*zip file"):
            load_movielens_1m(path)
    (movielens / "ratings.dat").unlink()
    packed = gzip.compress(RATINGS.encode())
    for content in (b"1::10::5::100", packed[:-20], packed[:10] + b"\xff" * 30):
        (movielens / "ratings.dat.gz").write_bytes(content)
        with pytest.raises(DataError, match="ratings.dat must be there"):
            load_movielens_1m(movielens / "ratings.dat.gz")


def need(load, **kwargs):
    try:
        return load(**kwargs)
    except FileNotFoundError as error:
        pytest.skip(f"needs the real data: {error}")


def test_real_movielens_counts():
    dataset = need(load_movielens_1m, download=False)
    check_form(dataset)
    y = labels(dataset)
    assert len(y) == 1_000_209
    # Ratings of 4 and 5 stars in the published distribution.
    assert y.sum() == 348_971 + 226_310
    sizes = {field.name: field.vocabulary_size for field in dataset.fields}
    assert sizes["user"] == 6040 + 1
    assert sizes["gender"] == 2 + 1
    assert sizes["genres"] == 18 + 1
    assert 3600 < sizes["movie"] <= 3706 + 1


# --- Criteo -----------------------------------------------------------------


def criteo_rows():
    """Ten rows: I1 is 0..9, I2 missing, C1 a or b, C2 different each time."""
    rows = []
    for i in range(10):
        integers = [str(i), "", "-1", *["7"] * 10]
        categories = ["a" if i % 2 else "b", f"x{i}", "", *["c"] * 23]
        rows.append([str(i % 2), *integers, *categories])
    return rows


def write_criteo(path, separator, header):
    names = ["label", *(f"I{i}" for i in range(1, 14))]
    names += [f"C{i}" for i in range(1, 27)]
    rows = [names, *criteo_rows()] if header else criteo_rows()
    text = "".join(separator.join(row) + "\n" for row in rows)
    opened = gzip.open(path, "wt") if path.suffix == ".gz" else open(path, "w")
    with opened as file:
        file.write(text)


@pytest.mark.parametrize(
    ("filename", "separator", "header"),
    [
        ("train.txt", "\t", False),
        ("dac_sample.txt.gz", "\t", False),
        ("criteo_dac_sample_80k.csv.gz", ",", True),
    ],
)
def test_criteo_formats(tmp_path, filename, separator, header):
    write_criteo(tmp_path / filename, separator, header)
    dataset = load_criteo(tmp_path)
    check_form(dataset)
    assert len(dataset.fields) == 39
    assert labels(dataset).tolist() == [0, 1] * 5
    assert whole(dataset, "C1").tolist() == [1, 2] * 5
    # Seen once, or never: no id of their own.
    assert whole(dataset, "C2").tolist() == [0] * 10
    # Missing is a value.
    assert whole(dataset, "C3").tolist() == [1] * 10
    assert whole(dataset, "I2").tolist() == [1] * 10
    # floor(ln(x)^2) is 1 for 3 and 4, 2 for 5, 3 for 6 and 7, and 4 for 8 and 9,
    # which are not in training; 0, 1, 2 and 5 are alone in their buckets.
    assert whole(dataset, "I1").tolist() == [0, 0, 0, 1, 1, 0, 2, 2, 0, 0]


def test_criteo_arguments(tmp_path):
    write_criteo(tmp_path / "train.txt", "\t", False)
    assert len(labels(load_criteo(tmp_path, max_rows=10))) == 10
    short = load_criteo(tmp_path, max_rows=5, fractions=(0.6, 0.2, 0.2))
    assert len(labels(short)) == 5
    everything = load_criteo(tmp_path, min_count=1)
    assert whole(everything, "C2").tolist() == [*range(1, 9), 0, 0]
    shuffled = load_criteo(tmp_path, split="random", seed=1)
    assert labels(shuffled).tolist() != [0, 1] * 5
    with pytest.raises(ValueError, match="min_count=0"):
        load_criteo(tmp_path, min_count=0)
    with pytest.raises(ValueError, match="numeric_bins="):
        load_criteo(tmp_path, numeric_bins="square")


def test_criteo_of_another_format_is_refused(tmp_path):
    (tmp_path / "train.txt").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="40 tab-separated"):
        load_criteo(tmp_path)


HEADER = ["label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27))]


@pytest.mark.parametrize(("separator", "header"), [("\t", False), (",", True)])
@pytest.mark.parametrize(
    ("row", "line", "message"),
    [
        (4, lambda row: ["", *row[1:]], "label"),
        (4, lambda row: ["2", *row[1:]], "label"),
        (9, lambda row: row[:-3], "the line '1"),
        (4, lambda row: row[:-1], "the line '0"),
        (4, lambda row: [*row, "x"], "the line '0"),
        (4, lambda row: [row[0], "x", *row[2:]], "could not convert"),
        (0, lambda row: [], "the line"),
    ],
)
def test_bad_criteo_rows_are_refused(row, line, message, separator, header, tmp_path):
    rows = criteo_rows()
    rows[row] = line(rows[row]) or ["x"]
    rows = [HEADER] * header + rows
    # The last line has no end, as where a download broke off.
    (tmp_path / "train.txt").write_text("\n".join(separator.join(r) for r in rows))
    with pytest.raises(DataError, match=f"40 tab-separated.*{message}"):
        load_criteo(tmp_path)


def test_criteo_rows_that_are_not_read_are_not_checked(tmp_path):
    for header in (False, True):
        write_criteo(tmp_path / "train.txt", "," if header else "\t", header)
        with open(tmp_path / "train.txt", "a") as file:
            file.write("\ncut")
        assert len(labels(load_criteo(tmp_path, max_rows=10))) == 10
        with pytest.raises(DataError, match="the line 'cut'"):
            load_criteo(tmp_path, max_rows=11)
    with pytest.raises(ValueError, match="max_rows=0"):
        load_criteo(tmp_path, max_rows=0)


def test_a_criteo_file_of_another_packing_is_refused(tmp_path):
    write_criteo(tmp_path / "whole.gz", "\t", False)
    packed = (tmp_path / "whole.gz").read_bytes()
    rows = [HEADER, *criteo_rows()]
    contents = {
        "packed.txt": packed,
        "half.gz": packed[: len(packed) // 2],
        "broken.gz": packed[:20] + b"\xff" * 30,
        "plain.gz": gzip.decompress(packed),
        "tabs_and_header.txt": "\n".join("\t".join(row) for row in rows).encode(),
        "empty.txt": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"40 tab-separated.*{name}"):
            load_criteo(tmp_path / name)


def test_real_criteo_counts():
    dataset = need(load_criteo)
    if "80k" not in dataset.source:
        pytest.skip("needs the 80,000-row sample; another Criteo file was found")
    check_form(dataset)
    y = labels(dataset)
    assert len(y) == 80_000
    assert round(float(y.mean()), 4) == 0.2245


# --- Avazu ------------------------------------------------------------------

AVAZU_HEADER = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,"
    "app_domain,app_category,device_id,device_ip,device_model,device_type,"
    "device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
)


def write_avazu(path):
    lines = [AVAZU_HEADER]
    for i in range(10):
        # Tuesday 21 October 2014, then Wednesday.
        hour = f"141021{i:02d}" if i < 5 else "14102200"
        lines.append(
            f"1000009418151094273{i},{i % 2},{hour},1005,0,1fbe01fe,f3845767,28905ebd,"
            f"ecad2386,7801e8d9,07d7df22,a99f214a,ddd2926{i},44956a24,1,2,"
            "15706,320,50,1722,0,35,-1,79"
        )
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")


def test_avazu(tmp_path):
    write_avazu(tmp_path / "train.gz")
    dataset = load_avazu(tmp_path)
    check_form(dataset)
    assert len(dataset.fields) == 23
    assert labels(dataset).tolist() == [0, 1] * 5
    # Hour 0 occurs on both days, the others once.
    assert whole(dataset, "hour").tolist() == [1, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert whole(dataset, "weekday").tolist() == [1] * 5 + [2] * 5
    assert whole(dataset, "device_ip").tolist() == [0] * 10
    assert whole(dataset, "C20").tolist() == [1] * 10
    once = load_avazu(tmp_path, min_count=1, max_rows=5, fractions=(0.6, 0.2, 0.2))
    assert whole(once, "hour").tolist() == [1, 2, 3, 0, 0]


def test_avazu_of_another_format_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("id,click\n1,0\n")
    with pytest.raises(DataError, match="hour"):
        load_avazu(tmp_path)


# --- planted ----------------------------------------------------------------


def log_odds(dataset, left, right, size):
    """Log-odds of a click for each pair of ids of two fields, from counts."""
    cells = whole(dataset, left) * size + whole(dataset, right)
    clicks = np.bincount(cells, labels(dataset), size * size) + 0.5
    total = np.bincount(cells, minlength=size * size) + 1.0
    return np.log(clicks / (total - clicks)).reshape(size, size)[1:, 1:]


def interaction(*args):
    odds = log_odds(*args)
    return odds - odds.mean(0) - odds.mean(1, keepdims=True) + odds.mean()


def test_planted_widths_are_the_ranks_of_the_interactions():
    widths = {"a": 3, "b": 2, "c": 1, "d": 0}
    dataset = make_planted(400_000, widths, vocabulary_size=9, seed=3)
    check_form(dataset)
    assert dataset.widths == widths
    for name in widths:
        others = [other for other in widths if other != name]
        table = np.hstack([interaction(dataset, name, o, 9) for o in others])
        # A coordinate's singular value is about 1.3 * 8, shrunk by marginals.
        singular = np.linalg.svd(table, compute_uv=False)
        assert (singular > 3).sum() == widths[name]
        assert (singular > 1).sum() == widths[name]


def test_planted_fields_have_no_main_effect():
    dataset = make_planted(400_000, {"a": 2, "b": 2}, vocabulary_size=9)
    odds = log_odds(dataset, "a", "b", 9)
    assert odds.std() > 1
    np.testing.assert_allclose(odds.mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose(odds.mean(axis=1), 0, atol=0.15)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_planted_strength_is_a_coordinates_deviation(strength):
    dataset = make_planted(400_000, {"a": 1, "b": 1}, 9, strength)
    np.testing.assert_allclose(log_odds(dataset, "a", "b", 9).std(), strength, rtol=0.1)


def test_planted_default_hides_the_widths():
    dataset, other = make_planted(1000, seed=0), make_planted(1000, seed=1)
    assert sorted(dataset.widths.values()) == [0, 0, 1, 2, 3, 6, 8, 10]
    assert dataset.widths != other.widths
    assert len({field.vocabulary_size for field in dataset.fields}) == 1


def test_planted_seed_fixes_everything():
    first, same = make_planted(500, seed=2), make_planted(500, seed=2)
    assert (labels(first) == labels(same)).all()
    assert (whole(first, "field_3") == whole(same, "field_3")).all()
    assert (labels(first) != labels(make_planted(500, seed=3))).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": {"a": 2, "b": 1}}, "even sum"),
        ({"widths": {"a": 3, "b": 1}}, "sum of the others"),
        ({"widths": {"a": -1, "b": 1}}, "at least 0"),
        ({"widths": {}}, "at least 0"),
        ({"widths": {"a": 2, "b": 2}, "vocabulary_size": 3}, "vocabulary_size=3"),
        (
            {"widths": {"a": 1, "b": 1}, "vocabulary_size": {"a": 9}},
            "the same fields",
        ),
    ],
)
def test_impossible_plantings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_planted(100, **arguments)


def test_planted_widths_show_in_a_trained_model():
    widths = {"a": 4, "b": 2, "c": 2, "d": 0}
    dataset = make_planted(30_000, widths, vocabulary_size=30)
    model = FM(dataset.fields, 8, seed=0)
    auc = keras.metrics.AUC(name="auc")
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=[auc])
    model.fit(*dataset.train, batch_size=512, epochs=5, verbose=0)

    def score_without(hidden):
        x, y = dataset.test
        x = {**x, hidden: np.zeros_like(x[hidden])}
        return model.evaluate(x, y, 1000, verbose=0, return_dict=True)["auc"]

    assert score_without("d") > 0.82
    assert score_without("a") < 0.55
    for field in dataset.fields:
        table = model.get_layer(field.embedding_name).get_weights()[0]
        spread = np.cov(table[1:, 1:], rowvar=False)  # without the linear column
        deviations = np.sqrt(np.linalg.eigvalsh(spread))
        assert (deviations > 0.6).sum() == widths[field.name]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(f"keras_eds.datasets.{name}")
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted and not results.failed


@pytest.mark.parametrize("change", ["not packed", "cut off", "no click"])
def test_a_damaged_avazu_is_refused(tmp_path, change):
    path = tmp_path / "train.gz"
    write_avazu(path)
    if change == "not packed":
        path.write_text("id,click\n")
    elif change == "cut off":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        table = pd.read_csv(path, dtype=str)
        table.loc[2, "click"] = None
        table.to_csv(path, index=False)
    with pytest.raises(DataError, match="clicks of 0 or 1. Received: .*train.gz"):
        load_avazu(tmp_path)
