"""What the layers that look ids up have in common."""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, ops, regularizers

from keras_eds.layers.combining import check_combiner, scale_of


class LookupLayer(keras.layers.Layer):
    """Takes ids of any shape `(batch, ...)` and gives a vector for each.

    Args:
        input_dim: Number of ids.
        output_dim: Width of the output.
        embeddings_initializer: Initializer of the rows.
        embeddings_regularizer: Regularizer of the rows.
        mask_zero: Whether id 0 is padding: masked, or left out where vectors are
            combined.
        combiner: `"mean"`, `"sum"`, `"sqrtn"` or None: reduces the last axis.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any,
        embeddings_regularizer: Any,
        mask_zero: bool,
        combiner: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_combiner(combiner)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.mask_zero = mask_zero
        self.combiner = combiner
        self.supports_masking = mask_zero
        # Ids are no floats; and rows are cast, never a table.
        self.autocast = False

    def _ids_and_scale(self, inputs: Any, weights: Any) -> tuple[Any, Any]:
        """Integer ids, and the weight of each row in its sum, None without one."""
        ids = inputs
        if keras.backend.standardize_dtype(ids.dtype) not in ("int32", "int64"):
            ids = ops.cast(ids, "int32")
        if self.mask_zero and self._reduces(ids.shape):
            # Padding is no part of a mean or a sum.
            counts = ops.cast(ops.not_equal(ids, 0), self.compute_dtype)
            if weights is not None:
                counts = counts * ops.cast(weights, self.compute_dtype)
            weights = counts
        scale = scale_of(ids, weights, self.combiner, self.compute_dtype, self.name)
        return ids, scale

    def _reduces(self, shape: Any) -> bool:
        return self.combiner is not None and len(shape) > 1

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Which ids are no padding; of vectors that are combined, none is left."""
        hidden = self.mask_zero and not self._reduces(inputs.shape)
        return ops.not_equal(inputs, 0) if hidden else None

    def compute_output_shape(
        self, input_shape: Any, weights_shape: Any = None
    ) -> tuple[int | None, ...]:
        leading = input_shape[:-1] if self._reduces(input_shape) else input_shape
        return (*leading, self.output_dim)

    def compute_output_spec(
        self, inputs: Any, weights: Any = None, training: Any = None
    ) -> keras.KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Not supported yet."""
        raise NotImplementedError(
            f"Layer {self.name!r} ({type(self).__name__}) cannot be quantized. "
            f"Received: mode={mode!r}. Leave it out with `filters`."
        )

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.update(
            input_dim=self.input_dim,
            output_dim=self.output_dim,
            embeddings_initializer=initializers.serialize(self.embeddings_initializer),
            embeddings_regularizer=regularizers.serialize(self.embeddings_regularizer),
            mask_zero=self.mask_zero,
            combiner=self.combiner,
        )
        return config
