"""Saves an object's arguments and state to one file, without pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from keras_eds import archive

Meta = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]


class SavedState(ABC):
    """Base of what goes on, after it was read from a file, as if never stopped.

    A subclass gives `kind`, `get_config`, `get_state` and `set_state`.
    """

    kind: ClassVar[str]

    @abstractmethod
    def get_config(self) -> Meta:
        """The arguments, as plain JSON values."""

    @abstractmethod
    def get_state(self) -> tuple[Meta, Arrays]:
        """Plain JSON values and arrays from which `set_state` goes on exactly."""

    @abstractmethod
    def set_state(self, meta: Meta, arrays: Arrays) -> None:
        """Takes up where `get_state` was called, with the same arguments."""

    @classmethod
    def from_config(cls, config: Meta) -> Self:
        """An object with the arguments that `get_config` gave."""
        return cls(**config)

    def save(self, path: str | Path) -> None:
        """Writes arguments and state to one file, all or nothing."""
        meta, arrays = self.get_state()
        both = {"config": self.get_config(), "state": meta}
        archive.write(path, self.kind, both, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote; on the same backend it goes on bit for bit.

        Raises:
            FileNotFoundError: If there is no such file.
            PlanError: If the file is damaged, or of another kind.
        """
        both, arrays = archive.read(path, cls.kind)
        restored = cls.from_config(both["config"])
        restored.set_state(both["state"], arrays)
        return restored


def inside(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays, named with a prefix."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def taken_out(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays that `inside` named, by their names before."""
    start = f"{prefix}/"
    found = {name: a for name, a in arrays.items() if name.startswith(start)}
    return {name.removeprefix(start): array for name, array in found.items()}


def rng_from(state: Meta) -> np.random.Generator:
    """A generator that goes on where `rng.bit_generator.state` was taken."""
    rng = np.random.default_rng(0)
    rng.bit_generator.state = state
    return rng
