"""Gives every stage a model of its own, from the one the user has."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from keras_eds.errors import FieldError
from keras_eds.plan import DimensionPlan
from keras_eds.surgery import keras_private
from keras_eds.surgery.apply import apply_plan
from keras_eds.surgery.copying import (
    check_renewable,
    compile_result,
    copy_model,
    custom_objects,
)
from keras_eds.surgery.sites import all_sites
from keras_eds.surgery.small_layer import Alignment, Values
from keras_eds.tuners.keras_names import NameCounters
from keras_eds.tuners.weights import damaged

Builder = Callable[[], keras.Model]


def source_of(model: Any) -> ModelSource:
    """The source for a Keras model or a TFRS model, or for what a function builds."""
    tf_keras = sys.modules.get("tf_keras")
    if tf_keras is None:
        return ModelSource(model)
    builds = callable(model) and not isinstance(model, keras.Model | tf_keras.Model)
    template = model() if builds else model
    if not isinstance(template, tf_keras.Model):
        return ModelSource(model)
    from keras_eds.tuners.tfrs_source import TFRSSource

    source: ModelSource = TFRSSource(model, template)
    return source


class ModelSource:
    """A compiled model, or a function that builds one.

    Args:
        model: A compiled Keras model, which is never changed, or a function
            without arguments that returns one.

    Raises:
        FieldError: If there is no compiled Keras model, or it cannot be copied.
    """

    def __init__(self, model: keras.Model | Builder) -> None:
        self._builder: Builder | None = None
        self._counters = NameCounters()
        self._free_counters = NameCounters.now()
        # KerasTuner's own tuners reset it before they build a model.
        self._policy = keras.config.dtype_policy()
        if isinstance(model, keras.Model):
            self.example = model
        elif callable(model):
            self._builder = model
            self.example = self._build()
        else:
            raise FieldError(
                "`model` must be a compiled Keras model or a function that builds one. "
                f"Received: model={model!r}. Pass a keras.Model."
            )
        self._check(self.example)
        self._check_copyable()

    @property
    def trained(self) -> bool:
        """Whether the user's model has been trained already."""
        if self._builder is not None or self.example.optimizer is None:
            return False
        return int(self.example.optimizer.iterations) > 0

    def new(self, sample: Any = None) -> keras.Model:
        """A model like the user's, built on `sample` where it is not built.

        A copy with the values of the user's model, or what the function builds.
        """
        if self._builder is None:
            return copy_model(self.example)
        model = self._build()
        self._check(model)
        if not model.built and sample is not None:
            model(sample, training=False)
        return model

    def _build(self) -> keras.Model:
        assert self._builder is not None
        keras.config.set_dtype_policy(self._policy)
        try:
            with self._counters.counting():
                return self._builder()
        except ValueError:
            if self._counters is self._free_counters:
                raise
            # The function uses layers from outside, whose names are taken.
            self._counters = self._free_counters
            return self._build()

    def fresh(self, sample: Any = None) -> keras.Model:
        """A model like the user's with weights drawn anew."""
        model = self.new(sample)
        if self._builder is None:
            _redraw(model)
        return model

    def names_in(self, model: keras.Model) -> dict[str, str]:
        """What `model` calls the fields of the user's model.

        Keras numbers unnamed layers anew whenever a function builds them.
        """
        theirs = [site.field.name for site in all_sites(model)]
        ours = [site.field.name for site in all_sites(self.example)]
        return dict(zip(ours, theirs, strict=True))

    def apply(
        self, model: keras.Model, plan: DimensionPlan, values: Values, start: Alignment
    ) -> keras.Model:
        """`apply_plan` on a model that `new` or `fresh` made."""
        with warnings.catch_warnings() if self._compiles_itself else nullcontext():
            if self._compiles_itself:
                # Its function has compiled it, and its optimizer is not built yet.
                warnings.filterwarnings("ignore", message="`compile\\(\\)` was not")
            return apply_plan(model, plan, values, start, in_place=True)

    def fit_arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `fit`, by name, as the models made here take them."""
        return given

    @property
    def quantizes(self) -> bool:
        """Whether tables of results can be turned into 8-bit integers."""
        return True

    def result(self, model: keras.Model) -> Any:
        """What is handed out of a model that `apply` has made small."""
        return model

    @property
    def loads_from_file(self) -> bool:
        """Whether a result can be loaded and compiled without being rebuilt."""
        layers = keras_private.all_layers(self.example)
        unsafe = any(isinstance(layer, keras.layers.Lambda) for layer in layers)
        return not unsafe and not self._compiles_itself and self._copies

    @property
    def needs_sample(self) -> bool:
        """Whether a new model is complete only after it has seen a batch."""
        return not self.example.built

    def load(self, path: Path) -> keras.Model:
        """Loads a saved result, compiled.

        Raises:
            ProjectError: If the file is missing or damaged.
        """
        objects = custom_objects(self.example)
        try:
            model = keras.saving.load_model(path, custom_objects=objects, compile=False)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise damaged(path, error) from error
        compile_result(self.example, model)
        return model

    @cached_property
    def _copies(self) -> bool:
        """Whether a file is enough: a function's model may use what none can name."""
        if self._builder is None or not self.example.built:
            return True
        try:
            copy_model(self.example)
        except FieldError:
            return False
        return True

    @property
    def _compiles_itself(self) -> bool:
        cls, base = type(self.example), keras.Model
        restored = cls.compile_from_config is not base.compile_from_config
        return cls.compile is not base.compile and not restored

    def _check_copyable(self) -> None:
        name = type(self.example).__name__
        if self._builder is None and self._compiles_itself:
            raise FieldError(
                "`model` must be a model whose copies can be compiled. Received: "
                f"a {name}, whose class overrides `compile` but not "
                "`compile_from_config`. Pass a function that builds and compiles it."
            )
        check_renewable(self.example)
        try:
            self.example.get_config()
        except Exception as error:
            raise FieldError(
                "`model` must be a model that Keras can save, as its small copy is "
                f"saved. Received: a {name}, whose `get_config` raised "
                f"{type(error).__name__}: {error}. Give it and its layers a complete "
                "`get_config`."
            ) from error

    @staticmethod
    def _check(model: Any) -> None:
        if not isinstance(model, keras.Model):
            raise FieldError(
                "`model` must build a Keras model. Received: a function that returned "
                f"{type(model).__name__}. Return the compiled model."
            )
        if not getattr(model, "compiled", False):
            raise FieldError(
                f"`model` must be compiled. Received: model {model.name!r} without "
                "`compile`. Call model.compile(optimizer=..., loss=...) first."
            )


def _redraw(model: keras.Model) -> None:
    """Draws the weights of every trainable layer anew.

    Layers without trainable weights keep their state: vocabularies and
    statistics of preprocessing layers are not learned by training.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    with keras.saving.custom_object_scope(custom_objects(model)):
        drawn = keras.saving.deserialize_keras_object(config, safe_mode=False)
    pairs = zip(
        keras_private.all_layers(model), keras_private.all_layers(drawn), strict=True
    )
    for layer, other in pairs:
        if not layer.trainable_variables:
            continue
        for variable, value in zip(_own(layer), _own(other), strict=True):
            variable.assign(value)


def _own(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The weights of a layer; of one that holds layers, what it learns besides."""
    inner = keras_private.child_layers(layer)
    return keras_private.own_trainable_variables(layer) if inner else layer.weights
