"""Softmax over the item that was met and some that were not."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_eds.argument_checks import check_number


@keras.saving.register_keras_serializable(package="keras_eds")
class SampledSoftmaxLoss(keras.losses.Loss):
    """Wants the item that was met to win against all of the others at once.

    `loss = -log(exp(s_+ / t) / sum_j exp(s_j / t))` for each row, with `s` the
    scores in `y_pred`, `s_+` that of the item whose label in `y_true` is 1,
    and `t = temperature`. The negatives must be uniform draws: no correction
    for popularity is made, or needed then.

    Args:
        temperature: Divisor of the scores, above 0. Defaults to 1.
        **kwargs: `name`, `reduction`, `dtype` of `keras.losses.Loss`.

    Shapes: `y_true` and `y_pred` are `(batch, 1 + n)`, one row a user, as
    `keras_eds.datasets.Triples` gives them with `negatives=n`.

    Raises:
        ValueError: If `temperature` is not above 0.

    Example:

    >>> loss = SampledSoftmaxLoss()([[1.0, 0.0, 0.0]], [[2.0, 2.0, 2.0]])
    >>> round(float(loss), 4)
    1.0986

    Reference: Wu et al., On the Effectiveness of Sampled Softmax Loss for Item
    Recommendation, TOIS 2024.
    """

    def __init__(
        self, temperature: float = 1.0, name: str = "sampled_softmax", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.temperature = check_number("temperature", temperature, above=0)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        scores = ops.convert_to_tensor(y_pred) / self.temperature
        chosen = ops.sum(ops.cast(y_true, scores.dtype) * scores, axis=-1)
        return ops.logsumexp(scores, axis=-1) - chosen

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
