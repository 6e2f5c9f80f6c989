"""The transitions that an agent learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer
from keras_eds.errors import DataError
from keras_eds.methods.ciess.saved_state import Arrays, Meta, rng_from
from keras_eds.methods.id_checks import check_rows

Floats = npt.NDArray[np.float32]


class Transitions(NamedTuple):
    """Rows of what was, what was done, what it gave, and what came next.

    Args:
        states: Shape `(rows, state_size)`.
        actions: Shape `(rows,)`, in sizes.
        rewards: Shape `(rows,)`.
        next_states: Shape `(rows, state_size)`.
    """

    states: Floats
    actions: Floats
    rewards: Floats
    next_states: Floats


class ReplayBuffer:
    """Holds the last `capacity` transitions and draws from them evenly.

    Args:
        capacity: Most transitions. The published code holds 100 for each id.
        state_size: Numbers in a state. Defaults to 3.
        seed: Of the draws. Defaults to 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> buffer = ReplayBuffer(capacity=1000, seed=1)
    >>> buffer.add([[0, 1, 1]], [64], [0.9], [[0, 0.5, 0.9]])
    >>> buffer.sample(4).states.shape
    (4, 3)
    """

    def __init__(self, capacity: int, state_size: int = 3, seed: int = 0) -> None:
        check_integer("capacity", capacity)
        check_integer("state_size", state_size)
        check_integer("seed", seed, 0)
        self.capacity = capacity
        self.state_size = state_size
        self._rng = np.random.default_rng([seed, 2])
        self._next = 0
        self._rows = np.empty((0, 2 * state_size + 2), np.float32)
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    def add(self, states: Any, actions: Any, rewards: Any, next_states: Any) -> None:
        """Appends transitions, over the oldest ones where there is no room.

        Args:
            states: Shape `(rows, state_size)`.
            actions: Shape `(rows,)`.
            rewards: Shape `(rows,)`.
            next_states: Shape `(rows, state_size)`.

        Raises:
            DataError: If a shape does not fit or a value is not finite.
        """
        columns = [check_rows("states", states, self.state_size)]
        rows = len(columns[0])
        columns += [
            check_rows("actions", actions, rows=rows)[:, None],
            check_rows("rewards", rewards, rows=rows)[:, None],
            check_rows("next_states", next_states, self.state_size, rows),
        ]
        added = np.concatenate(columns, axis=1, dtype=np.float32)
        # More than fits would overwrite itself.
        start = self._next + max(0, rows - self.capacity)
        added = added[-self.capacity :]
        places = np.arange(start, start + len(added)) % self.capacity
        self._grow(len(added))
        self._rows[places] = added
        self._next = (self._next + rows) % self.capacity
        self._filled = min(self._filled + rows, self.capacity)

    def sample(self, count: int) -> Transitions:
        """Draws transitions, with replacement.

        Raises:
            DataError: If there are none.
        """
        check_integer("count", count)
        if not self._filled:
            raise DataError(
                "A replay buffer must hold transitions before any are drawn. "
                "Received: an empty one. Call add(...) first."
            )
        rows = self._rows[self._rng.integers(0, self._filled, count)]
        size = self.state_size
        return Transitions(
            rows[:, :size], rows[:, size], rows[:, size + 1], rows[:, size + 2 :]
        )

    def get_state(self) -> tuple[Meta, Arrays]:
        """Plain JSON values and arrays from which `set_state` goes on."""
        meta = {"next": self._next, "rng": self._rng.bit_generator.state}
        return meta, {"rows": self._rows[: self._filled]}

    def set_state(self, meta: Meta, arrays: Arrays) -> None:
        """Takes up where `get_state` was called."""
        self._next = int(meta["next"])
        self._rng = rng_from(meta["rng"])
        self._rows = arrays["rows"].astype(np.float32)
        self._filled = len(self._rows)

    def _grow(self, added: int) -> None:
        """Room for what comes: memory is taken as it is needed."""
        needed = min(self._filled + added, self.capacity)
        if needed > len(self._rows):
            room = min(self.capacity, max(needed, 2 * len(self._rows)))
            grown = np.zeros((room, self._rows.shape[1]), np.float32)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
