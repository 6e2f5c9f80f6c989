"""Rewards and states by hand, and an agent on a field with known best sizes."""

import keras
import numpy as np
import pytest

from keras_eds.errors import DataError, PlanError
from keras_eds.methods.ciess import (
    Agent,
    GaussianNoise,
    OrnsteinUhlenbeckNoise,
    Reward,
    SizeStates,
    quality_of,
)

TINY = {"hidden_units": (6, 5), "batch_size": 8}
FULL = np.array([0.5, 0.2, 0.0, 0.0, 1e-320])
METRIC = np.array([0.25, 0.3, 0.0, 0.1, 0.0])


def test_quality_by_hand():
    np.testing.assert_array_equal(quality_of(METRIC, FULL), [0.5, 1, 1, 1, 0])


def test_reward_by_hand():
    sizes = np.array([1, 5, 5, 10, 10])
    wanted = [0.5 - 0.005, 1 - 0.125, 1 - 0.125, 0.5, -0.5]
    found = Reward(10, penalty=0.5)(METRIC, FULL, sizes)
    np.testing.assert_allclose(found, wanted)
    wanted = [0.25, 0.3 - 0.08, -0.08, 0.1 - 0.405, -0.405]
    found = Reward(10, 0.5, quality="metric", free=1)(METRIC, FULL, sizes)
    np.testing.assert_allclose(found, wanted)
    np.testing.assert_allclose(Reward(10, 0)(METRIC, FULL, sizes), [0.5, 1, 1, 1, 0])


def test_bad_rewards_are_refused():
    for options, word in [
        ({"penalty": -0.1}, "penalty"),
        ({"penalty": float("nan")}, "penalty"),
        ({"quality": "best"}, "quality"),
        ({"free": -1}, "free"),
        ({"d_max": 0}, "d_max"),
    ]:
        with pytest.raises(ValueError, match=f"`{word}` must be .* Received: {word}="):
            Reward(**{"d_max": 10, **options})
    reward, ones = Reward(10), np.ones(3)
    with pytest.raises(DataError, match=r"metric\[1\]=nan, one of 2"):
        reward([1, np.nan, np.inf], ones, ones)
    with pytest.raises(DataError, match=r"metric_full\[0\]=-1"):
        reward(ones, [-1, 1, 1], ones)
    with pytest.raises(DataError, match="must have one shape"):
        reward(ones, [1, 1], ones)
    with pytest.raises(DataError, match="`sizes` must be numbers of shape"):
        reward(ones, ones, [1, 1])
    with pytest.raises(DataError, match="`metric` must be numbers of shape"):
        reward([[1.0]], ones, ones)


