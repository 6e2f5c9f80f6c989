"""Copies of TFRS models, which have no `get_config` that could rebuild them."""

from __future__ import annotations

import copy
import weakref
from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras

from keras_eds.bridges.tfrs.candidates import check_fresh, retrace
from keras_eds.bridges.tfrs.redirected import FUNCTIONS, redirected
from keras_eds.errors import FieldError

# What `compile` and `fit` leave on a model.
_TRAINING = (
    "optimizer",
    "compiled_loss",
    "compiled_metrics",
    "loss",
    "history",
    "train_function",
    "train_tf_function",
    "test_function",
    "predict_function",
)
_RECURRENT = (tf_keras.layers.RNN, tf_keras.layers.Bidirectional)
_DEPENDENCIES = "_self_unconditional_checkpoint_dependencies"
_DEPENDENCY_NAMES = "_self_unconditional_dependency_names"


def copy_tfrs(model: tf_keras.Model, fresh: bool = False) -> tf_keras.Model:
    """A second model of the same class, with layers and variables of its own.

    Layers, variables, and lists and dicts of them are copied; functions in attributes
    call the copies; vocabularies, losses, data and everything else are shared. The copy
    is not compiled.

    Args:
        model: A TFRS model. It does not change.
        fresh: Whether to draw the values of its trained layers anew.

    Raises:
        FieldError: If the model cannot be copied.
    """
    copier = _Copier(fresh)
    try:
        copied = copier.copy(model)
        copier.redirect()
        retrace(copied, copier.known)
    except FieldError:
        raise
    except Exception as error:
        raise FieldError(
            "`model` must be a TFRS model that can be copied, since a search trains "
            f"copies of it. Received: a {type(model).__name__}, for which that raised "
            f"{type(error).__name__}: {error}. Pass a function that builds and "
            "compiles the model."
        ) from error
    check_fresh(copied, copier.old_variables())
    return copied


class _Copier:
    def __init__(self, fresh: bool) -> None:
        self._fresh = fresh
        # With the originals, so that no id is given away meanwhile.
        self._memo: dict[int, tuple[Any, Any]] = {}

    def known(self, value: Any) -> Any:
        """The copy of a layer, or the thing itself."""
        return self._memo.get(id(value), (None, value))[1]

    def old_variables(self) -> list[tf.Variable]:
        """The variables that have been copied."""
        return [old for old, _ in self._memo.values() if isinstance(old, tf.Variable)]

    def redirect(self) -> None:
        """Lets the user's functions in attributes call the copies."""
        for _, made in list(self._memo.values()):
            if not isinstance(made, tf_keras.layers.Layer):
                continue
            for name, value in vars(made).items():
                if isinstance(value, FUNCTIONS) and not _is_theirs(value):
                    vars(made)[name] = redirected(value, self.known)

    def copy(self, value: Any) -> Any:
        if id(value) in self._memo:
            return self.known(value)
        if isinstance(value, tf.Variable):
            return self._remember(value, copy.deepcopy(value))
        if isinstance(value, tf_keras.layers.Layer):
            return self._layer(value)
        if isinstance(value, tf_keras.initializers.Initializer):
            # One that is used twice without a seed gives the same values, and warns.
            return self._remember(value, type(value).from_config(value.get_config()))
        if isinstance(value, tf.__internal__.tracking.TrackableReference):
            return type(value)(value.name, self.copy(value.ref))
        if isinstance(value, tf.__internal__.tracking.TrackableDataStructure):
            return self._remember(value, self._tracked(value))
        if type(value) in (list, tuple) or hasattr(value, "_fields"):
            return self._sequence(value)
        if isinstance(value, dict):
            return self._remember(value, self._mapping(value))
        return value

    def _remember(self, value: Any, copied: Any) -> Any:
        self._memo[id(value)] = (value, copied)
        return copied

    def _sequence(self, value: Any) -> Any:
        items = [self.copy(item) for item in value]
        if all(one is other for one, other in zip(items, value, strict=True)) and (
            not isinstance(value, list)
        ):
            return value
        made = type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return self._remember(value, made)

    def _mapping(self, value: dict[Any, Any]) -> Any:
        made = copy.copy(value)
        for key, item in value.items():
            made[key] = self.copy(item)
        return made

    def _tracked(self, value: Any) -> Any:
        """What tf_keras makes of a list, tuple or dict in an attribute."""
        plain: Any
        if isinstance(value, dict):
            plain = {key: self.copy(item) for key, item in value.items()}
        else:
            plain = [self.copy(item) for item in value]
            plain = tuple(plain) if isinstance(value, tuple) else plain
        return tf.__internal__.tracking.wrap(plain)

    def _layer(self, layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if type(layer) is tf_keras.Sequential:
            layers = [self.copy(inner) for inner in layer.layers]
            return self._remember(layer, tf_keras.Sequential(layers, name=layer.name))
        if getattr(layer, "_is_graph_network", False):
            clone = tf_keras.models.clone_model(layer, clone_function=self.copy)
            if type(clone) is not type(layer):
                raise TypeError(f"{type(layer).__name__} is a Functional of its own")
            return self._remember(layer, clone)
        inner = list(layer._flatten_layers(include_self=False, recursive=False))
        # A cell alone would not be built again.
        whole = not inner or isinstance(layer, _RECURRENT)
        if self._fresh and whole and layer.built and layer.trainable_weights:
            return self._remember(layer, type(layer).from_config(layer.get_config()))
        return self._shell(layer)

    def _shell(self, layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if self._fresh and layer.trainable and layer._trainable_weights:
            raise FieldError(
                "`model` must hold its weights in layers, if it is to be drawn anew. "
                f"Received: a {type(layer).__name__} with weights of its own beside "
                "those of its layers. Pass a function that builds and compiles the "
                "model, or choose a method that starts from the trained values."
            )
        cls: Any = type(layer)
        made = self._remember(layer, cls.__new__(cls))
        # A metric is created with an `update_state` bound to itself.
        bound = {k: v for k, v in vars(made).items() if isinstance(v, MethodType)}
        state = {
            key: value
            for key, value in layer.__getstate__().items()
            if key not in ("_obj_reference_counts_dict", *_TRAINING)
        }
        # Nodes of graphs belong to the original.
        state.pop("_inbound_nodes_value", None)
        state.pop("_outbound_nodes_value", None)
        for name in (_DEPENDENCIES, _DEPENDENCY_NAMES):
            if name in state:
                state[name] = _without_training(state[name])
        copied = {key: self.copy(value) for key, value in state.items()}
        if isinstance(layer, tf_keras.Model):
            copied.update(dict.fromkeys(_TRAINING), _is_compiled=False)
            copied["_compiled_trainable_state"] = weakref.WeakKeyDictionary()
            # `save_weights` writes what this refers to.
            copied["_checkpoint"] = tf.train.Checkpoint(root=weakref.ref(made))
        copied.setdefault("_inbound_nodes_value", [])
        copied.setdefault("_outbound_nodes_value", [])
        made.__setstate__({**copied, **bound})
        return made


def _is_theirs(function: Any) -> bool:
    """Whether a function is of TensorFlow or tf_keras, and calls no user's layer."""
    function = getattr(function, "func", function)
    module = str(getattr(function, "__module__", ""))
    return module.split(".")[0] in ("tensorflow", "tf_keras", "keras")


def _without_training(dependencies: Any) -> Any:
    if isinstance(dependencies, dict):
        return {k: v for k, v in dependencies.items() if k not in _TRAINING}
    return [one for one in dependencies if one.name not in _TRAINING]
