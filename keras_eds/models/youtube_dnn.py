"""A deep network whose last hidden layer is the user, and its weights the items."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_eds.argument_checks import check_choice, check_integer
from keras_eds.models.all_ids import AllIds
from keras_eds.models.building_blocks import (
    check_arguments,
    embed_fields,
    seed_stream,
    tower,
)
from keras_eds.models.field_spec import FieldSpec

_SOFTMAXES = ("sampled", "full")
_LAYERS = {"item", "item_weights", "every_item", "user_tower", "vectors", "scores"}


def YouTubeDNN(
    fields: Sequence[FieldSpec],
    num_items: int,
    embedding_dim: int = 32,
    hidden_units: Sequence[int] = (64, 32),
    softmax: str = "sampled",
    dropout: float = 0.0,
    embeddings_l2: float = 0.0,
    seed: int | None = None,
    name: str = "youtube_dnn",
) -> keras.Model:
    """Build an uncompiled candidate generator.

    `score(u, i) = <h(u), w_i>`, `h = ReLU(.. ReLU([v_1, v_2, ..]))` from the
    vectors of `fields`, a multi-hot history of items as their mean; `w_i` are
    rows of the table `"item_weights"`, as wide as the last hidden layer. Serving
    needs no softmax: `model.get_layer("user_tower")` is a model from a dict of
    ids to `h`, and `keras_eds.retrieval.ExactIndex.of(model.get_layer(
    "item_weights"))` finds the items. Departures from the paper: negatives are
    drawn uniformly, which needs no weights; there is no example age and no
    softmax bias.

    Args:
        fields: What is known of the user, see `FM`: a history, the country, ...
        num_items: Items are `0 .. num_items - 1`.
        embedding_dim: Width of the vectors `v_f`, at least 1.
        hidden_units: Widths of the ReLU layers, at least one; the last is that
            of users and items.
        softmax: `"sampled"`: a further input `"item"`, `(batch, n)`, says which
            items are scored; for `SampledSoftmaxLoss` and batches of
            `keras_eds.datasets.Histories`. `"full"`: all items are, for
            `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`.
        dropout: Dropped fraction of each hidden layer, in [0, 1).
        embeddings_l2: Penalty on looked-up rows of `fields`, see `FM`.
        seed: Seed of all initial weights and dropout; `None` for Keras's own.
        name: Name of the model.

    Returns:
        A Functional model with output shape `(batch, n)` or `(batch, num_items)`.

    Raises:
        TypeError: If a field is something other than `FieldSpec`.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> history = FieldSpec("history", 21, multi_hot=True)
    >>> model = YouTubeDNN([history], num_items=20, seed=1)
    >>> model.get_layer("user_tower").output_shape
    (None, 32)

    Reference: Covington et al., Deep Neural Networks for YouTube
    Recommendations, RecSys 2016, section 3.
    """
    checked = check_arguments(
        fields, embedding_dim, hidden_units, dropout, embeddings_l2
    )
    items = check_integer("num_items", num_items)
    _check(checked, hidden_units, softmax)
    seeds = seed_stream(seed)
    inputs, rows = embed_fields(checked, embedding_dim, embeddings_l2, seeds)
    x = rows[0] if len(rows) == 1 else keras.layers.Concatenate(name="vectors")(rows)
    hidden = tower(x, hidden_units, dropout, seeds)
    user_tower = keras.Model(inputs, hidden, name="user_tower")

    weights = keras.layers.Embedding(
        items,
        hidden_units[-1],
        embeddings_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
        name="item_weights",
    )
    given = {
        key: keras.Input(value.shape[1:], name=key, dtype=value.dtype)
        for key, value in inputs.items()
    }
    user = user_tower(given)
    if softmax == "full":
        every = weights(AllIds(items, name="every_item")(user))
        return keras.Model(given, ops.matmul(user, ops.transpose(every)), name=name)
    given["item"] = keras.Input((None,), name="item", dtype="int32")
    chosen = weights(given["item"])
    scores = keras.layers.Dot(axes=(2, 1), name="scores")([chosen, user])
    return keras.Model(given, scores, name=name)


def _check(fields: Sequence[FieldSpec], units: Sequence[int], softmax: str) -> None:
    check_choice("softmax", softmax, _SOFTMAXES, "Use 'sampled' for many items.")
    if not units:
        raise ValueError(
            "`hidden_units` must have a layer, whose output is the user. Received: "
            "hidden_units=(). Use (64, 32)."
        )
    numbered = {f"{k}_{n}" for k in ("hidden", "dropout") for n in range(len(units))}
    taken = [field.name for field in fields if field.name in _LAYERS | numbered]
    if taken:
        raise ValueError(
            "`fields` must not be called like the model's own layers and its input "
            f"'item', the items to score. Received: {taken}. Call it 'history'."
        )
