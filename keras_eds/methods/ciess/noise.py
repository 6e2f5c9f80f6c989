"""Noise that makes an agent try sizes other than those it believes in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_number

Floats = npt.NDArray[np.float64]


class Noise(ABC):
    """Base of all noise: so many numbers, in sizes, for so many ids.

    Args:
        shared: Whether all ids get one and the same number, as in the published
            code (where users and items share it too). The paper's noise is
            drawn for every id. Defaults to False.
    """

    name: str

    def __init__(self, shared: bool = False) -> None:
        self.shared = bool(shared)
        self._last: Floats | None = None

    def draw(self, ids: int, rng: np.random.Generator) -> Floats:
        """Noise of shape `(ids,)`."""
        drawn = self._draw(1 if self.shared else ids, rng)
        return np.broadcast_to(drawn, (ids,))

    def reset(self) -> None:
        """Forgets what was drawn before, as at the start of an episode."""
        self._last = None

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain JSON values."""
        return {"shared": self.shared}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the next draw depends on, besides `rng`."""
        return {} if self._last is None else {"last": self._last}

    def restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Takes up where `arrays` were taken."""
        self._last = arrays.get("last")

    @abstractmethod
    def _draw(self, count: int, rng: np.random.Generator) -> Floats: ...


class GaussianNoise(Noise):
    """Independent draws of `N(0, std^2)`.

    Args:
        std: In sizes. Defaults to 6, as in the paper and its code.
        shared: See `Noise`.

    Example:

    >>> GaussianNoise(std=6.0).draw(3, np.random.default_rng(0)).shape
    (3,)

    Reference:
        Qu et al., SIGIR 2023, arXiv 2304.03501, section 3.3.
    """

    name = "gaussian"

    def __init__(self, std: float = 6.0, shared: bool = False) -> None:
        super().__init__(shared)
        self.std = check_number("std", std, least=0)

    def get_config(self) -> dict[str, Any]:
        return {"std": self.std, **super().get_config()}

    def _draw(self, count: int, rng: np.random.Generator) -> Floats:
        return rng.normal(0.0, self.std, count)


class UniformNoise(Noise):
    """Independent draws from `-bound` to `bound`.

    Args:
        bound: In sizes. The paper does not give it. Defaults to 11, that of the
            published code.
        shared: See `Noise`.

    Example:

    >>> UniformNoise(bound=11.0).draw(3, np.random.default_rng(0)).shape
    (3,)
    """

    name = "uniform"

    def __init__(self, bound: float = 11.0, shared: bool = False) -> None:
        super().__init__(shared)
        self.bound = check_number("bound", bound, least=0)

    def get_config(self) -> dict[str, Any]:
        return {"bound": self.bound, **super().get_config()}

    def _draw(self, count: int, rng: np.random.Generator) -> Floats:
        return rng.uniform(-self.bound, self.bound, count)


class OrnsteinUhlenbeckNoise(Noise):
    """Draws that drift: `x <- x - theta * x * dt + std * sqrt(dt) * N(0, 1)`.

    Every id has its own `x`, which starts at 0. The paper does not give the
    numbers: the defaults are those of the published code.

    Args:
        std: Defaults to 40.
        theta: How strongly `x` is pulled to 0. Defaults to 0.15.
        dt: Time between two draws. Defaults to 0.01.
        shared: See `Noise`.

    Raises:
        ValueError: If the number of ids changes without `reset()`.

    Example:

    >>> OrnsteinUhlenbeckNoise(std=40.0).draw(3, np.random.default_rng(0)).shape
    (3,)
    """

    name = "ornstein_uhlenbeck"

    def __init__(
        self,
        std: float = 40.0,
        theta: float = 0.15,
        dt: float = 0.01,
        shared: bool = False,
    ) -> None:
        super().__init__(shared)
        self.std = check_number("std", std, least=0)
        self.theta = check_number("theta", theta, least=0)
        self.dt = check_number("dt", dt, above=0)

    def get_config(self) -> dict[str, Any]:
        own = {"std": self.std, "theta": self.theta, "dt": self.dt}
        return {**own, **super().get_config()}

    def _draw(self, count: int, rng: np.random.Generator) -> Floats:
        x = np.zeros(count) if self._last is None else self._last
        if len(x) != count:
            raise ValueError(
                f"`ids` must be the same number at every draw. Received: ids={count} "
                f"after {len(x)}. Call reset() first."
            )
        step = self.std * np.sqrt(self.dt) * rng.normal(size=count)
        self._last = x - self.theta * self.dt * x + step
        return self._last


NOISES: dict[str, type[Noise]] = {
    kind.name: kind for kind in (GaussianNoise, UniformNoise, OrnsteinUhlenbeckNoise)
}


def get(noise: str | Noise) -> Noise:
    """Noise by name, or the object itself.

    Raises:
        ValueError: If there is no such noise.
    """
    if isinstance(noise, Noise):
        return noise
    if isinstance(noise, str) and noise in NOISES:
        return NOISES[noise]()
    raise ValueError(
        f"`noise` must be one of {sorted(NOISES)} or a Noise object. "
        f"Received: noise={noise!r}. Choose one, as in noise='gaussian'."
    )


def to_config(noise: Noise) -> dict[str, Any]:
    """Name and arguments, as plain JSON values."""
    return {"name": noise.name, **noise.get_config()}


def from_config(config: dict[str, Any]) -> Noise:
    """Noise from what `to_config` gave.

    Raises:
        ValueError: If it is none of this module's.
    """
    arguments = {name: value for name, value in config.items() if name != "name"}
    return type(get(config["name"]))(**arguments)
