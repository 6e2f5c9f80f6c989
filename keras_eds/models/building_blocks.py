"""What the model functions share: inputs, tables, towers, arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_eds.argument_checks import check_integer, check_number
from keras_eds.models.field_spec import FieldSpec, check_fields
from keras_eds.models.looked_up_l2 import LookedUpL2
from keras_eds.models.masked_mean import MaskedMean

# Small factors start the interactions near zero, where logits are calibrated.
_EMBEDDINGS_STDDEV = 0.01


def check_arguments(
    fields: Sequence[FieldSpec],
    embedding_dim: int,
    hidden_units: Sequence[int] = (),
    dropout: float = 0.0,
    embeddings_l2: float = 0.0,
) -> tuple[FieldSpec, ...]:
    """Return the fields as a tuple, or refuse a bad argument of a model."""
    check_integer("embedding_dim", embedding_dim)
    for units in hidden_units:
        check_integer("hidden_units", units)
    check_number("dropout", dropout, least=0, below=1, remedy="0 is no dropout.")
    check_number("embeddings_l2", embeddings_l2, least=0, remedy="0 is no penalty.")
    return check_fields(fields)


def seed_stream(seed: int | None) -> Iterator[int | None]:
    """Yield one seed for each initializer; all `None` if `seed` is."""
    generator = None if seed is None else np.random.default_rng(seed)
    while True:
        yield None if generator is None else int(generator.integers(2**31 - 1))


def embed_fields(
    fields: Sequence[FieldSpec],
    width: int,
    embeddings_l2: float,
    seeds: Iterator[int | None],
) -> tuple[dict[str, Any], list[Any]]:
    """Make each field's input and table.

    Returns:
        The symbolic inputs by field name, and one `(batch, width)` tensor a
        field, in the order of `fields`.
    """
    inputs = {}
    rows = []
    for field in fields:
        shape = (None,) if field.multi_hot else ()
        ids = keras.Input(shape, name=field.name, dtype="int32")
        inputs[field.name] = ids
        table = keras.layers.Embedding(
            field.vocabulary_size,
            width,
            embeddings_initializer=keras.initializers.RandomNormal(
                stddev=_EMBEDDINGS_STDDEV, seed=next(seeds)
            ),
            mask_zero=field.multi_hot,
            name=field.embedding_name,
        )
        row = table(ids)
        if embeddings_l2:
            row = LookedUpL2(embeddings_l2, name=f"{field.name}_l2")(row)
        if field.multi_hot:
            row = MaskedMean(name=f"{field.name}_mean")(row)
        rows.append(row)
    return inputs, rows


def tower(
    x: Any,
    hidden_units: Sequence[int],
    dropout: float,
    seeds: Iterator[int | None],
) -> Any:
    """Stack ReLU layers, each followed by dropout, on `x`."""
    for index, units in enumerate(hidden_units):
        x = dense(units, seeds, activation="relu", name=f"hidden_{index}")(x)
        if dropout:
            x = keras.layers.Dropout(
                dropout, seed=next(seeds), name=f"dropout_{index}"
            )(x)
    return x


def dense(units: int, seeds: Iterator[int | None], **kwargs: Any) -> Any:
    """Return a seeded `Dense` layer."""
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return keras.layers.Dense(units, kernel_initializer=initializer, **kwargs)


def finish(
    inputs: dict[str, Any],
    logit: Any,
    output_activation: str | None,
    name: str,
) -> keras.Model:
    """Close a model: activation in float32, whatever the dtype policy."""
    output = keras.layers.Activation(
        output_activation or "linear", dtype="float32", name="output"
    )(logit)
    return functional(inputs, output, name)


def functional(inputs: dict[str, Any], output: Any, name: str) -> keras.Model:
    """A Functional model, unless a field is called like one of its layers."""
    try:
        return keras.Model(inputs, output, name=name)
    except ValueError as error:
        if "operation names should be unique" not in str(error):
            raise
        raise ValueError(
            "`fields` must not be called like the model's own layers or another "
            f"field's table. Received: {sorted(inputs)}. Keras says: {error} Give "
            "that field another name."
        ) from error
