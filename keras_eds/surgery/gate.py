"""An instrument on a built embedding layer: it measures and is taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.measurements import FieldMeasurement
from keras_eds.surgery import keras_private
from keras_eds.surgery.sites import Site, is_reducing

# Rows of the probe. A batch of as many vectors has its gradients one by one;
# a larger one has sums of several, with random signs, whose outer products
# have the wanted expectation.
PROBE_ROWS = 1024


class Gate:
    """Adds `e * gate + probe` behind a lookup, with gate = 1 and probe = 0.

    The output does not change. The gradient of `gate` is the saliency of each
    column, the sum over the batch of `e * dL/de`. Row k of the gradient of
    `probe`, shape `(PROBE_ROWS, output_dim)`, is the signed sum of `dL/de` over
    the vectors that fall on k. Moments of e are added up on the way.

    Args:
        site: The field to measure.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self._variables: list[keras.Variable] = []

    def attach(self) -> None:
        """Puts the instrument on the layer."""
        width = self.site.field.output_dim
        self.gate = self._add("gate", (width,), initializer="ones")
        self.probe = self._add("probe", (PROBE_ROWS, width))
        # Kept per replica and added up when read.
        total: dict[str, Any] = {"trainable": False, "aggregation": "sum"}
        total["synchronization"] = "on_read"
        self.count = self._add("count", (), **total)
        self.sum = self._add("sum", (width,), **total)
        self.outer = self._add("outer", (width, width), **total)
        self._lookup = self.site.layer.call
        self.site.layer.call = self._call

    def remove(self) -> None:
        """Takes the instrument off; the layer is what it was."""
        self.site.layer.__dict__.pop("call", None)
        while self._variables:
            keras_private.remove_variable(self.site.layer, self._variables.pop())

    def _add(self, name: str, shape: tuple[int, ...], **kwargs: Any) -> keras.Variable:
        variable = keras_private.add_variable(self.site.layer, name, shape, **kwargs)
        self._variables.append(variable)
        return variable

    def _call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = self._lookup(inputs, *args, **kwargs)
        width = self.site.field.output_dim
        vectors = ops.reshape(ops.stop_gradient(outputs), (-1, width))
        self._add_moments(ops.cast(vectors, "float32"), self._weights(inputs))
        noise = ops.reshape(
            self._signed_probe(ops.shape(vectors)[0]), ops.shape(outputs)
        )
        dtype = outputs.dtype
        return outputs * ops.cast(self.gate, dtype) + ops.cast(noise, dtype)

    def _weights(self, inputs: Any) -> Any:
        """1 for a vector that counts, 0 for padding; None if all count."""
        if not self.site.layer.mask_zero or is_reducing(self.site.layer):
            return None
        return ops.reshape(ops.cast(ops.not_equal(inputs, 0), "float32"), (-1, 1))

    def _add_moments(self, vectors: Any, weights: Any) -> None:
        weighted = vectors if weights is None else vectors * weights
        ones = ops.ones_like(vectors[:, 0])
        count = ops.sum(ones) if weights is None else ops.sum(weights)
        self.count.assign_add(count)
        self.sum.assign_add(ops.sum(weighted, axis=0))
        self.outer.assign_add(ops.matmul(ops.transpose(weighted), vectors))

    def _signed_probe(self, number: Any) -> Any:
        index = ops.arange(number, dtype="int32")
        row = index % PROBE_ROWS
        # A hash in place of a generator, which would be one more state to restore.
        phase = ops.cast(row, "float32") * 12.9898
        phase = phase + ops.cast(index // PROBE_ROWS, "float32") * 78.233
        hashed = ops.sin(phase) * 43758.5453
        sign = ops.where(hashed - ops.floor(hashed) < 0.5, -1.0, 1.0)
        rows = ops.take(self.probe, row, axis=0)
        return rows * ops.expand_dims(ops.cast(sign, "float32"), -1)

    def read(self, recorder: SaliencyRecorder) -> FieldMeasurement:
        """What was measured, once `fit` has run with `recorder`."""
        count = max(float(_numpy(self.count)), 1.0)
        layer = self.site.layer
        mean = _numpy(self.sum) / count
        if is_reducing(layer) and layer.combiner != "mean":
            # A constant is added once a row; a sum of rows has no fixed mean.
            mean = np.zeros_like(mean)
        return FieldMeasurement(
            gate_abs=_numpy(recorder.absolute(self.gate)),
            gate_sum=_numpy(recorder.signed(self.gate)),
            mean=mean,
            second_moment=_numpy(self.outer) / count,
            gradient_moment=_numpy(recorder.outer(self.probe)),
            lookups=count,
        )


class SaliencyRecorder(keras.optimizers.Optimizer):
    """An optimizer that adds gradients up in place of stepping.

    A vector's |gradient| and gradient are added up; of a matrix G, the sum of
    its rows' outer products, `G^T G`.
    """

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0, name="saliency_recorder")

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        # By place, as Keras's optimizers do: a backend may hand `update_step`
        # another object for the same variable.
        self._signed, self._other = [], []
        for variable in variables:
            width = variable.shape[-1]
            vector = len(variable.shape) == 1
            self._signed.append(self._slot(variable, (width,) if vector else ()))
            self._other.append(
                self._slot(variable, (width,) if vector else (width, width))
            )

    def _slot(self, variable: keras.Variable, shape: Sequence[int]) -> keras.Variable:
        return self.add_variable(shape=tuple(shape), name=f"{variable.name}_recorded")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        gradient = ops.cast(ops.convert_to_tensor(gradient), "float32")
        index = self._get_variable_index(variable)
        if len(gradient.shape) == 1:
            self.assign_add(self._signed[index], gradient)
            self.assign_add(self._other[index], ops.abs(gradient))
        else:
            outer = ops.matmul(ops.transpose(gradient), gradient)
            self.assign_add(self._other[index], outer)

    def absolute(self, variable: keras.Variable) -> keras.Variable:
        """Sum over batches of |gradient|, of a vector."""
        return self._other[self._get_variable_index(variable)]

    def signed(self, variable: keras.Variable) -> keras.Variable:
        """Sum over batches of the gradient, of a vector."""
        return self._signed[self._get_variable_index(variable)]

    def outer(self, variable: keras.Variable) -> keras.Variable:
        """Sum over batches of `G^T G`, of a matrix."""
        return self._other[self._get_variable_index(variable)]


@contextmanager
def gates_on(sites: Sequence[Site]) -> Iterator[list[Gate]]:
    """Puts a gate on every site, and takes all off at the end."""
    with ExitStack() as stack:
        gates = []
        for site in sites:
            gate = Gate(site)
            stack.callback(gate.remove)
            gate.attach()
            gates.append(gate)
        yield gates


def _numpy(variable: keras.Variable) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(variable), dtype="float64")
