"""TD3 against its equations in plain NumPy, and on problems with known answers."""

import copy
import json

import keras
import numpy as np
import pytest

from keras_eds.errors import DataError, PlanError
from keras_eds.methods.ciess import TD3
from keras_eds.methods.ciess.replay_buffer import ReplayBuffer, Transitions

TINY = {"hidden_units": (6, 5), "batch_size": 8, "seed": 10}


def transitions(rows, seed=0, states=3):
    rng = np.random.default_rng(seed)
    return Transitions(
        rng.random((rows, states)).astype(np.float32),
        rng.integers(1, 129, rows).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        rng.random((rows, states)).astype(np.float32),
    )


def weights(td3):
    return {name: array.copy() for name, array in td3.networks.arrays().items()}


class Adam:
    """As published (section 2, last lines), all gradients clipped together."""

    def __init__(self, rate, clipnorm):
        self.rate, self.clipnorm, self.step, self.moments = rate, clipnorm, 0, None

    def apply(self, parameters, gradients):
        self.step += 1
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        if self.clipnorm is not None and norm > self.clipnorm:
            gradients = [g * self.clipnorm / norm for g in gradients]
        if self.moments is None:
            self.moments = [[np.zeros_like(g), np.zeros_like(g)] for g in gradients]
        rate = self.rate * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        for p, g, both in zip(parameters, gradients, self.moments, strict=True):
            both[0] = 0.9 * both[0] + 0.1 * g
            both[1] = 0.999 * both[1] + 0.001 * g**2
            p -= rate * both[0] / (np.sqrt(both[1]) + 1e-8)


def forward(net, x):
    inputs = []
    for number in range(0, len(net), 2):
        inputs.append(x)
        x = x @ net[number] + net[number + 1]
        x = np.maximum(x, 0) if number + 2 < len(net) else x
    return x[:, 0], inputs


def backward(net, inputs, arriving):
    """Gradients of weights, and what arrives at the inputs."""
    found, arriving = [], arriving[:, None]
    for number in reversed(range(0, len(net), 2)):
        x = inputs[number // 2]
        found = [x.T @ arriving, arriving.sum(0), *found]
        arriving = arriving @ net[number].T
        arriving = arriving * (x > 0) if number else arriving
    return found, arriving


class Reference:
    def __init__(self, td3, **options):
        arrays = weights(td3)
        self.o, self.rng = options, copy.deepcopy(td3._rng)
        actor = [arrays[f"actor/{n}"].astype(float) for n in range(6)]
        both = [arrays[f"critics/{n}"].astype(float) for n in range(12)]
        self.actor, self.critics = actor, [both[:6], both[6:]]
        self.actor_target = copy.deepcopy(actor)
        self.critics_target = copy.deepcopy(self.critics)
        self.by_actor = Adam(1e-3, options["clipnorm"])
        self.by_critics = Adam(3e-3, options["clipnorm"])
        self.steps, self.least = 0, set()

    def targets(self, batch):
        after = batch.next_states.astype(float)
        sizes = 1 + 127 * (np.tanh(forward(self.actor_target, after)[0]) + 1) / 2
        rows = 1 if self.o["shared_noise"] else len(sizes)
        noise = self.rng.normal(0, self.o["policy_noise"], rows)
        sizes += np.clip(noise, -self.o["noise_clip"], self.o["noise_clip"])
        units = 2 * (np.clip(sizes, 1, 128) - 1) / 127 - 1
        pairs = np.column_stack([after, units])
        values = [forward(critic, pairs)[0] for critic in self.critics_target]
        self.least.update(np.argmin(values, axis=0).tolist())
        return batch.rewards + 0.99 * np.minimum(*values)

    def learn(self, batch):
        self.steps += 1
        states, y = batch.states.astype(float), self.targets(batch)
        pairs = np.column_stack([states, 2 * (batch.actions - 1.0) / 127 - 1])
        gradients, loss = [], 0.0
        for critic in self.critics:
            value, inputs = forward(critic, pairs)
            loss += ((value - y) ** 2).mean()
            gradients += backward(critic, inputs, 2 * (value - y) / len(y))[0]
        self.by_critics.apply([*self.critics[0], *self.critics[1]], gradients)
        delayed = self.steps % self.o["policy_delay"] == 0
        if delayed:
            self.climb(states)
            self.follow(self.actor, self.actor_target)
        if delayed or not self.o["delay_critics"]:
            for critic, target in zip(self.critics, self.critics_target, strict=True):
                self.follow(critic, target)
        return loss

    def climb(self, states):
        logits, below = forward(self.actor, states)
        units = np.tanh(logits)
        _, inputs = forward(self.critics[0], np.column_stack([states, units]))
        each = np.full(len(states), -1 / len(states))
        arriving = backward(self.critics[0], inputs, each)[1][:, -1]
        gradients = backward(self.actor, below, arriving * (1 - units**2))[0]
        self.by_actor.apply(self.actor, gradients)

    def follow(self, online, target):
        for new, old in zip(online, target, strict=True):
            old += self.o["tau"] * (new - old)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"clipnorm": None, "tau": 0.3},
        {"shared_noise": True, "delay_critics": False, "tau": 0.3},
        {"policy_noise": 30.0, "noise_clip": 20.0, "policy_delay": 3, "tau": 1.0},
        {"policy_noise": 90.0, "noise_clip": 200.0, "policy_delay": 1},
    ],
    ids=str,
)
def test_every_step_equals_the_equations(changed):
    options = {
        "clipnorm": 0.01, "tau": 0.005, "shared_noise": False, "delay_critics": True,
        "policy_noise": 2.0, "noise_clip": 5.0, "policy_delay": 2, **changed,
    }  # fmt: skip
    td3 = TD3(**TINY, **changed)
    wanted = Reference(td3, **options)
    for step in range(6):
        batch = transitions(8, seed=step)
        loss = wanted.learn(batch)
        assert td3.learn(batch)["critic_loss"] == pytest.approx(loss, rel=1e-4)
        found = weights(td3)
        nets = {
            "actor": wanted.actor,
            "actor_target": wanted.actor_target,
            "critics": wanted.critics[0] + wanted.critics[1],
            "critics_target": wanted.critics_target[0] + wanted.critics_target[1],
        }
        for name, arrays in nets.items():
            for number, array in enumerate(arrays):
                np.testing.assert_allclose(
                    found[f"{name}/{number}"], array, rtol=1e-4, atol=2e-6
                )
    assert wanted.least == {0, 1}


