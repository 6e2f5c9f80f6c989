"""Two towers: query and candidate meet in one inner product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_eds.argument_checks import check_integer
from keras_eds.models.building_blocks import (
    check_arguments,
    dense,
    embed_fields,
    finish,
    functional,
    seed_stream,
    tower,
)
from keras_eds.models.field_spec import FieldSpec
from keras_eds.models.scaled_dot import ScaledDot
from keras_eds.models.unit_vector import UnitVector


def TwoTower(
    query_fields: Sequence[FieldSpec],
    candidate_fields: Sequence[FieldSpec],
    embedding_dim: int = 16,
    hidden_units: Sequence[int] = (64,),
    output_dim: int = 32,
    temperature: float = 1.0,
    normalize: bool = False,
    dropout: float = 0.0,
    embeddings_l2: float = 0.0,
    output_activation: str | None = "sigmoid",
    seed: int | None = None,
    name: str = "two_tower",
) -> keras.Model:
    """Build an uncompiled two-tower model.

    `y = sigmoid(<q, c> / temperature + b)`, `q = A MLP([v_1, v_2, ..]) + a`
    from the vectors of `query_fields`, and `c` likewise, with weights of its
    own, from those of `candidate_fields`. No layer sees both sides before the
    inner product, so that the candidates' vectors can be computed once and
    searched: `model.get_layer("query_tower")` and `"candidate_tower"` are
    models from a dict of ids to `(batch, output_dim)`. Departure from the
    paper: click-through labels and one output a pair, rather than a softmax
    over the batch.

    Args:
        query_fields: The inputs of the query tower (the user, the context),
            see `FM`. All data go into the model as one dict.
        candidate_fields: The inputs of the candidate tower (the item), under
            other names.
        embedding_dim: Width of the vectors `v_f`, at least 1.
        hidden_units: Widths of each tower's ReLU layers.
        output_dim: Width of `q` and `c`, at least 1.
        temperature: Divisor of the inner product, above 0.
        normalize: Whether to scale `q` and `c` to length 1. The logits then
            stay within `1 / temperature` of the bias: pass 0.1 or less.
        dropout: Dropped fraction of each hidden layer, in [0, 1).
        embeddings_l2: Penalty on looked-up rows, see `FM`.
        output_activation: `"sigmoid"` for probabilities, `None` for logits.
        seed: Seed of all initial weights and dropout; `None` for Keras's own.
        name: Name of the model.

    Returns:
        A Functional model with output shape `(batch, 1)`.

    Raises:
        TypeError: If a side holds something other than `FieldSpec`.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> model = TwoTower([FieldSpec("user", 10)], [FieldSpec("item", 20)], seed=1)
    >>> model.get_layer("candidate_tower").output_shape
    (None, 32)

    Reference: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large
    Corpus Item Recommendations, RecSys 2019, section 3.
    """
    sides = {
        side: check_arguments(
            fields, embedding_dim, hidden_units, dropout, embeddings_l2
        )
        for side, fields in (
            ("query_tower", query_fields),
            ("candidate_tower", candidate_fields),
        )
    }
    _check_names_differ(sides["query_tower"], sides["candidate_tower"])
    check_integer("output_dim", output_dim)
    seeds = seed_stream(seed)
    inputs: dict[str, Any] = {}
    outputs = []
    for side, fields in sides.items():
        encoder = _encoder(
            fields, embedding_dim, hidden_units, output_dim, normalize,
            dropout, embeddings_l2, seeds, side,
        )  # fmt: skip
        given = {
            key: keras.Input(x.shape[1:], name=key, dtype=x.dtype)
            for key, x in encoder.input.items()
        }
        inputs.update(given)
        outputs.append(encoder(given))
    logit = ScaledDot(temperature, name="logit")(outputs)
    return finish(inputs, logit, output_activation, name)


def _encoder(
    fields: Sequence[FieldSpec],
    embedding_dim: int,
    hidden_units: Sequence[int],
    output_dim: int,
    normalize: bool,
    dropout: float,
    embeddings_l2: float,
    seeds: Iterator[int | None],
    name: str,
) -> keras.Model:
    inputs, rows = embed_fields(fields, embedding_dim, embeddings_l2, seeds)
    x = rows[0] if len(rows) == 1 else keras.layers.Concatenate(name="vectors")(rows)
    x = tower(x, hidden_units, dropout, seeds)
    x = dense(output_dim, seeds, name="vector")(x)
    if normalize:
        x = UnitVector(name="unit_vector")(x)
    return functional(inputs, x, name)


def _check_names_differ(query: Sequence[FieldSpec], other: Sequence[FieldSpec]) -> None:
    shared = sorted({f.name for f in query} & {f.name for f in other})
    if shared:
        raise ValueError(
            "`candidate_fields` must have other names than `query_fields`. "
            f"Received: {shared} in both. Rename one, such as 'candidate_{shared[0]}'."
        )
