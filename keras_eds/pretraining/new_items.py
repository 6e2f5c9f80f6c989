"""Vectors for items that no training has seen yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_eds.errors import DataError

# Penalties that a ridge regression chooses among.
PENALTIES = tuple(10.0**power for power in range(-2, 5))


def mean_of_similar(vectors: Any, similar: Any, weights: Any = None) -> np.ndarray:
    """The mean of the vectors of similar items, for each new item.

    `v = sum_j w_j v_j / sum_j w_j` over the items j that are known to be like the
    new one: of the same series, genre or seller, or nearest by content.

    Args:
        vectors: The vectors of known items, shape `(items, dim)`.
        similar: Row numbers of the similar ones, shape `(..., n)`.
        weights: How much each counts, shape `(..., n)`, at least 0; 0 leaves one
            out. Popular items have the better vectors. Defaults to `None`: alike.

    Returns:
        Shape `(..., dim)`, float32.

    Raises:
        DataError: If shapes or row numbers do not fit, a value is not finite, or an
            item has no similar one.

    Example:

    >>> table = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    >>> mean_of_similar(table, [1, 2]).tolist()
    [2.0, 3.0]
    """
    known = _matrix("vectors", vectors)
    rows = np.asarray(similar)
    fits = rows.ndim and rows.size and rows.dtype.kind in "iu"
    if not fits or rows.min() < 0 or rows.max() >= len(known):
        raise DataError(
            f"`similar` must hold row numbers from 0 to {len(known) - 1}, at least one "
            f"for each new item. Received: shape {rows.shape}, dtype {rows.dtype}. "
            "Leave out items without a vector."
        )
    shares = np.ones(rows.shape) if weights is None else _weights(weights)
    if shares.shape != rows.shape or not (shares >= 0).all():
        raise DataError(
            f"`weights` must be numbers of at least 0 of shape {rows.shape}. "
            f"Received: shape {shares.shape}. Give one for each of `similar`."
        )
    total = shares.sum(axis=-1, keepdims=True)
    if not (np.isfinite(total) & (total > 0)).all():
        raise DataError(
            "`weights` must have a finite sum above 0 for each new item. "
            f"Received: {total.min()}. Give a similar item a weight."
        )
    means = (known[rows] * (shares / total)[..., None]).sum(axis=-2)
    return np.asarray(means, "float32")


def vectors_from_content(
    vectors: Any, content: Any, new_content: Any, weights: Any = None
) -> np.ndarray:
    """A vector for each new item, from what is known about its content.

    A ridge regression from content features to vectors, learned on the known
    items: `min_(A, b) sum_i w_i |v_i - A x_i - b|^2 + penalty |A|^2`, the penalty
    chosen by leaving out one item at a time. It is closed form: no model is trained.

    Args:
        vectors: The vectors v of known items, shape `(items, dim)`.
        content: Their features x, shape `(items, features)`, such as genres as 0
            and 1, the year, or a text's vector. Scale them alike.
        new_content: The features of new items, shape `(new, features)`.
        weights: How much each known item counts, shape `(items,)`, such as how
            often it was seen. Defaults to `None`: alike.

    Returns:
        Shape `(new, dim)`, float32.

    Raises:
        DataError: If shapes do not fit, a value is not finite or no item counts.
        ImportError: If scikit-learn is not installed.

    Example:

    >>> genres = np.eye(2)[[0, 0, 1, 1]]
    >>> table = np.array([[1.0], [1.2], [-1.0], [-1.2]])
    >>> vector = vectors_from_content(table, genres, np.eye(2)[[1]])[0]
    >>> round(float(vector[0]), 1)
    -1.1

    Reference:
        Gantner et al., Learning Attribute-to-Feature Mappings for Cold-Start
        Recommendations, ICDM 2010, section III.
    """
    known, x = _matrix("vectors", vectors), _matrix("content", content)
    new = _matrix("new_content", new_content)
    counts = np.ones(len(known)) if weights is None else _weights(weights)
    if len(known) < 2:
        raise DataError(
            "`vectors` must be of at least 2 items, to learn from one what the other "
            f"is checked on. Received: {len(known)}. Use `mean_of_similar`."
        )
    allowed = counts.ndim == 1 and (np.isfinite(counts) & (counts >= 0)).all()
    if not allowed or not counts.sum() > 0:
        raise DataError(
            "`weights` must be a vector of finite numbers of at least 0, not all 0. "
            f"Received: shape {counts.shape}, least {counts.min(initial=np.inf)}, sum "
            f"{counts.sum()}. Use counts, or None."
        )
    if not len(known) == len(x) == len(counts) or x.shape[1] != new.shape[1]:
        raise DataError(
            "`content` and `weights` must have a row for each of `vectors`, and "
            "`new_content` the features of `content`. Received: shapes "
            f"{known.shape}, {x.shape}, {counts.shape} and {new.shape}. Give the same "
            "items in the same order."
        )
    return np.asarray(_ridge(x, known, counts).predict(new), "float32").reshape(
        len(new), known.shape[1]
    )


def _ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Any:
    try:
        from sklearn.linear_model import RidgeCV
    except ImportError as error:
        raise ImportError(
            "`vectors_from_content` needs scikit-learn, which is not installed. "
            "Run: pip install scikit-learn. Or use `mean_of_similar`."
        ) from error
    return RidgeCV(alphas=PENALTIES).fit(x, y, sample_weight=weights)


def _weights(values: Any) -> np.ndarray:
    try:
        return np.asarray(values, "float64")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"`weights` must be numbers. Received: {values!r} ({error}). Use counts, "
            "or None."
        ) from error


def _matrix(argument: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values, "float64")
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise DataError(
            f"`{argument}` must be a matrix of finite numbers, a row for each item. "
            f"Received: shape {np.shape(values)}. Drop or repair rows with NaN."
        )
    return array
