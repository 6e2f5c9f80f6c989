"""Tables that can be stored with one byte a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_eds.errors import FieldError

LARGEST = 127


class Int8Tables(keras.layers.Layer):
    """Mixin of layers whose tables can be turned into 8-bit integers.

    `table[i, c] ~ integers[i, c] * scale[c]`, `scale[c] = max_i |table[i, c]| / 127`:
    a scale for each column, over all tables of the layer together. (Keras's own
    `Embedding` has one for each row: 4 bytes, which is what a narrow row takes.)
    Integers are not trained. The rest of the layer stays as it is.
    """

    dtype_policy: Any
    embeddings_scale: keras.Variable | None = None

    def _tables(self) -> list[keras.Variable]:
        """The tables, `(rows, columns)`, the widest first."""
        raise NotImplementedError

    def _set_tables(self, tables: list[keras.Variable]) -> None:
        raise NotImplementedError

    def _add_table(self, name: str, shape: Sequence[int], **kwargs: Any) -> Any:
        if self.quantization_mode is None:
            return self.add_weight(name=name, shape=shape, **kwargs)
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", dtype="int8", trainable=False
        )

    def _add_scale(self, columns: int) -> None:
        if self.quantization_mode is not None:
            self.embeddings_scale = self.add_weight(
                name="embeddings_scale",
                shape=(columns,),
                initializer="ones",
                trainable=False,
            )

    def _scaled(self, rows: Any) -> Any:
        """What looked-up `rows`, `(..., width)`, stand for."""
        if self.embeddings_scale is None:
            return rows
        scale = ops.cast(self.embeddings_scale, rows.dtype)
        missing = rows.shape[-1] - scale.shape[0]
        return rows * (ops.pad(scale, (0, missing)) if missing else scale)

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Turns the tables into 8-bit integers, in place.

        Args:
            mode: `"int8"`.
            type_check: Not used: subclasses are quantized too.
            config: Not used.

        Raises:
            NotImplementedError: If `mode` is another one.
            ValueError: If the layer is not built or quantized already.
            FieldError: If it computes in float16, or a row is not finite.
        """
        if mode != "int8":
            raise NotImplementedError(
                f"`mode` must be 'int8' for layer {self.name!r}. "
                f"Received: mode={mode!r}. Use 'int8', or leave the layer out."
            )
        if not self.built or self.quantization_mode is not None:
            state = "is quantized already" if self.built else "is not built"
            raise ValueError(
                f"Layer {self.name!r} must be built and not quantized yet. Received: "
                f"a layer that {state}. Quantize once, after the first call."
            )
        old = self._tables()
        check_precision(self)
        check_finite(self, old)
        integers, scale = to_int8([ops.convert_to_numpy(table) for table in old])
        # Surgery may have taken off Keras's wrapper, which unlocks the layer.
        self._tracker.unlock()
        try:
            self._exchange(old, integers, scale)
        finally:
            self._tracker.lock()

    def _exchange(
        self,
        old: list[keras.Variable],
        integers: list[npt.NDArray[np.int8]],
        scale: npt.NDArray[np.float32],
    ) -> None:
        self._is_quantized = True
        self.dtype_policy = keras.dtype_policies.get(
            f"int8_from_{self.dtype_policy.name}"
        )
        names = [table.name for table in old]
        for table in old:
            self._untrack_variable(table)
        new = [
            self._add_table(name, values.shape)
            for name, values in zip(names, integers, strict=True)
        ]
        self._set_tables(new)
        for table, values in zip(new, integers, strict=True):
            table.assign(values)
        if new:
            self._add_scale(len(scale))
            assert self.embeddings_scale is not None
            self.embeddings_scale.assign(scale)

    def _check_quantize_args(self, mode: Any, compute_dtype: str) -> None:
        # Keras asks this before `quantize`, and names no layer.
        check_precision(self)
        super()._check_quantize_args(mode, compute_dtype)

    def _int8_call(self, *args: Any, **kwargs: Any) -> Any:
        # Keras calls this in the place of `call`.
        return self.call(*args, **kwargs)


def check_precision(layer: keras.layers.Layer) -> None:
    """Refuses float16, whose tables Keras does not quantize.

    Raises:
        FieldError: If the layer computes in it.
    """
    if layer.compute_dtype == "float16":
        raise FieldError(
            f"Table {layer.name!r} must compute in float32 or bfloat16 to be "
            f"quantized. Received: dtype {layer.dtype_policy.name!r}, which computes "
            "in float16. Reload it with float32 or mixed_bfloat16."
        )


def check_finite(layer: keras.layers.Layer, tables: Sequence[keras.Variable]) -> None:
    """Refuses NaN and infinity, which would spread over a column by its scale.

    Raises:
        FieldError: If a row of the layer's `tables` is not finite.
    """
    rows = sum(
        int((~np.isfinite(ops.convert_to_numpy(table)).all(axis=1)).sum())
        for table in tables
    )
    if rows:
        raise FieldError(
            f"Table {layer.name!r} must be finite to be quantized. Received: {rows:,} "
            "rows with values that are not. Check the learning rate, and the data "
            "for NaN."
        )


def to_int8(
    tables: Sequence[npt.NDArray[np.floating]],
) -> tuple[list[npt.NDArray[np.int8]], npt.NDArray[np.float32]]:
    """Integers of each table, and one scale for each column of all.

    Args:
        tables: Shapes `(rows, columns)`; columns of equal number share a scale.

    Returns:
        Arrays of the tables' shapes, and scales of the widest table's columns.
    """
    scale = np.zeros(max((t.shape[1] for t in tables), default=0), np.float32)
    for table in tables:
        width = table.shape[1]
        largest = np.abs(table).max(axis=0, initial=0)
        scale[:width] = np.maximum(scale[:width], largest / LARGEST)
    # A column of zeros needs no scale of its own.
    scale[scale == 0] = 1
    integers = [
        np.rint(table / scale[: table.shape[1]]).astype(np.int8) for table in tables
    ]
    return integers, scale
