"""An instrument on a built embedding layer: it measures and is taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.backend.lookup import lookup
from keras_eds.measurements import FieldMeasurement
from keras_eds.surgery import keras_private
from keras_eds.surgery.batches import refuse_gaps
from keras_eds.surgery.sites import Site, is_reducing

# Rows of the probe. Looked-up vectors that share a row are told apart by random
# signs: the outer products of their signed sums have the wanted expectation.
PROBE_ROWS = 4096


class Gate:
    """Adds `e * gate + probe` behind a lookup, with gate = 1 and probe = 0.

    The output does not change. The gradient of `gate` is the saliency of each
    column, the sum over the batch of `e * dL/de`. A row of the gradient of
    `probe`, shape `(PROBE_ROWS, output_dim)`, is the signed sum of `dL/de` over
    the vectors that fall on it. Moments of e are added up on the way.

    Both are offsets in one variable, row 0 the gate's: what a pass costs is the
    number of operations on small arrays.

    Args:
        site: The field to measure.
        seed: Seed of the signs.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self._random = np.random.default_rng(seed)
        self._variables: list[keras.Variable] = []

    def attach(self) -> None:
        """Puts the instrument on the layer."""
        width = self.site.field.output_dim
        self.offsets = self._add("offsets", (1 + PROBE_ROWS, width))
        # Sums of (e, 1) (e, 1)^T, kept per replica and added up when read.
        self.moments = self._add(
            "moments",
            (width + 1, width + 1),
            trainable=False,
            aggregation="sum",
            synchronization="on_read",
        )
        self._own_call = vars(self.site.layer).get("call")
        self._lookup = self.site.layer.call
        self.site.layer.call = self._call

    def remove(self) -> None:
        """Takes the instrument off; the layer is what it was."""
        keras_private.restore_call(self.site.layer, self._own_call)
        while self._variables:
            keras_private.remove_variable(self.site.layer, self._variables.pop())

    def _add(self, name: str, shape: tuple[int, ...], **kwargs: Any) -> keras.Variable:
        variable = keras_private.add_variable(self.site.layer, name, shape, **kwargs)
        self._variables.append(variable)
        return variable

    def _call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_gaps(self.site.field.name, inputs)
        outputs = self._lookup(inputs, *args, **kwargs)
        vectors = outputs
        if len(outputs.shape) != 2:
            vectors = ops.reshape(outputs, (-1, self.site.field.output_dim))
        self._add_moments(ops.stop_gradient(vectors), self._weights(inputs))
        gate, probe = self._offsets_for(vectors)
        if len(outputs.shape) != 2:
            probe = ops.reshape(probe, ops.shape(outputs))
        return outputs * (1.0 + ops.cast(gate, outputs.dtype)) + probe

    def _weights(self, inputs: Any) -> Any:
        """1 for a vector that counts, 0 for padding; None if all count."""
        if not self.site.layer.mask_zero or is_reducing(self.site.layer):
            return None
        return ops.reshape(ops.cast(ops.not_equal(inputs, 0), "float32"), (-1, 1))

    def _add_moments(self, vectors: Any, weights: Any) -> None:
        vectors = ops.cast(vectors, "float32")
        extended = ops.pad(vectors, ((0, 0), (0, 1)), constant_values=1.0)
        weighted = extended if weights is None else extended * weights
        self.moments.assign_add(ops.matmul(ops.transpose(weighted), extended))

    def _offsets_for(self, vectors: Any) -> tuple[Any, Any]:
        """The gate's row, and a row of the probe for every vector."""
        number = vectors.shape[0]
        if number is None:
            # In a graph of the user's own making; signs are drawn once.
            index = ops.arange(ops.shape(vectors)[0], dtype="int32")
            rows = ops.take(self.offsets, 1 + index % PROBE_ROWS, axis=0)
            signs = ops.take(self._signs(1 << 16), index % (1 << 16), axis=0)
            return self.offsets[:1], ops.cast(rows * signs, vectors.dtype)
        index = np.concatenate([[0], 1 + np.arange(number) % PROBE_ROWS])
        rows = lookup(self.offsets, ops.convert_to_tensor(index, "int32"), "float32")
        gate, probe = rows[:1], rows[1:]
        # Lookups at other places, and other replicas, share the rows of the probe.
        alone = self.site.called_once and keras_private.num_replicas() == 1
        if number > PROBE_ROWS or not alone:
            probe = probe * self._signs(number)
        return gate, ops.cast(probe, vectors.dtype)

    def _signs(self, number: int) -> Any:
        signs = self._random.integers(0, 2, (number, 1)) * 2 - 1
        return ops.convert_to_tensor(signs.astype("float32"))

    def read(self, recorder: SaliencyRecorder) -> FieldMeasurement:
        """What was measured, once `fit` has run with `recorder`."""
        moments = np.asarray(ops.convert_to_numpy(self.moments), dtype="float64")
        recorded = recorder.recorded(self.offsets)
        count = max(float(moments[-1, -1]), 1.0)
        mean = moments[:-1, -1] / count
        layer = self.site.layer
        if is_reducing(layer) and layer.combiner != "mean":
            # A constant is added once a row; a sum of rows has no fixed mean.
            mean = np.zeros_like(mean)
        return FieldMeasurement(
            gate_abs=recorded[1],
            gate_sum=recorded[0],
            mean=mean,
            second_moment=moments[:-1, :-1] / count,
            gradient_moment=recorded[2:],
            lookups=count,
        )


class SaliencyRecorder(keras.optimizers.Optimizer):
    """An optimizer that adds gradients up in place of stepping.

    Of the gradient of a gate's offsets, `(g; G)` with g its first row, the sums
    over batches of g, of |g| and of `G^T G` are kept.
    """

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0, name="saliency_recorder")

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        # By place, as Keras's optimizers do: a backend may hand `update_step`
        # another object for the same variable.
        self._recorded = [
            self.add_variable(shape=(2 + v.shape[-1], v.shape[-1]), name="recorded")
            for v in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        gradient = ops.cast(ops.convert_to_tensor(gradient), "float32")
        gate, probe = ops.split(gradient, [1])
        outer = ops.matmul(ops.transpose(probe), probe)
        update = ops.concatenate([gate, ops.abs(gate), outer])
        self.assign_add(self._recorded[self._get_variable_index(variable)], update)

    def recorded(self, variable: keras.Variable) -> np.ndarray:
        """The sums for one gate, shape `(2 + output_dim, output_dim)`."""
        slot = self._recorded[self._get_variable_index(variable)]
        return np.asarray(ops.convert_to_numpy(slot), dtype="float64")


@contextmanager
def gates_on(sites: Sequence[Site]) -> Iterator[list[Gate]]:
    """Puts a gate on every site, and takes all off at the end."""
    with ExitStack() as stack:
        gates = []
        for seed, site in enumerate(sites):
            gate = Gate(site, seed)
            stack.callback(gate.remove)
            gate.attach()
            gates.append(gate)
        yield gates
