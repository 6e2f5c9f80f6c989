"""Bayesian personalised ranking."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_eds")
class BPRLoss(keras.losses.Loss):
    """Wants the item that was met above each item that was not.

    `loss = mean_{j: y_j=0} -log sigmoid(s_+ - s_j)` for each row, with `s` the
    scores in `y_pred`, `s_+` that of the one item whose label in `y_true` is
    1. Zero only if every difference is infinite; `log 2` for equal scores.

    Args:
        **kwargs: `name`, `reduction`, `dtype` of `keras.losses.Loss`.

    Shapes: `y_true` and `y_pred` are `(batch, 1 + n)`, one row a user, as
    `keras_eds.datasets.Triples` gives them.

    Example:

    >>> loss = BPRLoss()([[1.0, 0.0]], [[2.0, 2.0]])
    >>> round(float(loss), 4)
    0.6931

    Reference: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit
    Feedback, UAI 2009, section 4.1.
    """

    def __init__(self, name: str = "bpr", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.convert_to_tensor(y_pred)
        is_met = ops.cast(y_true, y_pred.dtype)
        met = ops.sum(is_met * y_pred, axis=-1, keepdims=True)
        losses = (1 - is_met) * ops.softplus(y_pred - met)
        return ops.sum(losses, axis=-1) / ops.sum(1 - is_met, axis=-1)
