"""How well a model serves every id of its fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_eds.by_field import ByField


@dataclass(frozen=True, eq=False)
class IdQuality:
    """The mean score of the examples that carry each id of a field.

    Args:
        score: Shape `(input_dim,)`, higher is better; 0 without an example.
        examples: Shape `(input_dim,)`: how many examples carry each id, one that
            carries it several times counted as often.
    """

    score: np.ndarray
    examples: np.ndarray


class Qualities(ByField[IdQuality]):
    """The qualities of the ids of every field, by name."""

    kind = "keras_eds.id_quality"
    part = IdQuality
