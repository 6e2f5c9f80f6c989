"""A TFRS model as a Keras 3 model, with its tables as Keras 3 layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from keras_eds.backend.sparse_gradients import sum_at_first_slice
from keras_eds.bridges.tfrs.autograph import converted, converting
from keras_eds.bridges.tfrs.candidates import check_fresh, retrace, retraced
from keras_eds.bridges.tfrs.find_tables import become, find_tables, layers_of
from keras_eds.bridges.tfrs.slot import Slot
from keras_eds.bridges.tfrs.tfrs_layer import TFRSLayer
from keras_eds.bridges.tfrs.translate import keras_table
from keras_eds.errors import DataError, FieldError


class SearchableTFRS(keras.Model):  # type: ignore[misc]
    """Trains a TFRS model by its own `compute_loss`, as a Keras 3 model.

    Every `tf.keras.layers.Embedding` becomes a `keras.layers.Embedding` with the same
    values. The other variables stay those of the TFRS model and are trained here too.
    Scores are the metrics of the model, and the means over batches of `loss`,
    `regularization_loss` and `total_loss`; TFRS gives those of the last batch.

    Args:
        tfrs_model: A TFRS model, which is changed in place.
        original: The model of which it is a copy. Defaults to None: it is no copy.

    Raises:
        FieldError: If it has no table; in the first call, if it reads variables of
            the original, or has tables or layers that no loss reaches.
    """

    def __init__(
        self, tfrs_model: tf_keras.Model, original: tf_keras.Model | None = None
    ) -> None:
        super().__init__(name=tfrs_model.name)
        tables = find_tables(tfrs_model)
        old = [table.embeddings for table in tables.values() if table.built]
        layers = {name: keras_table(name, table) for name, table in tables.items()}
        # In a closure: Keras would take a tf_keras layer for one of its own.
        self._get_tfrs_model: Callable[[], Any] = lambda: tfrs_model
        self._get_original: Callable[[], Any] = lambda: original
        self._tables = list(layers.values())
        self._rest = _Rest(name="rest")
        self._penalty = keras.metrics.Mean(name="regularization_loss")
        self._total = keras.metrics.Mean(name="total_loss")
        self._complete = False
        self.supports_jit = False
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self._slots: Callable[[], dict[str, Any]] = lambda: tables
        for name, table in tables.items():
            become(table, Slot(layers[name], name=table.name))
        retrace(tfrs_model)
        check_fresh(tfrs_model, old)

    @property
    def tfrs_model(self) -> tf_keras.Model:
        """The TFRS model behind."""
        return self._get_tfrs_model()

    def to_tfrs(self) -> tf_keras.Model:
        """The TFRS model, with every table in a `TFRSLayer`; ends this object's use."""
        for slot in self._slots().values():
            become(slot, TFRSLayer(slot.layer, name=slot.name))
        retrace(self.tfrs_model)
        return self.tfrs_model

    def retrace(self) -> None:
        """Lets candidates be computed by the tables as they are now."""
        retrace(self.tfrs_model)

    def build(self, input_shape: Any = None) -> None:
        self.built = True

    def call(self, inputs: Any, training: Any = False) -> Any:
        """The loss of every example, where the model's losses are such."""
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        if not self._rest.complete:
            self._first_call(inputs)
        return self._loss_of_examples(inputs, training)

    def _loss_of_examples(self, inputs: Any, training: Any) -> Any:
        with _without_top_k(self.tfrs_model), _by_example(self.tfrs_model):
            return self.tfrs_model.compute_loss(inputs, training=training)

    def _first_call(self, inputs: Any) -> None:
        # Candidates, which no loss trains, have been looked up already.
        for slot in self._slots().values():
            slot.used = False
        with tf.GradientTape() as tape:
            self._loss_of_examples(inputs, training=False)
        self._check_used()
        self._check_own(tape.watched_variables())
        self._rest.adopt(_variables_of(self.tfrs_model), self.tfrs_model)

    def losses_by_example(self, y: Any, y_pred: Any) -> Any:
        """What `call` gave, if that is one number for each example.

        Raises:
            DataError: If it is not.
        """
        if len(y_pred.shape) != 1:
            raise DataError(
                "`compute_loss` must add up the losses of tasks, each of which is one "
                f"number for each example. Received: shape {tuple(y_pred.shape)} "
                "without their reduction. Return what the tasks return, or choose "
                "another method."
            )
        return y_pred

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            total = self._track(data, training=True)
            self._check_complete()
            loss = self.optimizer.scale_loss(total)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        # Keras 3 would square the slices of a row that comes twice one by one.
        gradients = [
            sum_at_first_slice(g) if isinstance(g, tf.IndexedSlices) else g
            for g in gradients
        ]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._logs()

    def test_step(self, data: Any) -> dict[str, Any]:
        self._track(data, training=False)
        return self._logs()

    def evaluate(self, x: Any = None, **kwargs: Any) -> Any:
        """Like that of Keras; `x` may be one batch, also with strings in it."""
        if not isinstance(x, tf.data.Dataset):
            x = tf.data.Dataset.from_tensors(x)
        return super().evaluate(x, **kwargs)

    def reset_metrics(self) -> None:
        super().reset_metrics()
        for metric in self.tfrs_model.metrics:
            metric.reset_state()

    def _track(self, data: Any, training: bool) -> Any:
        """The loss with all penalties, added to the means."""
        model = self.tfrs_model
        if isinstance(data, tuple) and len(data) == 1:
            data = data[0]
        with converting(), retraced(model):
            loss = converted(model.compute_loss, data, training=training)
        penalty = tf.add_n([0.0, *[tf.reduce_sum(one) for one in model.losses]])
        for variable in self.trainable_variables:
            if variable.regularizer is not None:
                penalty += variable.regularizer(variable)
        self._loss_tracker.update_state(loss)
        self._penalty.update_state(penalty)
        self._total.update_state(loss + penalty)
        return loss + penalty

    def _logs(self) -> dict[str, Any]:
        theirs = {m.name: m.result() for m in self.tfrs_model.metrics}
        return {**theirs, **self.get_metrics_result()}

    def _check_used(self) -> None:
        unused = [name for name, slot in self._slots().items() if not slot.used]
        if unused:
            raise FieldError(
                "`model` must look up in every table when it computes its loss. "
                f"Received: {unused}, which `compute_loss` does not reach. Remove them "
                "from the model; if it does use them, pass a function that builds and "
                "compiles the model."
            )

    def _check_own(self, read: Sequence[tf.Variable]) -> None:
        original = self._get_original()
        layers = [] if original is None else layers_of(original)
        theirs = {id(v) for layer in layers for v in layer._trainable_weights}
        if any(id(variable) in theirs for variable in read):
            raise FieldError(
                "`model` must reach its layers by attributes, lists, dicts and plain "
                "functions, or else a copy of it reaches those of the original. "
                f"Received: a {type(original).__name__} whose `compute_loss` does not. "
                "Pass a function that builds and compiles the model."
            )

    def _check_complete(self) -> None:
        if self._complete:
            return
        new = len(_variables_of(self.tfrs_model)) - len(self._rest.variables)
        if new:
            raise FieldError(
                "`model` must have all its variables before it is trained, else they "
                f"would stay as they are. Received: {new} that `compute_loss` makes "
                "with training=True alone. Call model.compute_loss(batch, "
                "training=True) once before the search."
            )
        self._complete = True


