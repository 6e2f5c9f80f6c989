"""Gives every stage of a search a TFRS model of its own, as a Keras 3 model."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tf_keras

from keras_eds.bridges.tfrs.copy_model import copy_tfrs
from keras_eds.bridges.tfrs.searchable import SearchableTFRS
from keras_eds.bridges.tfrs.seeds import seeded_as_keras
from keras_eds.bridges.tfrs.translate import keras_optimizer, renewed
from keras_eds.errors import DataError, FieldError
from keras_eds.plan import DimensionPlan
from keras_eds.surgery.small_layer import Alignment, Values
from keras_eds.tuners.fit_data import callback_list
from keras_eds.tuners.model_source import Builder, ModelSource


class TFRSSource(ModelSource):
    """A compiled TFRS model, or a function that builds one.

    Args:
        model: A compiled TFRS model, which is never changed, or a function without
            arguments that returns one.
        template: The TFRS model that the function has built, or `model` itself.

    Raises:
        FieldError: If it is not a compiled TFRS model with a table.
    """

    def __init__(self, model: Any, template: tf_keras.Model) -> None:
        _check_tfrs(template)
        self._builder: Builder | None = None if model is template else model
        self._template = template
        self.example = self.new()

    @property
    def trained(self) -> bool:
        """Whether the user's model has been trained already."""
        return self._builder is None and int(self._template.optimizer.iterations) > 0

    @property
    def loads_from_file(self) -> bool:
        """No file rebuilds a TFRS model: a result is the user's with small tables."""
        return False

    @property
    def needs_sample(self) -> bool:
        """Its variables are known once its loss has been computed."""
        return True

    def new(self, sample: Any = None) -> SearchableTFRS:
        """A model like the user's, complete where a sample is known."""
        with seeded_as_keras():
            if self._builder is None:
                return self._searchable(copy_tfrs(self._template), sample)
            return self._searchable(self._built(), sample)

    def fresh(self, sample: Any = None) -> SearchableTFRS:
        """A model like the user's with weights drawn anew."""
        if self._builder is not None:
            return self.new(sample)
        with seeded_as_keras():
            return self._searchable(copy_tfrs(self._template, fresh=True), sample)

    def apply(
        self, model: keras.Model, plan: DimensionPlan, values: Values, start: Alignment
    ) -> keras.Model:
        """`apply_plan` on a model that `new` or `fresh` made."""
        small = super().apply(model, plan, values, start)
        small.retrace()
        return small

    @property
    def quantizes(self) -> bool:
        return False

    def result(self, model: keras.Model) -> tf_keras.Model:
        """The TFRS model behind, with its small tables, compiled as the user's is."""
        small = model.to_tfrs()
        small.compile(
            renewed(self._template.optimizer), run_eagerly=self._template.run_eagerly
        )
        return small

    def fit_arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """Data of which every batch is one input, whatever its structure.

        Raises:
            DataError: If it is not a `tf.data.Dataset`, or a callback is of tf_keras.
        """
        for callback in callback_list(given.get("callbacks")):
            if isinstance(callback, tf_keras.callbacks.Callback):
                raise DataError(
                    "`callbacks` must be of Keras 3, which runs the search. Received: "
                    f"{type(callback).__name__} of tf_keras. Use `import keras; "
                    f"keras.callbacks.{type(callback).__name__}`."
                )
        given = dict(given)
        for name, argument in (("x", "x"), ("validation_data", "validation_data")):
            if given.get(argument) is not None:
                given[argument] = _whole(name, given[argument])
        return given

    def _built(self) -> tf_keras.Model:
        assert self._builder is not None
        model = self._builder()
        _check_tfrs(model)
        return model

    def _searchable(self, model: tf_keras.Model, sample: Any) -> SearchableTFRS:
        optimizer = keras_optimizer(self._template.optimizer)
        original = self._template if self._builder is None else None
        searchable = SearchableTFRS(model, original)
        searchable.compile(
            optimizer, jit_compile=False, run_eagerly=self._template.run_eagerly
        )
        if sample is not None:
            searchable(sample, training=False)
        return searchable


def _whole(name: str, data: Any) -> tf.data.Dataset:
    if not isinstance(data, tf.data.Dataset):
        raise DataError(
            f"`{name}` must be a tf.data.Dataset of batches for a TFRS model. "
            f"Received: {type(data).__name__}. Pass "
            "tf.data.Dataset.from_tensor_slices(...).batch(...)."
        )
    spec = data.element_spec
    if isinstance(spec, tuple) and len(spec) > 1:
        # Keras would take it apart, but `compute_loss` wants it whole.
        return data.map(lambda *parts: (parts,))
    return data


def _check_tfrs(model: Any) -> None:
    own_loss = getattr(type(model), "compute_loss", tf_keras.Model.compute_loss)
    if own_loss is tf_keras.Model.compute_loss:
        raise FieldError(
            "`model` must be a tfrs.Model with a `compute_loss` of its own. Received: "
            f"a {type(model).__name__} of tf_keras. Put it into a tfrs.Model."
        )
    for name in ("train_step", "test_step"):
        step = getattr(type(model), name)
        if step.__module__.split(".")[0] not in ("tf_keras", "tensorflow_recommenders"):
            raise FieldError(
                f"`model` must be trained by its `compute_loss` alone. Received: a "
                f"{type(model).__name__} with a `{name}` of its own, which a search "
                "would not run. Move what it does into `compute_loss`."
            )
    if model.optimizer is None:
        raise FieldError(
            f"`model` must be compiled. Received: a {type(model).__name__} without "
            "`compile`. Call model.compile(optimizer=...) first."
        )
