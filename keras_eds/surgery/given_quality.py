"""Checks how well ids are served according to a function of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_eds.errors import DataError
from keras_eds.field import Field
from keras_eds.id_quality import IdQuality, Qualities


def given_quality(found: Any, fields: Sequence[Field]) -> Qualities:
    """Reads what a `quality` function gave for the tables of a model.

    Args:
        found: Has the quality of each id, at least 0, of shape `(input_dim,)`,
            under the name of every table.
        fields: The tables.

    Raises:
        DataError: If a table is missing, or its values cannot be qualities.

    Example:

    >>> given_quality({"user": np.ones(9)}, [Field("user", 9, 4)])["user"].score.sum()
    9.0
    """
    return Qualities({field.name: _of_field(found, field) for field in fields})


def _of_field(found: Any, field: Field) -> IdQuality:
    try:
        scores = np.asarray(found[field.name], np.float64)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            "`quality` must give numbers under the name of every table. Received: "
            f"{type(found).__name__} without numbers for {field.name!r} "
            f"({type(error).__name__}: {error}). Return "
            f"{{{field.name!r}: scores, ...}}."
        ) from error
    if scores.shape != (field.input_dim,):
        raise DataError(
            f"`quality` must give {field.input_dim} numbers for table {field.name!r}, "
            f"one for each id. Received: shape {scores.shape}. Return one array a "
            "table."
        )
    wrong = np.flatnonzero(~(np.isfinite(scores) & (scores >= 0)))
    if wrong.size:
        raise DataError(
            "`quality` must be finite and at least 0. Received: "
            f"{scores[wrong[0]]} for id {wrong[0]} of table {field.name!r}, one of "
            f"{wrong.size} that are not. Correct what the function returns."
        )
    return IdQuality(scores, np.ones(field.input_dim, np.int64))
