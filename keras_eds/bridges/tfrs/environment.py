"""What TensorFlow Recommenders needs around it."""

from __future__ import annotations

import os

import keras

_ADVICE = (
    "Set it before TensorFlow is first imported, also by Keras: start Python as "
    "`TF_USE_LEGACY_KERAS=1 python ...`, or put `import os; "
    'os.environ["TF_USE_LEGACY_KERAS"] = "1"` on the first line of the program or '
    "notebook, above every other import."
)


def check_environment() -> None:
    """Refuses an environment in which TFRS cannot run.

    Raises:
        ImportError: If `tf.keras` is not tf_keras, or a package is missing.
    """
    if keras.backend.backend() != "tensorflow":
        raise ImportError(
            "TFRS models need Keras on TensorFlow. Received: KERAS_BACKEND="
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
        )
    import tensorflow as tf

    try:
        # tf_keras has no `version`, Keras 3 has.
        version = str(getattr(tf.keras, "version", lambda: "2")())
    except ImportError as error:
        raise ImportError(
            "TFRS models need the package tf_keras, of TensorFlow's own version. "
            f"Received: {error}. Run pip install 'keras-eds[tfrs]'."
        ) from error
    if version.startswith("3."):
        given = os.environ.get("TF_USE_LEGACY_KERAS")
        late = " that was set too late" if given in ("1", "true", "True") else ""
        raise ImportError(
            "The environment variable TF_USE_LEGACY_KERAS must be 1 for TFRS, which "
            f"runs on tf_keras. Received: TF_USE_LEGACY_KERAS={given!r}{late}, with "
            f"which tf.keras is Keras {version}. {_ADVICE}"
        )
