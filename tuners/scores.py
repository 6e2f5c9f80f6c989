"""The scores of a model, named as in the logs of `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.errors import DataError
from keras_eds.tuners.fit_data import FitData, callback_list


def evaluate(model: keras.Model, data: FitData, objective: Any) -> dict[str, float]:
    """Every metric, named as in the logs of `fit`.

    Those of callbacks, too, that have a method `scores_of(model)`.

    Raises:
        DataError: If the objective is not among them.
    """
    validation = str(objective.name).startswith("val_")
    arguments = data.scored_on(validation)
    values = model.evaluate(**arguments, verbose=0, return_dict=True)
    prefix = "val_" if validation else ""
    arrays = {prefix + name: ops.convert_to_numpy(v) for name, v in values.items()}
    # A metric may be a vector, one number a class: it is no objective.
    scores = {name: float(v) for name, v in arrays.items() if np.ndim(v) == 0}
    for callback in callback_list(data.options.get("callbacks")):
        # What no metric of a batch can tell, such as a ranking of all items.
        if hasattr(callback, "scores_of"):
            scores.update(callback.scores_of(model))
    if not objective.has_value(scores):
        raise DataError(
            "`objective` must be one of the model's metrics. "
            f"Received: objective={objective.name!r}, but there are {sorted(scores)}. "
            "Choose one of these, or compile the model with that metric."
        )
    return scores
