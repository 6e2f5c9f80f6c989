"""What is checked before a search trains anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_eds.errors import DataError, EDSError, FieldError
from keras_eds.methods import Method
from keras_eds.surgery import keras_training
from keras_eds.surgery.sites import Site
from keras_eds.tuners.fit_data import FitData
from keras_eds.tuners.model_source import ModelSource
from keras_eds.tuners.scores import evaluate


def check_quantize(quantize: object, source: ModelSource) -> None:
    """Refuses what cannot be quantized."""
    if quantize not in (None, "int8"):
        raise ValueError(
            f"`quantize` must be None or 'int8'. Received: quantize={quantize!r}. "
            "Other modes are those of keras.Model.quantize."
        )
    if quantize is not None and not source.quantizes:
        raise ValueError(
            "`quantize` must be None for a TFRS model. Received: "
            f"quantize={quantize!r}. Search without it, and quantize the vectors of "
            "the towers with keras_eds.retrieval.ExactIndex."
        )


def check_warm_start(method: Method, trained: bool) -> None:
    """Refuses to start from first values that nobody knows."""
    initial = getattr(method, "warm_start", None) == "initial"
    if initial and trained and getattr(method, "pretrain", None) is not True:
        raise ValueError(
            "`warm_start='initial'` must be used with a model that is not trained "
            "yet, whose values before training are known. Received: a trained model. "
            "Pass a function that builds it, or use another warm_start."
        )


def check_constraints(method: Method, sites: Sequence[Site]) -> None:
    """Refuses constraints that a plan of the method would break."""
    names = [s.field.name for s in sites if s.layer.embeddings_constraint is not None]
    if (method.rotates or method.granularity == "row") and names:
        raise FieldError(
            "`model` must have tables without a constraint, which a rotation, or rows "
            f"of many sizes, would break. Received: a constraint on {names}. Search "
            "with SSEDS(basis='columns') or leave the tables out with `filters`."
        )


def check_objective(
    model: keras.Model, batch: Any, data: FitData, objective: Any
) -> None:
    """Scores one batch, to see whether the objective is there at all."""
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    parts = keras.tree.map_structure(_with_strings, tuple(parts), none_is_leaf=False)
    names = dict(zip(("x", "y", "sample_weight"), parts, strict=False))
    validation = None if data.validation is None else dict(names)
    callbacks = {"callbacks": data.options.get("callbacks")}
    one = FitData(names, validation, callbacks)
    with (
        keras_training.training_with(model, model.optimizer, eager=True),
        # On JAX, `evaluate` would build it.
        keras_training.without_optimizer(model),
        keras_training.metrics_unchanged(model),
    ):
        try:
            evaluate(model, one, objective)
        except EDSError:
            raise
        except Exception as error:
            raise DataError(
                "`x` and `y` must be data that the model can be evaluated on. "
                f"Received: a first batch that raised {type(error).__name__}: "
                f"{error}. Try model.evaluate on it."
            ) from error


def _with_strings(leaf: Any) -> Any:
    """Text as a batch of `fit` holds it: Keras takes no arrays of bytes."""
    if not isinstance(leaf, np.ndarray) or leaf.dtype.kind != "O":
        return leaf
    import tensorflow as tf

    return tf.convert_to_tensor(leaf)
