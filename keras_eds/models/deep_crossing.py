"""Deep Crossing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_eds.models.building_blocks import (
    check_arguments,
    dense,
    embed_fields,
    finish,
    seed_stream,
)
from keras_eds.models.field_spec import FieldSpec


def DeepCrossing(
    fields: Sequence[FieldSpec],
    embedding_dim: int = 16,
    hidden_units: Sequence[int] = (64, 64),
    dropout: float = 0.0,
    embeddings_l2: float = 0.0,
    output_activation: str | None = "sigmoid",
    seed: int | None = None,
    name: str = "deep_crossing",
) -> keras.Model:
    """Build an uncompiled Deep Crossing model.

    `x_0 = [v_1, v_2, ..]`, `x_k = relu(x_{k-1} + A_k relu(B_k x_{k-1}))` and
    `y = sigmoid(w x_K + w_0)`: residual units on the concatenated vectors
    `v_f`. There is no first-order column: a table is `embedding_dim` wide.

    Args:
        fields: The inputs, see `FM`.
        embedding_dim: Width of the vectors `v_f`, at least 1.
        hidden_units: One residual unit each: the inner width, the rows of
            `B_k`. The outer width is `fields * embedding_dim`.
        dropout: Dropped fraction of each inner layer, in [0, 1).
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

    >>> fields = [FieldSpec("user", 10), FieldSpec("item", 20)]
    >>> DeepCrossing(fields, seed=1).get_layer("user_embedding").output_dim
    16

    Reference: Shan et al., Deep Crossing: Web-Scale Modeling without Manually
    Crafted Combinatorial Features, KDD 2016, section 5.
    """
    fields = check_arguments(
        fields, embedding_dim, hidden_units, dropout, embeddings_l2
    )
    seeds = seed_stream(seed)
    inputs, rows = embed_fields(fields, embedding_dim, embeddings_l2, seeds)
    x = keras.layers.Concatenate(name="vectors")(rows)
    for index, units in enumerate(hidden_units):
        x = _residual_unit(x, units, dropout, seeds, index)
    logit = dense(1, seeds, name="logit")(x)
    return finish(inputs, logit, output_activation, name)


def _residual_unit(
    x: Any, units: int, dropout: float, seeds: Iterator[int | None], index: int
) -> Any:
    inner = dense(units, seeds, activation="relu", name=f"inner_{index}")(x)
    if dropout:
        inner = keras.layers.Dropout(
            dropout, seed=next(seeds), name=f"dropout_{index}"
        )(inner)
    outer = dense(x.shape[-1], seeds, name=f"outer_{index}")(inner)
    total = keras.layers.Add(name=f"residual_{index}")([x, outer])
    return keras.layers.Activation("relu", name=f"unit_{index}")(total)
