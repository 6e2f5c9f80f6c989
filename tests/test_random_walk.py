"""The walk over sizes and the noise before it, against their distributions."""

import numpy as np
import pytest

from keras_eds.methods.ciess import (
    GaussianNoise,
    OrnsteinUhlenbeckNoise,
    RandomWalk,
    UniformNoise,
)
from keras_eds.methods.ciess import noise as noises

scipy_stats = pytest.importorskip("scipy.stats")
UNLIKELY = 1e-4


def matrix(low, high, threshold):
    """Written out, size by size."""
    count = high - low + 1
    found = np.zeros((count, count))
    for here in range(count):
        near = [k for k in range(count) if k != here and abs(k - here) <= threshold]
        for there in near:
            total = sum(1 / abs(k - here) for k in near)
            found[here, there] = 1 / abs(there - here) / total
        if not near:
            found[here, here] = 1
    return found


walks = pytest.mark.parametrize(
    ("low", "high", "threshold"),
    [(1, 128, 5), (1, 6, 5), (0, 3, 5), (4, 9, 1), (2, 3, 4), (7, 7, 5)],
)


@walks
def test_distribution_is_that_of_the_weights(low, high, threshold):
    walk = RandomWalk(low, high, threshold)
    wanted = matrix(low, high, threshold)
    np.testing.assert_allclose(walk.transitions(), wanted, atol=1e-12)
    reached = np.zeros(high - low + 1)
    reached[0] = 1
    for steps in range(4):
        found = walk.distribution(low, steps)
        np.testing.assert_allclose(found, reached, atol=1e-12)
        reached = reached @ wanted


@walks
def test_candidates_follow_the_distribution(low, high, threshold):
    walk = RandomWalk(low, high, threshold, length=4)
    chain = matrix(low, high, threshold)
    rng = np.random.default_rng(5)
    for start in {low, min(low + 2, high), (low + high) // 2, high}:
        path = walk.candidates(np.full(20_000, start), rng)
        assert path.shape == (20_000, 5) and (path[:, 0] == start).all()
        assert path.min() >= low and path.max() <= high
        steps = np.abs(np.diff(path, axis=1))
        assert steps.max() <= threshold
        assert (steps > 0).all() or low == high
        expected = np.eye(len(chain))[start - low]
        for column in path.T:
            found = np.bincount(column - low, minlength=len(chain))
            assert not found[expected == 0].any()
            kept = expected * 20_000 > 5
            rest = [found[~kept].sum()], [expected[~kept].sum() * 20_000]
            if kept.sum() > 1:
                f = np.append(found[kept], rest[0] if rest[1][0] > 1 else [])
                e = np.append(
                    expected[kept] * 20_000, rest[1] if rest[1][0] > 1 else []
                )
                e *= f.sum() / e.sum()
                assert scipy_stats.chisquare(f, e).pvalue > UNLIKELY
            expected = expected @ chain


def test_every_id_walks_on_its_own():
    walk = RandomWalk(1, 128)
    starts = np.random.default_rng(0).integers(1, 129, 50_000)
    path = walk.candidates(starts, np.random.default_rng(1))
    np.testing.assert_array_equal(path[:, 0], starts)
    inner = (starts > 5) & (starts < 124)
    moves = (path[:, 1] - path[:, 0])[inner]
    # Neighbours in the list of ids do not move together.
    assert abs(np.corrcoef(moves[:-1], moves[1:])[0, 1]) < 0.03
    again = walk.candidates(starts, np.random.default_rng(1))
    np.testing.assert_array_equal(path, again)
    other = walk.candidates(starts, np.random.default_rng(2))
    assert (path != other).any()


def test_without_steps_only_the_start_is_left():
    path = RandomWalk(1, 128, length=0).candidates([3, 4], np.random.default_rng(0))
    np.testing.assert_array_equal(path, [[3], [4]])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"low": -1, "high": 5}, "low"),
        ({"low": 5, "high": 4}, "high"),
        ({"low": 1, "high": 5, "threshold": 0}, "threshold"),
        ({"low": 1, "high": 5, "threshold": 2.5}, "threshold"),
        ({"low": 1, "high": 5, "length": -1}, "length"),
    ],
)
def test_bad_walks_are_refused(options, word):
    with pytest.raises(ValueError, match=f"`{word}` must be .* Received: {word}="):
        RandomWalk(**options)


@pytest.mark.parametrize("starts", [[0], [129], [1.5], [[3]], [float("nan")]], ids=str)
def test_bad_starts_are_refused(starts):
    with pytest.raises(ValueError, match="`starts` must be integers"):
        RandomWalk(1, 128).candidates(starts, np.random.default_rng(0))


def test_gaussian_and_uniform_noise():
    rng = np.random.default_rng(3)
    drawn = GaussianNoise().draw(20_000, rng)
    assert scipy_stats.kstest(drawn, "norm", (0, 6)).pvalue > UNLIKELY
    drawn = UniformNoise().draw(20_000, rng)
    assert scipy_stats.kstest(drawn, "uniform", (-11, 22)).pvalue > UNLIKELY


@pytest.mark.parametrize("kind", list(noises.NOISES))
def test_shared_noise_is_one_number(kind):
    noise, rng = noises.NOISES[kind](shared=True), np.random.default_rng(3)
    first, second = noise.draw(50, rng), noise.draw(50, rng)
    assert first.shape == (50,) and len(set(first)) == 1
    assert first[0] != second[0]
    assert len(set(noises.NOISES[kind]().draw(50, rng))) == 50


def test_drifting_noise_equals_its_equation():
    noise, rng = OrnsteinUhlenbeckNoise(), np.random.default_rng(3)
    normal, x = np.random.default_rng(3), np.zeros(4)
    for _ in range(5):
        x = x + 0.15 * (0 - x) * 0.01 + 40 * 0.1 * normal.normal(size=4)
        np.testing.assert_allclose(noise.draw(4, rng), x)
    with pytest.raises(ValueError, match="`ids` must be the same number"):
        noise.draw(3, rng)
    noise.reset()
    wanted = 4 * normal.normal(size=3)
    np.testing.assert_allclose(noise.draw(3, rng), wanted)


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match="`std` must be"):
        GaussianNoise(std=-1.0)
    with pytest.raises(ValueError, match="`bound` must be"):
        UniformNoise(bound=float("inf"))
    with pytest.raises(ValueError, match="`dt` must be"):
        OrnsteinUhlenbeckNoise(dt=0)
    with pytest.raises(ValueError, match="`noise` must be one of"):
        noises.get("pink")
