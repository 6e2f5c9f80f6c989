"""Lets tf_keras draw what Keras 3 has seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import tf_keras


@contextmanager
def seeded_as_keras() -> Iterator[None]:
    """Initializers of tf_keras follow `keras.utils.set_random_seed` for a while.

    They have a generator of their own once `tf.keras.utils.set_random_seed` was called.
    """
    holder = tf_keras.src.backend._SEED_GENERATOR
    before = vars(holder).copy()
    holder.generator = random.Random(random.getrandbits(32))
    try:
        yield
    finally:
        vars(holder).clear()
        vars(holder).update(before)