def test_states_by_hand():
    arguments = ([9, 1, 5], 1, 9)
    sizes, quality = [9, 1, 3], [1.0, 0.25, 1.5]
    found = SizeStates(*arguments)(sizes, quality)
    wanted = [[1, 1, 1], [0, 1 / 9, 0.25], [0.5, 3 / 9, 1]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    found = SizeStates(*arguments, scale="code")(sizes, quality)
    wanted = [[1, 1, 1], [-1, -1, -0.5], [0, -0.5, 1]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    first = SizeStates(*arguments).first()
    np.testing.assert_allclose(first, [[1, 1, 1], [0, 1, 1], [0.5, 1, 1]])
    first = SizeStates(*arguments, scale="code").first()
    np.testing.assert_allclose(first, [[1, 1, 0], [-1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(SizeStates([4, 4], 1, 9).first()[:, 0], [0, 0])


def test_bad_states_are_refused():
    states = SizeStates([9, 1, 5], 1, 9)
    with pytest.raises(DataError, match=r"`quality` must be finite.*quality\[1\]=nan"):
        states([1, 1, 1], [1, np.nan, 1])
    with pytest.raises(DataError, match="`quality` must be numbers of shape"):
        states([1, 1, 1], [1, 1])
    with pytest.raises(DataError, match="`sizes` must be numbers of shape"):
        states([1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="`counts` must be finite"):
        SizeStates([9, -1, 5], 1, 9)
    with pytest.raises(ValueError, match="`scale` must be one of"):
        SizeStates([9, 1, 5], 1, 9, scale="log")


def believing(agent, actor_bias, slope):
    """An agent whose actor gives one size, and whose critic likes large ones."""
    networks = agent.td3.networks
    for net, last in ((networks.actor, actor_bias), (networks.first, 0.0)):
        shapes = [tuple(variable.shape) for variable in net.weights]
        arrays = [np.zeros(shape) for shape in shapes]
        arrays[-1][:] = last
        if net is networks.first:
            arrays[0][-1, 0] = slope
            arrays[1][:] = 5.0
            arrays[2][0, 0] = arrays[4][0, 0] = 1.0
        net.set_weights(arrays)
    return agent


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_proposes_what_the_critic_prefers_of_the_walk(slope):
    agent = believing(Agent(1, 128, td3=TINY, seed=4), 0.0, slope)
    states = np.random.default_rng(0).random((400, 3))
    walk = agent.walk.candidates(np.full(400, 64), np.random.default_rng([4, 1]))
    found = agent.propose(states, explore=False)
    assert found.dtype.kind == "i"
    np.testing.assert_array_equal(found, (slope * walk).max(axis=1) * slope)
    agent = believing(Agent(1, 128, td3=TINY, walk_length=0), 0.0, slope)
    np.testing.assert_array_equal(agent.propose(states, explore=False), 64)


def test_noise_moves_the_start_or_the_choice():
    states = np.random.default_rng(0).random((3000, 3))
    quiet = {"td3": TINY, "seed": 4}
    start = believing(Agent(1, 128, walk_length=0, **quiet), 0.0, 1.0).propose(states)
    assert start.mean() == pytest.approx(64.5, abs=0.6)
    assert start.std() == pytest.approx(6, abs=0.4)
    noise = np.random.default_rng([4, 1]).normal(0, 6, 3000)
    np.testing.assert_array_equal(start, np.rint(64.5 + noise))
    agent = Agent(1, 128, GaussianNoise(6, shared=True), "choice", **quiet)
    found = believing(agent, 0.0, 1.0).propose(states)
    rng = np.random.default_rng([4, 1])
    shift = rng.normal(0, 6)
    walk = agent.walk.candidates(np.full(3000, 64), rng)
    np.testing.assert_array_equal(found, np.rint(walk.max(axis=1) + shift))
    wild = Agent(1, 128, GaussianNoise(500.0), "choice", **quiet).propose(states)
    assert (wild.min(), wild.max()) == (1, 128)


def test_noise_is_multiplied():
    states = np.random.default_rng(0).random((3000, 3))
    for explore in (0.5, 0.0):
        agent = believing(Agent(1, 128, walk_length=0, td3=TINY, seed=4), 0.0, 1.0)
        noise = np.random.default_rng([4, 1]).normal(0, 6, 3000)
        found = agent.propose(states, explore)
        np.testing.assert_array_equal(found, np.rint(64.5 + explore * noise))


def test_first_sizes_are_drawn_evenly():
    agent = Agent(2, 9, random_steps=2, updates=1, td3=TINY)
    states, sizes = np.random.default_rng(0).random((4000, 3)), np.full(4000, 2)
    for _ in range(2):
        assert agent.is_random
        counts = np.bincount(agent.propose(states), minlength=10)
        # Chi-square with 7 degrees of freedom: 29.9 is passed once in 10,000.
        assert counts[:2].sum() == 0 and ((counts[2:] - 500) ** 2 / 500).sum() < 29.9
        agent.observe(states, sizes, sizes, states)
    assert not agent.is_random


def test_networks_see_standardized_states():
    random = np.random.default_rng(0)
    before, after = (
        random.random((50, 3)),
        random.normal([5, 1, 0], [2, 0.01, 0], (50, 3)),
    )
    agent = Agent(standardized=True, updates=0, td3=TINY)
    sizes = np.arange(50) + 1
    agent.observe(before, sizes, sizes, after)
    # The scale stays that of the first time.
    agent.observe(after + 7, sizes, sizes, before)
    middle, spread = (
        after.mean(axis=0),
        np.where(after.std(axis=0) == 0, 1, after.std(0)),
    )
    rows = agent.td3.buffer._rows[:100]
    wanted = (np.concatenate([before, after + 7]) - middle) / spread
    np.testing.assert_allclose(rows[:, :3], wanted, rtol=1e-5, atol=1e-6)
    seen = []
    agent._choose = lambda states, noise: seen.append(states) or sizes
    agent.propose(before)
    np.testing.assert_allclose(seen[0], (before - middle) / spread)


def test_costs_are_taken_off_all_that_is_remembered():
    agent, seen = Agent(updates=3, td3=TINY), []
    states, sizes = np.random.default_rng(0).random((50, 3)), np.arange(50) + 1
    agent.td3.learn = lambda batch: seen.append(batch) or {"critic_loss": 0.0}
    agent.observe(states, sizes, sizes + 100, states)
    agent.observe(states, sizes, sizes + 100, states, lambda d: 2.0 * d)
    for number, batch in enumerate(seen):
        costs = 2 * batch.actions * (number >= 3)
        np.testing.assert_allclose(batch.rewards, batch.actions + 100 - costs)


def test_blocks_of_ids_are_joined(monkeypatch):
    states = np.random.default_rng(0).random((50, 3))
    whole = Agent(td3=TINY, walk_length=0, seed=1).propose(states)
    monkeypatch.setattr("keras_eds.methods.ciess.agent.IDS_AT_ONCE", 7)
    monkeypatch.setattr("keras_eds.methods.ciess.actor_critic.ROWS_AT_ONCE", 4)
    parts = Agent(td3=TINY, walk_length=0, seed=1).propose(states)
    np.testing.assert_array_equal(whole, parts)


def test_remembers_what_it_is_told_to():
    states, sizes = np.random.default_rng(0).random((50, 3)), np.arange(50) + 1
    rewards = sizes / 10
    for remembered, wanted in ((None, 50), (20, 20), (80, 50)):
        agent = Agent(td3=TINY, remembered=remembered, updates=4)
        losses = agent.observe(states, sizes, rewards, states)
        assert set(losses) == {"critic_loss", "actor_loss"}
        assert agent.td3.steps == 4 and len(agent.td3.buffer) == wanted
        held = agent.td3.buffer.sample(2000)
        assert len(set(held.actions)) == wanted
        np.testing.assert_allclose(held.rewards, held.actions / 10, rtol=1e-6)
    assert Agent(td3=TINY, updates=0).observe(states, sizes, rewards, states) == {}


def test_finds_the_best_size_of_every_frequency():
    # Whole quality needs 8 to 56 sizes, more for the frequent; below that it
    # falls in proportion, so that the least size with whole quality is best.
    rng = np.random.default_rng(0)
    frequencies = rng.integers(0, 1000, 2000)
    states = SizeStates(frequencies, 1, 64)
    needed = 8 + 48 * states.first()[:, 0]
    reward = Reward(64, penalty=0.4)
    agent = Agent(
        1,
        64,
        updates=20,
        td3={"hidden_units": (64, 64), "batch_size": 256, "gamma": 0.0},
    )
    full = np.ones(2000)

    def result(sizes):
        return reward(np.minimum(sizes / needed, 1), full, sizes)

    best = result(np.ceil(needed)).mean()
    uniform = max(result(np.full(2000, size)).mean() for size in range(1, 65))
    now = states.first()
    for step in range(16):
        if step % 8 == 0:
            agent.start_episode()
            now = states.first()
        sizes = agent.propose(now)
        after = states(sizes, quality_of(np.minimum(sizes / needed, 1), full))
        agent.observe(now, sizes, result(sizes), after)
        now = after
    sizes = agent.propose(states.first(), explore=False)
    assert result(sizes).mean() > (best + uniform) / 2
    assert np.corrcoef(sizes, needed)[0, 1] > 0.8


@pytest.mark.parametrize("noise", ["gaussian", OrnsteinUhlenbeckNoise(shared=True)])
def test_restored_goes_on_bit_for_bit(tmp_path, noise):
    states = np.random.default_rng(0).random((30, 3))

    def search(agent, steps):
        found = []
        for _ in range(steps):
            sizes = agent.propose(states)
            found.append((sizes.tolist(), agent.observe(states, sizes, sizes, states)))
        return found

    given = (2, 40, noise, "choice", 3, 2, 2, 17, 1, True, TINY)
    whole = Agent(*given, seed=6)
    before = search(whole, 2)
    whole.save(tmp_path / "agent")
    keras.utils.set_random_seed(99)
    restored = Agent.load(tmp_path / "agent")
    assert restored.td3.get_config()["seed"] == 6
    after = search(whole, 3)
    # As a tuner does between two models.
    keras.backend.clear_session()
    assert search(restored, 3) == after
    if isinstance(noise, str):
        same = Agent(*given, seed=6)
        assert search(same, 2) == before
        with pytest.raises(PlanError, match="ciess-agent file"):
            whole.td3.save(tmp_path / "td3")
            Agent.load(tmp_path / "td3")


def test_bad_agents_are_refused():
    for options, word in [
        ({"noise": "pink"}, "noise"),
        ({"noise_at": "end"}, "noise_at"),
        ({"walk_threshold": 0}, "walk_threshold"),
        ({"walk_length": -1}, "walk_length"),
        ({"updates": -1}, "updates"),
        ({"remembered": 0}, "remembered"),
        ({"random_steps": -1}, "random_steps"),
        ({"standardized": "yes"}, "standardized"),
        ({"seed": 1.5}, "seed"),
        ({"high": 1}, "high"),
    ]:
        with pytest.raises(ValueError, match=f"`{word}` must be .* Received: {word}="):
            Agent(**{"td3": TINY, **options})
    agent, states = Agent(td3=TINY), np.ones((4, 3))
    with pytest.raises(DataError, match="`states` must be numbers of shape"):
        agent.propose(np.ones((4, 2)))
    with pytest.raises(DataError, match=r"states\[1, 2\]=nan"):
        agent.propose(np.where(np.arange(12).reshape(4, 3) == 5, np.nan, states))
    with pytest.raises(DataError, match="`rewards` must be finite"):
        agent.observe(states, np.ones(4), [1, 1, np.inf, 1], states)
    with pytest.raises(DataError, match="`sizes` must be numbers of shape"):
        agent.observe(states, np.ones(3), np.ones(4), states)
