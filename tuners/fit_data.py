"""What `search` was given, in the shapes that `fit` and `evaluate` want."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_eds.errors import DataError
from keras_eds.surgery import keras_training
from keras_eds.surgery.batches import read_batches

_DATA = ("x", "y", "sample_weight", "batch_size", "class_weight", "shuffle")
_REREAD = (
    "A search reads it several times: pass arrays, a tf.data.Dataset or a PyDataset."
)


@dataclass(frozen=True)
class FitData:
    """The arguments of `fit`, taken apart.

    Args:
        training: `x`, `y`, `sample_weight`, `batch_size`, ...
        validation: `x`, `y`, `sample_weight`, `batch_size`, `steps`; None
            without validation data.
        options: All other arguments of `fit`: `epochs`, `callbacks`, ...
    """

    training: dict[str, Any]
    validation: dict[str, Any] | None
    options: dict[str, Any]

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> FitData:
        """Takes what `by_name` returned apart.

        Raises:
            DataError: If there is no data, or it can be read only once.
        """
        given = dict(arguments)
        if given.get("x") is None:
            raise DataError(
                "`x` must be given. Received: x=None. "
                "Call search(x, y, validation_data=..., epochs=...)."
            )
        training = {k: given.pop(k) for k in _DATA if k in given}
        if _is_data_set(training["x"]):
            # It shuffles itself; Keras would warn that it does not.
            training.setdefault("shuffle", False)
        validation = _validation(training, given)
        for name, data in (("x", training), ("validation_data", validation)):
            _refuse_one_shot(name, (data or {}).get("x"))
        return cls(training, validation, given)

    @property
    def inspected(self) -> dict[str, Any]:
        """The data without what only training needs."""
        return {k: v for k, v in self.training.items() if k in _DATA[:4]}

    @property
    def inspected_validation(self) -> dict[str, Any]:
        """The validation data without what only `evaluate` needs."""
        return {k: v for k, v in (self.validation or {}).items() if k in _DATA[:4]}

    def measured_on(self, which: str) -> dict[str, Any]:
        """What `surgery.measure` takes: the training or the validation data.

        Raises:
            DataError: If there is no validation data.
        """
        if which == "train":
            return dict(self.training)
        if self.validation is None:
            raise DataError(
                "`validation_data` must be given to measure on it. Received: none. "
                "Pass validation_data, or a method that measures on data='train'."
            )
        return {k: v for k, v in self.validation.items() if k in _DATA}

    def scored_on(self, validation: bool) -> dict[str, Any]:
        """The arguments of `evaluate`."""
        if validation:
            if self.validation is None:
                raise DataError(
                    "`validation_data` must be given for an objective that starts "
                    "with 'val_'. Received: no validation data. Pass "
                    "validation_data, or search with an objective like 'loss'."
                )
            return dict(self.validation)
        data = {k: v for k, v in self.training.items() if k in _DATA[:4]}
        if "steps_per_epoch" in self.options:
            data["steps"] = self.options["steps_per_epoch"]
        return data

    def check(self, model: keras.Model) -> None:
        """Refuses data without examples or without labels.

        Raises:
            DataError: If there is nothing to learn from.
        """
        for name, data in (("x", self.training), ("validation_data", self.validation)):
            if data is not None:
                _check_batch(name, _first_batch(name, data), model)


def by_name(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `fit`, each under its name.

    Raises:
        DataError: If they cannot be arguments of `fit`.
    """
    try:
        bound = inspect.signature(keras.Model.fit).bind(None, *args, **kwargs)
    except TypeError as error:
        raise DataError(
            "`search` takes the arguments of keras.Model.fit. "
            f"Received: arguments that `fit` refuses ({error}). "
            "Call search(x, y, validation_data=..., epochs=...)."
        ) from error
    return {k: v for k, v in bound.arguments.items() if k != "self"}


def callback_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    """What `callbacks` of `fit` may be, as a list."""
    found = keras.tree.flatten(callbacks)
    return [callback for callback in found if callback is not None]


