"""Trains tables and the network above them at different frequencies."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import keras

from keras_eds.layers.lookup_layer import LookupLayer
from keras_eds.surgery import keras_private, keras_training

Frequency = int | Callable[[int], bool]
_TABLES = (keras.layers.Embedding, LookupLayer)


class UpdateSchedule(keras.callbacks.Callback):  # type: ignore[misc]
    """Freezes and thaws tables and the network above them, by epoch or by day.

    Tables are nearly all of a model, change slowly and cost most to update; the
    network is small and has to follow what is new. `tables=7, network=1` trains the
    network in every epoch and the tables in each seventh one, the first included.
    What is frozen has no gradient and keeps its values and what the optimizer
    remembers of it. Other layers that were frozen before stay so. Layers do what
    they do in training either way: `BatchNormalization` follows its batches.

    Args:
        tables: In which epochs tables are trained. `k`: in epochs 0, k, 2k, ...;
            0: never; a function: where it is true of the epoch's number. Defaults
            to 1: always.
        network: The same for all other layers. Defaults to 1.
        day: The number of a day, or a date, that counts in place of the epoch: for
            one `fit` a day, whose epochs are all of that day. With a date, every
            seventh day is a Sunday. Defaults to `None`: epochs count.

    Raises:
        ValueError: If an argument is out of range, if neither tables nor network
            would be trained, or, in `fit`, if the model or its optimizer does not
            allow it.

    Example:

    >>> thaw = UpdateSchedule(tables=lambda epoch: epoch >= 2)  # pre-trained tables
    >>> model.fit(x, y, epochs=6, callbacks=[thaw])
    >>> weekly = UpdateSchedule(tables=7, day=datetime.date.today())
    >>> model.fit(x_today, y_today, callbacks=[weekly])
    """

    def __init__(
        self,
        tables: Frequency = 1,
        network: Frequency = 1,
        day: int | datetime.date | None = None,
    ) -> None:
        super().__init__()
        self.tables = _checked("tables", tables)
        self.network = _checked("network", network)
        self.day = _number_of(day)
        self._parts: dict[str, list[keras.Variable]] = {}
        self._functions: dict[tuple[bool, bool], Any] = {}
        self._undo: Callable[[], None] | None = None
        if not callable(tables) and not callable(network) and 1 not in (
            tables, network
        ):  # fmt: skip
            raise ValueError(
                "`tables` or `network` must be 1: something has to be trained in every "
                f"epoch. Received: tables={tables}, network={network}. Leave epochs "
                "without training out of `fit`."
            )

    def on_train_begin(self, logs: Any = None) -> None:
        self.restore()  # a `fit` that failed has not ended
        model = self.model
        _check_trainable(model)
        tables = {
            id(variable)
            for layer in keras_private.all_layers(model)
            if isinstance(layer, _TABLES)
            for variable in layer.variables
        }
        trained = list(model.trainable_variables)
        self._parts = {
            "tables": [v for v in trained if id(v) in tables],
            "network": [v for v in trained if id(v) not in tables],
        }
        for name, variables in self._parts.items():
            if not variables:
                raise ValueError(
                    "`model` must have trainable tables and other trainable layers. "
                    f"Received: no variables of the {name}. Train it without this "
                    "callback."
                )
        if not model.optimizer.built:
            model.optimizer.build(trained)
        if self._functions.get((True, True)) is not model.train_function:
            self._functions = {(True, True): model.train_function}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        number = epoch if self.day is None else self.day
        trained = _due(self.tables, number), _due(self.network, number)
        self.restore()
        if not any(trained):
            raise ValueError(
                "`tables` or `network` must be trained in every epoch. Received: "
                f"neither in {number}. Change one of the functions."
            )
        self._train(trained)

    def on_train_end(self, logs: Any = None) -> None:
        self.restore()

    def restore(self) -> None:
        """Thaws everything. Of use after a `fit` that has failed."""
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _train(self, trained: tuple[bool, bool]) -> None:
        if all(trained):
            return
        model, whole = self.model, self._functions[True, True]
        frozen = self._parts["network" if trained[0] else "tables"]
        kept = self._parts["tables" if trained[0] else "network"]
        widen = keras_training.narrow_optimizer(model.optimizer, kept)
        for variable in frozen:
            variable.trainable = False

        def undo() -> None:
            for variable in frozen:
                variable.trainable = True
            widen()
            model.train_function = whole

        self._undo = undo
        # What is compiled knows which variables it trains.
        model.train_function = self._functions.get(trained)
        model.make_train_function()
        self._functions[trained] = model.train_function


def _checked(argument: str, frequency: Frequency) -> Frequency:
    whole = isinstance(frequency, int) and not isinstance(frequency, bool)
    if not callable(frequency) and (not whole or frequency < 0):
        raise ValueError(
            f"`{argument}` must be an integer of at least 0 or a function. "
            f"Received: {argument}={frequency!r}. Use 1 for every epoch, 0 for none."
        )
    return frequency


def _number_of(day: int | datetime.date | None) -> int | None:
    if isinstance(day, datetime.date):
        return day.toordinal()
    whole = isinstance(day, int) and not isinstance(day, bool)
    if day is not None and (not whole or day < 0):
        raise ValueError(
            "`day` must be a date, an integer of at least 0 or None. "
            f"Received: day={day!r}. Count days from the first one."
        )
    return day


def _due(frequency: Frequency, number: int) -> bool:
    if callable(frequency):
        return bool(frequency(number))
    return frequency > 0 and number % frequency == 0


def _check_trainable(model: keras.Model) -> None:
    optimizer = model.optimizer
    if not model.built:
        raise ValueError(
            "`model` must be built before parts of it are frozen. Received: an unbuilt "
            "model. Call it on one batch first."
        )
    # What scales the loss wraps the one that updates.
    updates = getattr(optimizer, "inner_optimizer", optimizer)
    if getattr(updates, "use_ema", False) or getattr(
        updates, "gradient_accumulation_steps", None
    ):
        raise ValueError(
            "The optimizer must update every variable in each step. Received: "
            f"{type(updates).__name__} with `use_ema` or "
            "`gradient_accumulation_steps`. Leave these out, or this callback."
        )