def test_first_weights_and_scale_of_sizes():
    td3 = TD3(low=2, high=10, seed=5)
    found = weights(td3)
    assert {found[f"actor/{n}"].shape for n in (0, 2, 4)} == {
        (3, 256), (256, 256), (256, 1),
    }  # fmt: skip
    assert found["critics/0"].shape == (4, 256)
    assert 0.0028 < np.abs(found["actor/4"]).max() <= 0.003
    assert 0.06 < np.abs(found["actor/2"]).max() <= 1 / 16
    assert not np.allclose(found["critics/2"], found["critics/8"])
    for name in ("actor", "critics"):
        np.testing.assert_array_equal(found[f"{name}/2"], found[f"{name}_target/2"])
    np.testing.assert_allclose(td3.act(np.ones((4, 3))), 6, atol=0.5)
    shapes = [found[f"actor/{n}"].shape for n in range(6)]
    for value, size in ((0, 6), (9, 10)):
        td3.networks.actor.set_weights([np.full(shape, value) for shape in shapes])
        np.testing.assert_allclose(td3.act(np.ones((2, 3))), size)


def test_values_are_the_first_critics():
    td3 = TD3(**TINY)
    net = [weights(td3)[f"critics/{n}"] for n in range(6)]
    batch = transitions(5)
    sizes = np.array([[1, 64, 128]] * 5)
    wanted = [
        forward(net, np.column_stack([batch.states, 2 * (s - 1) / 127 - 1]))[0]
        for s in sizes.T
    ]
    found = td3.values(batch.states, sizes)
    np.testing.assert_allclose(found, np.transpose(wanted), rtol=1e-4, atol=1e-6)
    flat = td3.values(batch.states, sizes[:, 1])
    np.testing.assert_allclose(flat, found[:, 1], rtol=1e-5)


def test_learns_the_best_size_of_every_state():
    rng = np.random.default_rng(0)

    def best(states):
        return 20 + 80 * states[:, 0] * states[:, 2]

    td3 = TD3(hidden_units=(64, 64), batch_size=128)
    states, sizes = rng.random((4000, 3)), rng.integers(1, 129, 4000)
    rewards = -(((sizes - best(states)) / 127) ** 2)
    td3.add(states, sizes, rewards, rng.random((4000, 3)))
    new = rng.random((500, 3))

    def error():
        return np.abs(td3.act(new) - best(new)).mean()

    assert error() > 20
    for _ in range(250):
        td3.update()
    assert error() < 6


@pytest.mark.parametrize(("gamma", "wanted"), [(0.0, 1.0), (0.6, 77.2)])
def test_counts_later_rewards_by_gamma(gamma, wanted):
    # The size, scaled to u in [0, 1], costs u^2 now and earns 2u at the next
    # step: the best is u = gamma.
    rng = np.random.default_rng(0)
    td3 = TD3(
        state_size=1, gamma=gamma, tau=0.05, hidden_units=(64, 64), batch_size=128
    )
    sizes, states = rng.integers(1, 129, 4000), rng.random((4000, 1))
    units = (sizes - 1) / 127
    td3.add(states, sizes, 2 * states[:, 0] - units**2, units[:, None])
    for _ in range(200):
        td3.update()
    assert td3.act(rng.random((200, 1))).mean() == pytest.approx(wanted, abs=6)