def copies_of(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Copies of callbacks, since each stage trains another model.

    Raises:
        DataError: If one cannot be copied.
    """
    originals = callback_list(callbacks)
    # A callback that was used before holds the model that it was used on.
    memo: dict[int, Any] = {id(getattr(c, "_model", None)): None for c in originals}
    try:
        return list(copy.deepcopy(originals, memo))
    except Exception as error:
        raise DataError(
            "`callbacks` must be deep-copyable, since each stage of a search gets "
            f"copies. Received: {originals!r}, which raised "
            f"{type(error).__name__}: {error}. Open files and locks in "
            "on_train_begin, not in __init__."
        ) from error


def _is_data_set(x: Any) -> bool:
    """Whether `x` is a tf.data.Dataset or a DataLoader."""
    whole = keras.tree.flatten(x)
    other = isinstance(x, keras.utils.PyDataset) or hasattr(x, "shape")
    return len(whole) == 1 and whole[0] is x and not other


def _validation(
    training: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any] | None:
    data = given.pop("validation_data", None)
    split = given.pop("validation_split", 0.0)
    batch_size = given.pop("validation_batch_size", None) or training.get("batch_size")
    steps = given.pop("validation_steps", None)
    if data is None and split:
        data = _split(training, split)
    if data is None:
        return None
    names = ("x", "y", "sample_weight")
    arrays = isinstance(data, tuple | list)
    validation = dict(zip(names, data, strict=False)) if arrays else {"x": data}
    if batch_size is not None and arrays:
        validation["batch_size"] = batch_size
    if steps is not None:
        validation["steps"] = steps
    return validation


def _split(training: dict[str, Any], split: float) -> tuple[Any, ...]:
    """Cuts the last `split` of the arrays off, as Keras does."""
    arrays = {k: training.get(k) for k in ("x", "y", "sample_weight")}
    flat = [leaf for leaf in keras.tree.flatten(arrays) if leaf is not None]
    if not 0 < split < 1 or not all(hasattr(leaf, "shape") for leaf in flat):
        raise DataError(
            "`validation_split` must be in (0, 1), and the data arrays. Received: "
            f"validation_split={split}. Give validation_data instead."
        )
    border = int(np.floor(flat[0].shape[0] * (1.0 - split)))

    def cut(part: slice) -> dict[str, Any]:
        return dict(
            keras.tree.map_structure(
                lambda leaf: None if leaf is None else leaf[part], arrays
            )
        )

    last = cut(slice(border, None))
    training.update({k: v for k, v in cut(slice(border)).items() if v is not None})
    return last["x"], last["y"], last["sample_weight"]


def _refuse_one_shot(name: str, data: Any) -> None:
    if isinstance(data, Iterator) or inspect.isgenerator(data):
        raise DataError(
            f"`{name}` must be data that can be read again. "
            f"Received: {type(data).__name__}, which is exhausted after one pass. "
            f"{_REREAD}"
        )


def _first_batch(name: str, data: dict[str, Any]) -> Any:
    try:
        batches, number = read_batches(data)
        batch = None if number == 0 else next(batches, None)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise DataError(
            f"`{name}` must be data that Keras can read. Received: {error} {_REREAD}"
        ) from error
    leaves = [] if batch is None else keras.tree.flatten(batch)
    # Sparse and ragged tensors have a shape, but no length.
    shape = leaves[0].shape if leaves else (0,)
    if len(shape) and not shape[0]:
        raise DataError(
            f"`{name}` must hold at least one example. Received: no batch. {_REREAD}"
        )
    return batch


def _check_batch(name: str, batch: Any, model: keras.Model) -> None:
    labelled = isinstance(batch, tuple | list) and len(batch) > 1
    labelled = labelled and batch[1] is not None
    if keras_training.compiled_loss_exists(model) and not labelled:
        raise DataError(
            f"`{name}` must come with labels, since the model has a loss. Received: "
            "inputs without labels. Pass y, or a data set of (x, y) pairs."
        )
