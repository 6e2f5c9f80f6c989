"""One policy for the sizes of all ids of one field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_choice, check_integer
from keras_eds.methods.ciess import noise as noises
from keras_eds.methods.ciess.random_walk import RandomWalk
from keras_eds.methods.ciess.saved_state import (
    Arrays,
    Meta,
    SavedState,
    inside,
    rng_from,
    taken_out,
)
from keras_eds.methods.ciess.td3 import TD3
from keras_eds.methods.id_checks import check_rows

Ints = npt.NDArray[np.int32]
IDS_AT_ONCE = 65536


class Agent(SavedState):
    """Proposes a size for every id and learns from what came of it.

    `d_0 = round(clip(actor(s) + noise, low, high))`; a random walk from `d_0`
    comes by `walk_length` more sizes; the one of which the first critic expects
    most is proposed.

    In the published code the walk starts from the actor's size without noise, and
    the noise is added to the size that the critic chose (`noise_at="choice"`).

    Args:
        low: Least size. Defaults to 1.
        high: Largest size. Defaults to 128.
        noise: A name, `"gaussian"`, `"uniform"` or `"ornstein_uhlenbeck"`, or a
            `Noise`. Defaults to `"gaussian"`, with the paper's spread of 6.
        noise_at: `"start"` (paper) or `"choice"` (published code).
        walk_threshold: Farthest step of the walk. Defaults to 5.
        walk_length: Number of steps; 0 leaves the walk out. Defaults to 5.
        updates: Steps of TD3 to each `observe`. Defaults to 1 (paper). They cost
            little beside the training that an observation takes: on a simulated
            field, 10 found after 30 observations what 1 found after 300.
        remembered: Most transitions to take of one `observe`, drawn without
            replacement. Defaults to `None`: all (paper).
        random_steps: So often `propose` first draws every size evenly, as TD3's
            paper does before it trusts its actor. Defaults to 0 (CIESS).
        standardized: Whether networks see states less their mean and by their
            spread, both taken from the first `observe`. Qualities that come from a
            loss differ by a few hundredths, which networks otherwise hardly see.
            Defaults to False (paper).
        td3: Options of `TD3`, by name; it has `low`, `high` and `seed` already.
        seed: Of all that is drawn. Defaults to 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> states, reward = SizeStates([9, 1, 5], 1, 128), Reward(128)
    >>> agent, now = Agent(low=1, high=128), states.first()
    >>> sizes = agent.propose(now)
    >>> full, metric = [0.3, 0.2, 0.5], [0.3, 0.1, 0.4]  # of users' models
    >>> after = states(sizes, quality_of(metric, full))
    >>> losses = agent.observe(now, sizes, reward(metric, full, sizes), after)

    Reference:
        Qu et al., Continuous Input Embedding Size Search for Recommender Systems,
        SIGIR 2023, arXiv 2304.03501, section 3.3.
    """

    kind: ClassVar[str] = "ciess-agent"

    def __init__(
        self,
        low: int = 1,
        high: int = 128,
        noise: str | noises.Noise = "gaussian",
        noise_at: Literal["start", "choice"] = "start",
        walk_threshold: int = 5,
        walk_length: int = 5,
        updates: int = 1,
        remembered: int | None = None,
        random_steps: int = 0,
        standardized: bool = False,
        td3: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("noise_at", noise_at, ("start", "choice"))
        check_integer("walk_threshold", walk_threshold)
        check_integer("walk_length", walk_length, 0)
        check_integer("updates", updates, 0)
        check_integer("seed", seed, 0)
        check_integer("random_steps", random_steps, 0)
        check_choice("standardized", standardized, (True, False))
        if remembered is not None:
            check_integer("remembered", remembered)
        self.noise = noises.get(noise)
        self.noise_at = noise_at
        self.updates = updates
        self.remembered = remembered
        self.random_steps = random_steps
        self.standardized = standardized
        self.seed = seed
        self.td3 = TD3(low=low, high=high, seed=seed, **(td3 or {}))
        self.walk = RandomWalk(low, high, walk_threshold, walk_length)
        self._rng = np.random.default_rng([seed, 1])
        self._observed = 0
        self._middle = np.zeros(self.td3.state_size)
        self._spread = np.ones(self.td3.state_size)

    @property
    def is_random(self) -> bool:
        """Whether `propose` still draws sizes evenly."""
        return self._observed < self.random_steps

    def start_episode(self) -> None:
        """Forgets drifting noise; call it when all ids are back at `high`."""
        self.noise.reset()

    def propose(self, states: Any, explore: float = 1.0) -> Ints:
        """A size for each id.

        Args:
            states: Shape `(ids, state_size)`.
            explore: What the noise is multiplied by; 0 leaves it out. The walk is
                taken either way.

        Returns:
            Integers from `low` to `high`, of shape `(ids,)`.

        Raises:
            DataError: If `states` are not finite numbers of that shape.
        """
        states = check_rows("states", states, self.td3.state_size)
        if self.is_random:
            low, high = self.td3.low, self.td3.high
            return self._rng.integers(low, high + 1, len(states), dtype=np.int32)
        states = self._seen(states)
        drawn = np.zeros(len(states))
        if explore:
            drawn = explore * self.noise.draw(len(states), self._rng)
        starts = range(0, len(states), IDS_AT_ONCE)
        blocks = [slice(start, start + IDS_AT_ONCE) for start in starts]
        return np.concatenate([self._choose(states[b], drawn[b]) for b in blocks])

    def observe(
        self,
        states: Any,
        sizes: Any,
        rewards: Any,
        next_states: Any,
        costs: Callable[[Any], Any] | None = None,
    ) -> dict[str, float]:
        """Remembers what came of sizes, and learns.

        Args:
            states: What `propose` was given, of shape `(ids, state_size)`.
            sizes: What was tried, of shape `(ids,)`.
            rewards: Shape `(ids,)`.
            next_states: States after it, of shape `(ids, state_size)`.
            costs: Maps sizes to what they cost now, which is taken off all rewards
                that are remembered: so a price may change. Defaults to none.

        Returns:
            Mean losses, `"critic_loss"` and, where it was trained, `"actor_loss"`.

        Raises:
            DataError: If a shape does not fit or a value is not finite.
        """
        seen = [
            check_rows("states", states, self.td3.state_size),
            check_rows("sizes", sizes, rows=len(states)),
            check_rows("rewards", rewards, rows=len(states)),
            check_rows("next_states", next_states, self.td3.state_size, len(states)),
        ]
        if self.remembered is not None and self.remembered < len(states):
            kept = self._rng.choice(len(states), self.remembered, replace=False)
            seen = [values[kept] for values in seen]
        if self.standardized and not self._observed:
            self._middle = seen[3].mean(axis=0)
            spread = seen[3].std(axis=0)
            self._spread = np.where(spread > 1e-6, spread, 1.0)
        self._observed += 1
        before, after = self._seen(seen[0]), self._seen(seen[3])
        self.td3.add(before, seen[1], seen[2], after)
        losses: dict[str, list[float]] = {}
        for _ in range(self.updates):
            for name, loss in self.td3.update(costs).items():
                losses.setdefault(name, []).append(loss)
        return {name: float(np.mean(values)) for name, values in losses.items()}

    def get_config(self) -> Meta:
        """The arguments, as plain JSON values."""
        return {
            "noise": noises.to_config(self.noise),
            "noise_at": self.noise_at,
            "walk_threshold": self.walk.threshold,
            "walk_length": self.walk.length,
            "updates": self.updates,
            "remembered": self.remembered,
            "random_steps": self.random_steps,
            "standardized": self.standardized,
            "td3": self.td3.get_config(),
        }

    @classmethod
    def from_config(cls, config: Meta) -> Agent:
        """An agent with the arguments that `get_config` gave."""
        config = dict(config)
        td3 = dict(config.pop("td3"))
        own = {name: td3.pop(name) for name in ("low", "high", "seed")}
        noise = noises.from_config(config.pop("noise"))
        return cls(**own, **config, noise=noise, td3=td3)

    def get_state(self) -> tuple[Meta, Arrays]:
        meta, arrays = self.td3.get_state()
        arrays = inside("td3", arrays) | inside("noise", self.noise.arrays())
        arrays |= {"middle": self._middle, "spread": self._spread}
        state = {"rng": self._rng.bit_generator.state, "observed": self._observed}
        return {"td3": meta, **state}, arrays

    def set_state(self, meta: Meta, arrays: Arrays) -> None:
        self._rng = rng_from(meta["rng"])
        self._observed = int(meta["observed"])
        self._middle, self._spread = arrays["middle"], arrays["spread"]
        self.td3.set_state(meta["td3"], taken_out("td3", arrays))
        self.noise.restore(taken_out("noise", arrays))

    def _seen(self, states: Any) -> Any:
        return (states - self._middle) / self._spread

    def _choose(self, states: Any, noise: Any) -> Ints:
        sizes = self.td3.act(states)
        if self.noise_at == "start":
            sizes = sizes + noise
        short_list = self.walk.candidates(self.td3.range.rounded(sizes), self._rng)
        best = np.argmax(self.td3.values(states, short_list), axis=1)
        chosen = np.take_along_axis(short_list, best[:, None], axis=1)[:, 0]
        if self.noise_at == "choice":
            chosen = self.td3.range.rounded(chosen + noise)
        return chosen
