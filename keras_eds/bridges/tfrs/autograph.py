"""Whose code TensorFlow rewrites while it traces: tf_keras wants it, Keras 3 not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx


@contextmanager
def converting() -> Iterator[None]:
    """Lets TensorFlow rewrite the code of tf_keras layers and of data sets."""
    with ag_ctx.ControlStatusCtx(status=ag_ctx.Status.ENABLED):
        yield


def converted(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls code of a TFRS model from a step of Keras 3, as its own `fit` would."""
    context = ag_ctx.control_status_ctx()
    return tf.__internal__.autograph.tf_convert(function, context)(*args, **kwargs)


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def unconverted(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls code of Keras 3 from a step of tf_keras, as it is."""
    return function(*args, **kwargs)
