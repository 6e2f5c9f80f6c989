"""Wide & Deep."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_eds.models.building_blocks import (
    check_arguments,
    dense,
    embed_fields,
    finish,
    seed_stream,
    tower,
)
from keras_eds.models.field_spec import FieldSpec
from keras_eds.models.first_order import FirstOrder
from keras_eds.models.split_first_order import SplitFirstOrder


def WideDeep(
    fields: Sequence[FieldSpec],
    embedding_dim: int = 16,
    hidden_units: Sequence[int] = (64, 64),
    dropout: float = 0.0,
    embeddings_l2: float = 0.0,
    output_activation: str | None = "sigmoid",
    seed: int | None = None,
    name: str = "wide_deep",
) -> keras.Model:
    """Build an uncompiled Wide & Deep model.

    `y = sigmoid(w_0 + sum_f w_f + MLP([v_1, v_2, ..]))`: a linear model of
    the ids beside a multi-layer perceptron on their vectors `v_f`. The wide
    weight `w_f` is column 0 of the same `keras.layers.Embedding` that holds
    `v_f` (`output_dim = embedding_dim + 1`): each field is one table, one
    lookup. Departure from the paper: no cross-product features; a user who
    wants one gives it as a field of its own.

    Args:
        fields: The inputs, see `FM`.
        embedding_dim: Width of the vectors `v_f`, at least 1.
        hidden_units: Widths of the perceptron's ReLU layers.
        dropout: Dropped fraction of each hidden layer, in [0, 1).
        embeddings_l2: Penalty on looked-up rows, see `FM`.
        output_activation: `"sigmoid"` for probabilities, `None` for logits.
        seed: Seed of all initial weights and dropout; `None` for Keras's own.
        name: Name of the model.

    Returns:
        A Functional model with output shape `(batch, 1)`.

    Raises:
        TypeError: If `fields` holds something other than `FieldSpec`.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> model = WideDeep([FieldSpec("user", 10), FieldSpec("item", 20)], seed=1)
    >>> model.output_shape
    (None, 1)

    Reference: Cheng et al., Wide & Deep Learning for Recommender Systems,
    DLRS 2016, section 3.
    """
    fields = check_arguments(
        fields, embedding_dim, hidden_units, dropout, embeddings_l2
    )
    seeds = seed_stream(seed)
    inputs, rows = embed_fields(fields, embedding_dim + 1, embeddings_l2, seeds)
    weights, factors = SplitFirstOrder(name="split_first_order")(rows)
    wide = FirstOrder(name="wide")(weights)
    flat = keras.layers.Flatten(name="factors")(factors)
    deep = tower(flat, hidden_units, dropout, seeds)
    # `FirstOrder` holds the bias of the sum.
    deep = dense(1, seeds, use_bias=False, name="deep")(deep)
    logit = keras.layers.Add(name="logit")([wide, deep])
    return finish(inputs, logit, output_activation, name)
