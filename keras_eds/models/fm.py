"""Factorisation machine."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_eds.models.building_blocks import (
    check_arguments,
    embed_fields,
    finish,
    seed_stream,
)
from keras_eds.models.factorization_interaction import FactorizationInteraction
from keras_eds.models.field_spec import FieldSpec
from keras_eds.models.first_order import FirstOrder
from keras_eds.models.split_first_order import SplitFirstOrder


def FM(
    fields: Sequence[FieldSpec],
    embedding_dim: int = 16,
    embeddings_l2: float = 0.0,
    output_activation: str | None = "sigmoid",
    seed: int | None = None,
    name: str = "fm",
) -> keras.Model:
    """Build an uncompiled factorisation machine.

    `y = sigmoid(w_0 + sum_f w_f + sum_{f<g} <v_f, v_g>)`, where field `f`'s
    id picks the row `[w_f, v_f]` of its table. The first-order weight is
    column 0 of the same `keras.layers.Embedding` that holds the factors
    (`output_dim = embedding_dim + 1`): each field is one table, one lookup.

    Args:
        fields: The inputs. Data are a dict from field name to integer array,
            `(batch,)`, or `(batch, n)` padded with 0 if multi-hot. The table
            of a field is the layer `field.embedding_name`.
        embedding_dim: Width of the factors `v_f`, at least 1.
        embeddings_l2: Strength of the L2 penalty on the rows that a batch
            looks up: `embeddings_l2 * mean_b sum_f |[w_f, v_f]|^2`, added in
            training. Rows not looked up cost nothing, unlike with a
            regularizer on the whole table.
        output_activation: `"sigmoid"` for probabilities, `None` for logits.
        seed: Seed of all initial weights; `None` for Keras's own.
        name: Name of the model.

    Returns:
        A Functional model with output shape `(batch, 1)`.

    Raises:
        TypeError: If `fields` holds something other than `FieldSpec`.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> model = FM([FieldSpec("user", 10), FieldSpec("item", 20)], seed=1)
    >>> model.get_layer("user_embedding").output_dim
    17

    Reference: Rendle, Factorization Machines, ICDM 2010, section III.
    """
    fields = check_arguments(fields, embedding_dim, embeddings_l2=embeddings_l2)
    seeds = seed_stream(seed)
    inputs, rows = embed_fields(fields, embedding_dim + 1, embeddings_l2, seeds)
    weights, factors = SplitFirstOrder(name="split_first_order")(rows)
    first = FirstOrder(name="first_order")(weights)
    second = FactorizationInteraction(name="interaction")(factors)
    logit = keras.layers.Add(name="logit")([first, second])
    return finish(inputs, logit, output_activation, name)
