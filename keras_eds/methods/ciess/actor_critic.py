"""The networks of an agent: an actor, twin critics, and their slow targets."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from keras_eds.argument_checks import check_integer, check_number
from keras_eds.layers.masked_twin_checks import check_hidden_units

Floats = npt.NDArray[np.float32]
ROWS_AT_ONCE = 16384
LAST_LAYER = 0.003


class ActorCritic:
    """Networks that act and judge, and the training of both.

    The actor maps a state `s` to `a = tanh(f(s))`, from -1 to 1; each critic maps
    `(s, a)` to a value `Q(s, a)`. The critics learn targets `y` by the loss
    `mean((Q1 - y)^2) + mean((Q2 - y)^2)`, the actor by `-mean(Q1(s, a(s)))` through
    a frozen copy of the first critic. Both are trained by Keras, which knows the
    gradients of every backend.

    All weights are float32, whatever Keras's policy is. They are drawn in NumPy,
    the same on every backend: uniformly to `1 / sqrt(inputs)`, the actor's last
    layer to 0.003. (The published code leaves that layer's bias larger.)

    Args:
        state_size: Numbers in a state. Defaults to 3.
        hidden_units: Widths of the hidden layers. Defaults to (256, 256).
        actor_learning_rate: Of Adam. Defaults to 1e-3.
        critic_learning_rate: Of Adam. Defaults to 3e-3.
        clipnorm: Largest norm of all gradients of a network together; `None`
            clips nothing. Defaults to 0.01.
        seed: Of the weights. Defaults to 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> networks = ActorCritic(hidden_units=(16,), seed=1)
    >>> networks.actions(np.zeros((4, 3))).shape
    (4,)
    """

    def __init__(
        self,
        state_size: int = 3,
        hidden_units: tuple[int, ...] = (256, 256),
        actor_learning_rate: float = 1e-3,
        critic_learning_rate: float = 3e-3,
        clipnorm: float | None = 0.01,
        seed: int = 0,
    ) -> None:
        check_integer("state_size", state_size)
        hidden = check_hidden_units(hidden_units)
        check_number("actor_learning_rate", actor_learning_rate, above=0)
        check_number("critic_learning_rate", critic_learning_rate, above=0)
        if clipnorm is not None:
            check_number("clipnorm", clipnorm, above=0)
        check_integer("seed", seed, 0)
        self.actor = _mlp("actor", state_size, hidden, "tanh")
        self.actor_target = _mlp("actor_target", state_size, hidden, "tanh")
        self.first = _mlp("critic_1", state_size + 1, hidden)
        second = _mlp("critic_2", state_size + 1, hidden)
        self.critics = _side_by_side("critics", self.first, second)
        self.critics_target = _side_by_side(
            "critics_target",
            _mlp("critic_1_target", state_size + 1, hidden),
            _mlp("critic_2_target", state_size + 1, hidden),
        )
        self._frozen = _mlp("critic_1_frozen", state_size + 1, hidden)
        self._frozen.trainable = False
        self._ascent = _judged(self.actor, self._frozen)
        rng = np.random.default_rng(seed)
        _draw(self.actor, rng, LAST_LAYER)
        for critic in (self.first, second):
            _draw(critic, rng)
        _compile(self.critics, _squared_errors, critic_learning_rate, clipnorm)
        _compile(self._ascent, _negative, actor_learning_rate, clipnorm)
        self.follow_actor(1.0)
        self.follow_critics(1.0)

    def actions(self, states: Any, target: bool = False) -> Floats:
        """The actor's choices, from -1 to 1, of shape `(rows,)`."""
        actor = self.actor_target if target else self.actor
        return _in_blocks(actor, np.asarray(states, np.float32))[:, 0]

    def values(self, states: Any, actions: Any) -> Floats:
        """The first critic's values, of shape `(rows,)`."""
        return _in_blocks(self.first, _pairs(states, actions))[:, 0]

    def target_values(self, states: Any, actions: Any) -> Floats:
        """The lesser value of both target critics, of shape `(rows,)`."""
        both = _in_blocks(self.critics_target, _pairs(states, actions))
        return np.minimum(both[:, 0], both[:, 1])

    def train_critics(self, states: Any, actions: Any, targets: Any) -> float:
        """Takes one step towards `targets` and returns the loss before it."""
        twice = np.column_stack([targets, targets]).astype(np.float32)
        return _train(self.critics, _pairs(states, actions), twice)

    def train_actor(self, states: Any) -> float:
        """Takes one step up the first critic and returns the loss before it."""
        _copy(self.first, self._frozen, 1.0)
        states = np.asarray(states, np.float32)
        return _train(self._ascent, states, np.zeros((len(states), 1), np.float32))

    def follow_actor(self, tau: float) -> None:
        """Moves the target actor: `target <- tau * actor + (1 - tau) * target`."""
        _copy(self.actor, self.actor_target, tau)

    def follow_critics(self, tau: float) -> None:
        """Moves the target critics in the same way."""
        _copy(self.critics, self.critics_target, tau)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All weights, targets and optimizer variables."""
        return {name: _numpy(v) for name, v in self._variables().items()}

    def restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Takes back what `arrays` gave."""
        for name, variable in self._variables().items():
            variable.assign(np.array(arrays[name], copy=True))

    def _variables(self) -> dict[str, Any]:
        holders = {
            "actor": self.actor.weights,
            "actor_target": self.actor_target.weights,
            "critics": self.critics.weights,
            "critics_target": self.critics_target.weights,
            "actor_optimizer": self._ascent.optimizer.variables,
            "critics_optimizer": self.critics.optimizer.variables,
        }
        return {
            f"{holder}/{number}": variable
            for holder, variables in holders.items()
            for number, variable in enumerate(variables)
        }


def _mlp(
    name: str, inputs: int, hidden: tuple[int, ...], last: str | None = None
) -> keras.Model:
    # Weights are drawn elsewhere; names are given, and zeros taken, so that
    # neither Keras's counters of names nor its global seed move.
    x = given = _input(name, inputs)
    for number, units in enumerate((*hidden, 1)):
        x = layers.Dense(
            units,
            activation="relu" if number < len(hidden) else last,
            kernel_initializer="zeros",
            dtype="float32",
            name=f"{name}_dense_{number}",
        )(x)
    return _model(given, x, name)


def _side_by_side(name: str, first: keras.Model, second: keras.Model) -> keras.Model:
    given = _input(name, first.input_shape[-1])
    join = layers.Concatenate(dtype="float32", name=f"{name}_both")
    return _model(given, join([first(given), second(given)]), name)


def _judged(actor: keras.Model, critic: keras.Model) -> keras.Model:
    given = _input("judged_actor", actor.input_shape[-1])
    join = layers.Concatenate(dtype="float32", name="judged_actor_pair")
    return _model(given, critic(join([given, actor(given)])), "judged_actor")


def _input(name: str, width: int) -> Any:
    return keras.Input((width,), dtype="float32", name=f"{name}_input")


def _model(inputs: Any, outputs: Any, name: str) -> keras.Model:
    model = keras.Model(inputs, outputs, name=name)
    # JAX knows nothing between this and one operation at a time.
    model.jit_compile = keras.backend.backend() == "jax"
    return model


def _draw(
    model: keras.Model, rng: np.random.Generator, last: float | None = None
) -> None:
    drawn = []
    kernels = model.get_weights()[::2]
    for number, kernel in enumerate(kernels):
        bound = 1 / np.sqrt(len(kernel))
        if last is not None and number == len(kernels) - 1:
            bound = last
        drawn += [rng.uniform(-bound, bound, kernel.shape)]
        drawn += [rng.uniform(-bound, bound, kernel.shape[1:])]
    model.set_weights(drawn)


def _compile(model: keras.Model, loss: Any, rate: float, clip: float | None) -> None:
    # The epsilon of PyTorch, that of the published code.
    optimizer = keras.optimizers.Adam(
        rate, epsilon=1e-8, global_clipnorm=clip, name=f"{model.name}_adam"
    )
    model.compile(optimizer, loss, jit_compile=model.jit_compile)
    optimizer.build(model.trainable_variables)


def _squared_errors(targets: Any, values: Any) -> Any:
    return ops.sum(ops.square(values - targets), axis=-1)


def _negative(targets: Any, values: Any) -> Any:
    del targets
    return -ops.squeeze(values, -1)


def _train(model: keras.Model, inputs: Floats, targets: Floats) -> float:
    model.reset_metrics()
    return float(model.train_on_batch(inputs, targets))


def _in_blocks(model: keras.Model, rows: Floats) -> Floats:
    # Filled up to a power of two: what is compiled is compiled for few shapes.
    block = min(ROWS_AT_ONCE, 1 << max(len(rows) - 1, 0).bit_length())
    spare = -len(rows) % block
    filled = np.concatenate([rows, np.zeros((spare, rows.shape[1]), rows.dtype)])
    starts = range(0, len(filled), block)
    parts = [model.predict_on_batch(filled[start : start + block]) for start in starts]
    return np.concatenate([np.asarray(part) for part in parts])[: len(rows)]


def _pairs(states: Any, actions: Any) -> Floats:
    return np.column_stack([states, actions]).astype(np.float32, copy=False)


def _copy(source: keras.Model, target: keras.Model, tau: float) -> None:
    for here, there in zip(source.weights, target.weights, strict=True):
        new = _numpy(here)
        there.assign(new if tau == 1 else tau * new + (1 - tau) * _numpy(there))


def _numpy(variable: Any) -> npt.NDArray[Any]:
    # A view would see later steps, or hold memory that JAX wants to reuse.
    return np.array(ops.convert_to_numpy(variable), copy=True)