class _Rest(keras.layers.Layer):  # type: ignore[misc]
    """Holds the variables of a TFRS model that are not in tables."""

    complete = False

    def adopt(self, variables: list[tf.Variable], model: tf_keras.Model) -> None:
        """Makes variables of a model, which exist, those of this layer."""
        # A layer that is frozen has variables that do not know it.
        trained = {id(variable) for variable in model.trainable_variables}
        self._tracker.unlock()
        self._adopted = []
        for number, variable in enumerate(variables):
            mine = keras.Variable(
                variable,
                trainable=id(variable) in trained,
                dtype=variable.dtype.name,
                autocast=False,
                name=f"variable_{number}",
            )
            mine.constraint = _of_tensors(variable.constraint)
            self._adopted.append(mine)
        self.built = self.complete = True


def _of_tensors(constraint: Any) -> Callable[[Any], Any] | None:
    if constraint is None:
        return None
    return lambda variable: constraint(tf.convert_to_tensor(variable))


def _variables_of(model: tf_keras.Model) -> list[tf.Variable]:
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    try:
        variables = model.variables
    except ValueError as error:
        raise FieldError(
            "`model` must use all its layers when it computes its loss. Received: a "
            f"{type(model).__name__} with a layer that is not built by then ({error}). "
            "Remove the layer; if `compute_loss` does use it, pass a function that "
            "builds and compiles the model."
        ) from error
    return [
        variable
        for variable in variables
        # A lookup layer names its vocabulary among them.
        if isinstance(variable, tf.Variable)
        and id(variable) not in metrics
        and variable.dtype != tf.string
    ]


@contextmanager
def _changed(places: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Sets attributes for a while, past the tracking of tf_keras."""
    before = [vars(owner)[name] for owner, name, _ in places]
    try:
        for owner, name, value in places:
            vars(owner)[name] = value
        yield
    finally:
        for (owner, name, _), value in zip(places, before, strict=True):
            vars(owner)[name] = value


def _without_top_k(model: tf_keras.Model) -> Any:
    """Skips metrics that score all candidates."""
    name = "_factorized_metrics"
    return _changed([(la, name, []) for la in layers_of(model) if name in vars(la)])


def _by_example(model: tf_keras.Model) -> Any:
    """Takes the reduction off every loss that a layer of the model holds."""
    return _changed(
        [
            (layer, name, _LossByExample(loss))
            for layer in layers_of(model)
            for name, loss in vars(layer).items()
            if isinstance(loss, tf_keras.losses.Loss)
        ]
    )


class _LossByExample:
    def __init__(self, loss: tf_keras.losses.Loss) -> None:
        self._loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        # Of labels of shape (batch,) tf_keras would take the mean.
        columns = [
            tf.expand_dims(values, -1) if len(values.shape) == 1 else values
            for values in (tf.convert_to_tensor(y_true), y_pred)
        ]
        with _changed([(self._loss, "reduction", tf_keras.losses.Reduction.NONE)]):
            return self._loss(*columns)