def test_restored_goes_on_bit_for_bit(tmp_path):
    whole = TD3(**TINY, shared_noise=True, policy_delay=2, capacity=40)
    whole.add(*transitions(30))
    for _ in range(5):
        whole.update()
    whole.save(tmp_path / "td3")
    restored = TD3.load(tmp_path / "td3")
    assert restored.get_config() == json.loads(json.dumps(whole.get_config()))
    for td3 in (whole, restored):
        td3.add(*transitions(30, seed=1))
    losses = [[td3.update() for _ in range(5)] for td3 in (whole, restored)]
    assert losses[0] == losses[1]
    left, right = weights(whole), weights(restored)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def test_damaged_file_is_refused(tmp_path):
    TD3(**TINY).save(tmp_path / "td3")
    content = (tmp_path / "td3").read_bytes()
    (tmp_path / "td3").write_bytes(content[:-200])
    with pytest.raises(PlanError, match="td3 file"):
        TD3.load(tmp_path / "td3")


def losses(seed=10, policy="float32"):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        td3 = TD3(**{**TINY, "seed": seed})
        td3.add(*transitions(30))
        return [td3.update()["critic_loss"] for _ in range(3)]
    finally:
        keras.config.set_dtype_policy(before)


def test_the_seed_alone_decides_and_nothing_global_moves():
    def drawn():
        layer = keras.layers.Dense(2)
        return layer.name, keras.ops.convert_to_numpy(layer(np.ones((1, 3))))

    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    name, wanted = drawn()
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    first = losses()
    found_name, found = drawn()
    assert name == found_name
    np.testing.assert_array_equal(wanted, found)
    assert losses(policy="mixed_float16") == first
    assert losses(seed=4) != first


def test_buffer_is_a_ring():
    buffer = ReplayBuffer(capacity=5, state_size=2, seed=1)

    def add(*numbers):
        column = np.array(numbers, float)
        wide = np.column_stack([column, -column])
        buffer.add(wide, column + 0.25, column + 0.5, wide + 100)

    def held():
        return set(buffer.sample(200).states[:, 0])

    add(0, 1, 2)
    assert held() == {0, 1, 2}
    add(3, 4, 5, 6)
    assert held() == {2, 3, 4, 5, 6} and len(buffer) == 5
    add(*range(10, 22))
    assert held() == {17, 18, 19, 20, 21}
    add(30)
    assert held() == {18, 19, 20, 21, 30}
    drawn = buffer.sample(64)
    number = drawn.states[:, 0]
    np.testing.assert_array_equal(drawn.states[:, 1], -number)
    np.testing.assert_array_equal(drawn.actions, number + 0.25)
    np.testing.assert_array_equal(drawn.rewards, number + 0.5)
    np.testing.assert_array_equal(drawn.next_states[:, 0], number + 100)


def test_buffer_draws_evenly():
    buffer = ReplayBuffer(capacity=10, state_size=1, seed=1)
    ones = np.ones((10, 1))
    buffer.add(ones, np.arange(10), np.zeros(10), ones)
    found = np.bincount(buffer.sample(20_000).actions.astype(int), minlength=10)
    # Chi-square with 9 degrees of freedom: 33.7 is passed once in 10,000.
    assert ((found - 2000) ** 2 / 2000).sum() < 33.7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": 8, "high": 8}, "high"),
        ({"gamma": 1.5}, "gamma"),
        ({"tau": -0.1}, "tau"),
        ({"policy_noise": float("nan")}, "policy_noise"),
        ({"noise_clip": -1}, "noise_clip"),
        ({"policy_delay": 0}, "policy_delay"),
        ({"batch_size": 0}, "batch_size"),
        ({"capacity": 0}, "capacity"),
        ({"hidden_units": ()}, "hidden_units"),
        ({"clipnorm": 0}, "clipnorm"),
        ({"critic_learning_rate": 0}, "critic_learning_rate"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=f"`{words}` must be .* Received: {words}="):
        TD3(**options)


def test_bad_transitions_are_refused():
    td3 = TD3(**TINY)
    good = transitions(4)
    with pytest.raises(DataError, match="must hold transitions"):
        td3.update()
    broken = good.rewards.copy()
    broken[2] = np.nan
    with pytest.raises(DataError, match=r"rewards\[2\]=nan"):
        td3.add(good.states, good.actions, broken, good.next_states)
    with pytest.raises(DataError, match="`actions` must be numbers of shape"):
        td3.add(good.states, good.actions[:3], good.rewards, good.next_states)
    with pytest.raises(DataError, match="`next_states` must be numbers of shape"):
        td3.add(good.states, good.actions, good.rewards, good.next_states[:, :2])
    with pytest.raises(DataError, match="`states` must be numbers of shape"):
        td3.act(np.ones((4, 2)))
    with pytest.raises(DataError, match="`states` must be numbers of shape"):
        td3.act(np.ones((0, 3)))
    assert len(td3.buffer) == 0
