"""Triples as a `tf.data` pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_eds.argument_checks import check_integer
from keras_eds.datasets.pairs import Pairs
from keras_eds.datasets.unseen_items import UnseenItems

if TYPE_CHECKING:
    import tensorflow as tf


def triple_stream(
    pairs: Pairs,
    batch_size: int = 2048,
    negatives: int = 1,
    seed: int = 0,
) -> tf.data.Dataset:
    """Make the batches of `Triples` inside TensorFlow, in parallel with `fit`.

    An epoch is every interaction once, in a new order, with new draws. The
    draws are TensorFlow's, other than those of `Triples`.

    Args:
        pairs: What users have met: the training part.
        batch_size: Rows of a batch; the last batch of an epoch may have
            fewer.
        negatives: How many items that were not met stand beside each one met.
        seed: Seed of the order and of all draws; TensorFlow's global seed has
            no part in them.

    Returns:
        A `tf.data.Dataset`, one epoch long, each time different: a stream
        made with the same seed gives the same epochs in the same order.

    Raises:
        DataError: If a user has met all items.
        ImportError: If TensorFlow is not installed.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> pairs = Pairs.of([0, 0, 1], [0, 1, 2], num_users=2, num_items=4)
    >>> x, y = next(iter(triple_stream(pairs, batch_size=2)))
    >>> x["item"].shape
    TensorShape([2, 2])
    """
    import tensorflow as tf

    size = check_integer("batch_size", batch_size)
    columns = check_integer("negatives", negatives)
    draw = _draws(UnseenItems(pairs))
    users, items = tf.constant(pairs.users), tf.constant(pairs.items)
    count = len(pairs)
    steps = -(-count // size)

    def batch(epoch_seed: Any, step: Any) -> Any:
        places = tf.range(step * size, tf.minimum((step + 1) * size, count))
        rows = tf.random.experimental.index_shuffle(
            places, tf.stack([epoch_seed, tf.zeros_like(step)]), max_index=count - 1
        )
        chosen = tf.gather(users, rows)
        repeated = tf.repeat(chosen[:, None], columns, axis=1)
        drawn = draw(repeated, tf.stack([epoch_seed, step]))
        met = tf.gather(items, rows)[:, None]
        labels = tf.one_hot(tf.zeros_like(chosen), 1 + columns)
        return {"user": chosen, "item": tf.concat([met, drawn], axis=1)}, labels

    epochs = _epoch_seeds(seed)
    stream = epochs.take(1).flat_map(
        lambda epoch_seed: tf.data.Dataset.range(steps).map(
            lambda step: batch(epoch_seed, step), num_parallel_calls=tf.data.AUTOTUNE
        )
    )
    stream = stream.apply(tf.data.experimental.assert_cardinality(steps))
    return stream.prefetch(tf.data.AUTOTUNE)


def _epoch_seeds(seed: int) -> Any:
    """`tf.data.Dataset.random`, which would mix the global seed in."""
    import tensorflow as tf

    variant = tf.raw_ops.RandomDatasetV2(
        # 0 and 0 would stand for a seed of TensorFlow's choice.
        seed=1,
        seed2=seed,
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        rerandomize_each_iteration=True,
        output_types=[tf.int64],
        output_shapes=[[]],
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.int64))


def _draws(unseen: UnseenItems) -> Any:
    """The rule of `UnseenItems.draw`, in TensorFlow."""
    import tensorflow as tf

    keys = tf.constant(unseen.keys)
    offsets = tf.constant(unseen.offsets)
    counts = tf.constant(unseen.unseen.astype(np.float64))
    stride = unseen.stride

    def draw(users: Any, seed: Any) -> Any:
        wide = tf.cast(users, tf.int64)
        # float64: float32 could not name every item of a large catalogue.
        uniform = tf.random.stateless_uniform(tf.shape(users), seed, dtype=tf.float64)
        rank = tf.cast(tf.floor(uniform * tf.gather(counts, wide)), tf.int64)
        sought = tf.reshape(wide * stride + rank, [-1])
        before = tf.reshape(tf.searchsorted(keys, sought, "right"), tf.shape(users))
        drawn = rank + tf.cast(before, tf.int64) - tf.gather(offsets, wide)
        return tf.cast(drawn, tf.int32)

    return draw
