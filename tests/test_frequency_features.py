"""Counts, features and groups against plain NumPy, id by id."""

import keras
import numpy as np
import pytest

from keras_eds.layers.frequency_features import ALPHA_FROM, frequency_groups
from keras_eds.layers.id_counts import check_counts, count_ids

COUNTS = np.array([4.0, 0, 1, 1, 9, 4, 0, 250, 1, 30])


def standardised(values):
    return (values - values.mean()) / values.std()


def features_of(counts, alpha_from):
    """The features of each id that occurs, without any groups."""
    rank = [((counts < c).sum() + (counts <= c).sum()) / 2 for c in counts]
    sources = {
        "count": counts,
        "log_count": np.log(1 + counts),
        "rank": np.array(rank),
    }
    z = {name: standardised(values) for name, values in sources.items()}
    alpha = 1 / (1 + np.exp(-z[alpha_from]))
    return np.stack([z["log_count"], z["rank"], alpha], axis=1)


@pytest.mark.parametrize("alpha_from", ALPHA_FROM)
@pytest.mark.parametrize("mask_zero", [False, True])
def test_features_equal_those_of_each_id(alpha_from, mask_zero):
    seen = (COUNTS > 0) & ~(mask_zero & (np.arange(len(COUNTS)) == 0))
    groups = frequency_groups(COUNTS, 9, alpha_from, mask_zero)
    wanted = features_of(COUNTS[seen], alpha_from)
    got = groups.features[groups.of_id[seen]]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert (groups.of_id[~seen] == 0).all() and (groups.of_id[seen] > 0).all()
    shares = np.bincount(groups.of_id, minlength=9) / len(COUNTS)
    np.testing.assert_allclose(groups.share, shares, rtol=1e-6)
    assert groups.features.shape == (9, 3) and not groups.features[0].any()


@pytest.mark.parametrize("number", [2, 3, 20, 60])
def test_too_many_counts_share_groups_of_near_features(number):
    rng = np.random.default_rng(0)
    counts = np.floor(rng.pareto(0.6, 5000) * 2).astype("float64")
    assert len(np.unique(counts)) > 100
    groups = frequency_groups(counts, number, "log_count", False)
    seen = counts > 0
    exact = features_of(counts[seen], "log_count")
    of_id = groups.of_id[seen]
    used = np.unique(of_id)
    assert number / 4 < len(used) <= number - 1 and of_id.max() < number
    spread = np.ptp(exact[:, :2].sum(1))
    for group in used:
        members = exact[of_id == group]
        mean = members.mean(0)
        np.testing.assert_allclose(groups.features[group], mean, rtol=1e-4, atol=1e-5)
        assert np.ptp(members[:, :2].sum(1)) <= spread / (number - 1) * 1.0001
    # Rarer ids never stand in a later group.
    assert (np.diff(of_id[np.argsort(counts[seen], kind="stable")]) >= 0).all()


def test_equal_counts_have_features_of_zero():
    groups = frequency_groups(np.array([0.1, 0.1, 0.1]), 4, "count", False)
    np.testing.assert_allclose(
        groups.features[groups.of_id], np.tile([0, 0, 0.5], (3, 1))
    )


def test_refuses_counts_of_padding_alone():
    with pytest.raises(ValueError, match="`counts` must be above 0"):
        frequency_groups(np.array([5.0, 0]), 4, "count", True)


IDS = np.random.default_rng(1).integers(0, 7, (20, 3))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return IDS[index * 5 : index * 5 + 5], np.zeros(5)


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((IDS, IDS)).batch(6)


DATA = {
    "array": lambda: IDS,
    "floats": lambda: IDS.astype("float32"),
    "tensor": lambda: keras.ops.convert_to_tensor(IDS),
    "list of batches": lambda: [IDS[:4], IDS[4:]],
    "list of ids": lambda: IDS.ravel().tolist(),
    "generator": lambda: (row for row in IDS),
    "dataset": tf_dataset,
    "unbatched": lambda: tf_dataset().unbatch(),
    "PyDataset": lambda: Batches(),
}


@pytest.mark.parametrize("kind", DATA)
def test_counts_equal_bincount(kind):
    wanted = np.bincount(IDS.ravel(), minlength=9)
    np.testing.assert_array_equal(count_ids(DATA[kind](), 9), wanted)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "hold ids"),
        (np.array([1, 7]), "from 0 to input_dim - 1 = 6.*Received: 7"),
        (np.array([-1]), "Received: -1"),
        (np.array([np.nan]), "Received: nan"),
        (np.array(["a"]), "arrays of ids"),
        ([{"x": IDS}], "type dict"),
        ({"x": IDS}, "type dict"),
        ("abc", "type str"),
        (3, "type int"),
    ],
)
def test_refuses_data_by_name(data, message):
    with pytest.raises(ValueError, match=f"`data` must .*{message}"):
        count_ids(data, 7)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], r"shape \(3,\).*Received: counts of shape \(2,\)"),
        ([[1, 2, 3]], r"shape \(1, 3\)"),
        (["a", "b", "c"], "numbers"),
        ([True, False, True], "numbers"),
        ([1, -1, -2], r"Received: counts\[1\]=-1, one of 2"),
        ([1, 2, np.nan], r"counts\[2\]=nan"),
        ([np.inf, 2, 0], r"counts\[0\]=inf"),
    ],
)
def test_refuses_counts_by_name(counts, message):
    with pytest.raises(ValueError, match=f"`counts` must .*{message}"):
        check_counts(counts, 3)
