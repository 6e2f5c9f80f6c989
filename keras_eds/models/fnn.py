"""Factorisation-machine supported neural network."""

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


def FNN(
    fields: Sequence[FieldSpec],
    embedding_dim: int = 16,
    hidden_units: Sequence[int] = (64, 64),
    dropout: float = 0.0,
    embeddings_l2: float = 0.0,
    output_activation: str | None = "sigmoid",
    seed: int | None = None,
    name: str = "fnn",
) -> keras.Model:
    """Build an uncompiled FNN, whose tables are meant to start from an `FM`.

    `y = sigmoid(MLP([z_1, z_2, ..]))`, `z_f = [w_f, v_f]`: the perceptron reads
    the first-order weight `w_f` and the factors `v_f` of every field. Tables have
    the names and shapes of those of `FM(fields, embedding_dim)`: train that first,
    then `keras_eds.load_tables(fnn, fm)` takes over weights and factors.

    Departures from the paper: ReLU, as in the other models here, where it has
    tanh; the perceptron is drawn at random, not pre-trained layer by layer; the
    FM's global bias is left out of its input, since it has biases of its own.

    Args:
        fields: The inputs, see `FM`.
        embedding_dim: Width of the factors `v_f`, at least 1.
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

    >>> fields = [FieldSpec("user", 10), FieldSpec("item", 20)]
    >>> fm = keras_eds.models.FM(fields, 8)  # compile and fit it
    >>> fnn = keras_eds.load_tables(FNN(fields, 8), fm)
    >>> fnn.output_shape
    (None, 1)

    Reference: Zhang et al., Deep Learning over Multi-field Categorical Data: A
    Case Study on User Response Prediction, ECIR 2016, section 2.1.
    """
    fields = check_arguments(
        fields, embedding_dim, hidden_units, dropout, embeddings_l2
    )
    seeds = seed_stream(seed)
    inputs, rows = embed_fields(fields, embedding_dim + 1, embeddings_l2, seeds)
    x = rows[0] if len(rows) == 1 else keras.layers.Concatenate(name="vectors")(rows)
    x = tower(x, hidden_units, dropout, seeds)
    logit = dense(1, seeds, name="logit")(x)
    return finish(inputs, logit, output_activation, name)
