"""TD3: learns sizes from rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer, check_number
from keras_eds.methods.ciess.actor_critic import ActorCritic
from keras_eds.methods.ciess.replay_buffer import ReplayBuffer, Transitions
from keras_eds.methods.ciess.saved_state import (
    Arrays,
    Meta,
    SavedState,
    inside,
    rng_from,
    taken_out,
)
from keras_eds.methods.ciess.size_range import SizeRange
from keras_eds.methods.id_checks import check_rows

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]


@dataclass(eq=False)
class TD3(SavedState):
    """Twin delayed deep deterministic policy gradients, over one number: a size.

    From sampled transitions `(s, a, r, s')` the critics learn

    `y = r + gamma * min_i Q_i'(s', clip(actor'(s') + e, low, high))`,
    `e = clip(N(0, policy_noise^2), -noise_clip, noise_clip)`,

    and at every `policy_delay`-th step the actor goes up `Q_1(s, actor(s))`. The
    targets, marked ', follow at the same steps by `tau`. Networks see sizes
    scaled to [-1, 1]; every argument and result is in sizes.

    No transition ends an episode: values go on through its end (published code;
    the paper is silent).

    The CIESS paper cites TD3 and gives none of its numbers: the defaults are those
    of the published code, except that there `e` is one number for a whole batch
    (`shared_noise=True`) and the critics' targets follow at every step
    (`delay_critics=False`). The defaults for these are TD3's own.

    Args:
        low: Least size. Defaults to 1.
        high: Largest size. Defaults to 128.
        state_size: Numbers in a state. Defaults to 3.
        hidden_units: See `ActorCritic`. Defaults to (256, 256).
        gamma: What a later reward counts. Defaults to 0.99.
        tau: How fast targets follow. Defaults to 0.005.
        policy_noise: In sizes. Defaults to 2.
        noise_clip: In sizes. Defaults to 5.
        shared_noise: Whether a batch shares one `e`. Defaults to False.
        policy_delay: Steps of the critics to one of the actor. Defaults to 2.
        delay_critics: Whether the critics' targets follow only when the actor's
            do. Defaults to True.
        actor_learning_rate: Defaults to 1e-3.
        critic_learning_rate: Defaults to 3e-3.
        clipnorm: See `ActorCritic`. Defaults to 0.01.
        batch_size: Transitions to a step. Defaults to 4096.
        capacity: Most transitions to remember. Defaults to 1,000,000; the
            published code has 100 for each id.
        seed: Of weights, noise and sampling. Defaults to 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> td3 = TD3(low=1, high=16, hidden_units=(16,), batch_size=32)
    >>> states = np.random.default_rng(0).random((100, 3))
    >>> td3.add(states, td3.act(states), np.ones(100), states)
    >>> losses = td3.update()

    References:
        Fujimoto et al., Addressing Function Approximation Error in Actor-Critic
        Methods, ICML 2018. Qu et al., Continuous Input Embedding Size Search for
        Recommender Systems, SIGIR 2023, arXiv 2304.03501, section 3.3.
    """

    low: int = 1
    high: int = 128
    state_size: int = 3
    hidden_units: tuple[int, ...] = (256, 256)
    gamma: float = 0.99
    tau: float = 0.005
    policy_noise: float = 2.0
    noise_clip: float = 5.0
    shared_noise: bool = False
    policy_delay: int = 2
    delay_critics: bool = True
    actor_learning_rate: float = 1e-3
    critic_learning_rate: float = 3e-3
    clipnorm: float | None = 0.01
    batch_size: int = 4096
    capacity: int = 1_000_000
    seed: int = 0

    kind: ClassVar[str] = "td3"

    def __post_init__(self) -> None:
        for name in ("gamma", "tau"):
            check_number(name, getattr(self, name), least=0, most=1)
        for name in ("policy_noise", "noise_clip"):
            check_number(name, getattr(self, name), least=0)
        for name in ("policy_delay", "batch_size"):
            check_integer(name, getattr(self, name))
        self.range = SizeRange(self.low, self.high)
        self.networks = ActorCritic(
            self.state_size,
            self.hidden_units,
            self.actor_learning_rate,
            self.critic_learning_rate,
            self.clipnorm,
            self.seed,
        )
        self.buffer = ReplayBuffer(self.capacity, self.state_size, self.seed)
        self.steps = 0
        self._rng = np.random.default_rng([self.seed, 0])

    def act(self, states: Any) -> Floats:
        """The actor's sizes, not rounded, of shape `(rows,)`."""
        return self.range.to_sizes(
            self.networks.actions(check_rows("states", states, self.state_size))
        )

    def values(self, states: Any, sizes: Any) -> Values:
        """What the first critic expects of sizes in states.

        Args:
            states: Shape `(rows, state_size)`.
            sizes: Shape `(rows,)`, or `(rows, choices)` for some of each state.

        Returns:
            Values in the shape of `sizes`.
        """
        states = check_rows("states", states, self.state_size)
        shape = np.shape(sizes)
        width = shape[1] if len(shape) > 1 else None
        sizes = check_rows("sizes", sizes, width, len(states))
        units = self.range.to_units(sizes).reshape(-1)
        repeated = np.repeat(states, width or 1, axis=0)
        return self.networks.values(repeated, units).reshape(shape)

    def add(self, states: Any, sizes: Any, rewards: Any, next_states: Any) -> None:
        """Remembers transitions.

        Raises:
            DataError: If a shape does not fit or a value is not finite.
        """
        self.buffer.add(states, sizes, rewards, next_states)

    def update(self, costs: Callable[[Any], Any] | None = None) -> dict[str, float]:
        """Takes one step on sampled transitions.

        Args:
            costs: Maps sizes to what is taken off their rewards. Defaults to none.

        Returns:
            The losses of the networks that were trained: `"critic_loss"`, and
            `"actor_loss"` at every `policy_delay`-th step.

        Raises:
            DataError: If nothing is remembered.
        """
        batch = self.buffer.sample(self.batch_size)
        if costs is not None:
            batch = batch._replace(rewards=batch.rewards - costs(batch.actions))
        return self.learn(batch)

    def learn(self, batch: Transitions) -> dict[str, float]:
        """Takes one step on these transitions; returns the losses, as `update`."""
        self.steps += 1
        networks = self.networks
        actions = self.range.to_units(batch.actions)
        losses = {
            "critic_loss": networks.train_critics(
                batch.states, actions, self._targets(batch)
            )
        }
        delayed = self.steps % self.policy_delay == 0
        # Without a future, targets are asked nothing.
        follows = self.gamma > 0
        if delayed:
            losses["actor_loss"] = networks.train_actor(batch.states)
            if follows:
                networks.follow_actor(self.tau)
        if follows and (delayed or not self.delay_critics):
            networks.follow_critics(self.tau)
        return losses

    def get_config(self) -> Meta:
        config = {}
        for option in fields(self):
            value = getattr(self, option.name)
            config[option.name] = (
                value.item() if isinstance(value, np.generic) else value
            )
        return config

    def get_state(self) -> tuple[Meta, Arrays]:
        kept, rows = self.buffer.get_state()
        meta = {
            "steps": self.steps,
            "rng": self._rng.bit_generator.state,
            "buffer": kept,
        }
        arrays = inside("networks", self.networks.arrays())
        return meta, arrays | inside("buffer", rows)

    def set_state(self, meta: Meta, arrays: Arrays) -> None:
        self.steps = int(meta["steps"])
        self._rng = rng_from(meta["rng"])
        self.buffer.set_state(meta["buffer"], taken_out("buffer", arrays))
        self.networks.restore(taken_out("networks", arrays))

    def _targets(self, batch: Transitions) -> Floats:
        if not self.gamma:
            return batch.rewards.astype(np.float64)
        sizes = self.range.to_sizes(
            self.networks.actions(batch.next_states, target=True)
        )
        rows = 1 if self.shared_noise else len(sizes)
        noise = self._rng.normal(0.0, self.policy_noise, rows)
        noise = np.clip(noise, -self.noise_clip, self.noise_clip)
        smoothed = self.range.to_units(
            np.clip(sizes + noise, self.range.low, self.range.high)
        )
        values = self.networks.target_values(batch.next_states, smoothed)
        return batch.rewards + self.gamma * values.astype(np.float64)
