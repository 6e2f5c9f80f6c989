"""An embedding whose table is narrower than the vectors that it gives."""

from __future__ import annotations

from typing import Any

import keras
from keras import constraints, initializers, ops

from keras_eds.argument_checks import check_integer
from keras_eds.backend.lookup import lookup
from keras_eds.layers.combining import (
    reduce_constant,
    reduce_rows,
)
from keras_eds.layers.int8_tables import Int8Tables
from keras_eds.layers.lookup_layer import LookupLayer


@keras.saving.register_keras_serializable(package="keras_eds")
class PrunedFieldEmbedding(Int8Tables, LookupLayer):
    """Looks ids up in a narrow table and projects the rows to full width.

    `output = embeddings[ids] @ projection + constant`, with `embeddings` of
    shape `(input_dim, kept_dim)`, `projection` (the alignment) of shape
    `(kept_dim, output_dim)` and `constant` of shape `(output_dim,)`. With
    `kept_dim == 0` the field is dropped: every id has the vector `constant`.

    Args:
        input_dim: Number of ids.
        kept_dim: Width of the table, from 0 to `output_dim`.
        output_dim: Width of the output. Defaults to `kept_dim`, which needs no
            projection.
        use_constant: Whether to add a trainable constant. Defaults to `False`.
        embeddings_initializer: Initializer of the table. Defaults to `"uniform"`.
        projection_initializer: Initializer of the projection. Defaults to
            `"glorot_uniform"`.
        train_projection: Whether the projection learns. Defaults to `True`.
        embeddings_regularizer: Regularizer of the table. Defaults to `None`.
        embeddings_constraint: Constraint on the table. Defaults to `None`.
        mask_zero: Whether id 0 is padding: masked as in `keras.layers.Embedding`,
            with a combiner left out. Defaults to `False`.
        combiner: `"mean"`, `"sum"` or `"sqrtn"`: reduces the last axis of
            inputs of rank 2 and more, as in `keras_rs.layers.EmbedReduce`.
            Defaults to `None`: no reduction.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Input shape: integers of any shape `(batch, ...)`.
    Output shape: the input's shape with `output_dim` appended; with a
    `combiner`, in place of the last axis.

    Raises:
        ValueError: If a size is out of range or the combiner unknown.

    Example:

    >>> layer = keras_eds.layers.PrunedFieldEmbedding(1000, 4, output_dim=32)
    >>> layer(np.array([[1, 2, 3]])).shape
    (1, 3, 32)

    Reference:
        Qu et al., Single-shot Embedding Dimension Search in Recommender System,
        SIGIR 2022 (alignment of mixed dimensions).
    """

    def __init__(
        self,
        input_dim: int,
        kept_dim: int,
        output_dim: int | None = None,
        use_constant: bool = False,
        embeddings_initializer: Any = "uniform",
        projection_initializer: Any = "glorot_uniform",
        train_projection: bool = True,
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        combiner: str | None = None,
        **kwargs: Any,
    ) -> None:
        output_dim = kept_dim if output_dim is None else output_dim
        input_dim = check_integer("input_dim", input_dim)
        remedy = "For a dropped field give kept_dim=0 and output_dim=..."
        output_dim = check_integer("output_dim", output_dim, remedy=remedy)
        kept_dim = check_integer("kept_dim", kept_dim, 0)
        if kept_dim > output_dim:
            raise ValueError(
                "`kept_dim` must be at most `output_dim`. Received: "
                f"kept_dim={kept_dim}, output_dim={output_dim}. Lower kept_dim."
            )
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer,
            embeddings_regularizer,
            mask_zero,
            combiner,
            **kwargs,
        )
        self.kept_dim = kept_dim
        self.use_constant = use_constant
        self.projection_initializer = initializers.get(projection_initializer)
        self.train_projection = train_projection
        self.embeddings_constraint = constraints.get(embeddings_constraint)

    @property
    def has_projection(self) -> bool:
        """Whether the narrow rows are projected."""
        return 0 < self.kept_dim < self.output_dim

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = None
        self.projection = None
        self.constant = None
        if self.kept_dim:
            self.embeddings = self._add_table(
                "embeddings",
                (self.input_dim, self.kept_dim),
                initializer=self.embeddings_initializer,
                regularizer=self.embeddings_regularizer,
                constraint=self.embeddings_constraint,
            )
            self._add_scale(self.kept_dim)
        if self.has_projection:
            self.projection = self.add_weight(
                name="projection",
                shape=(self.kept_dim, self.output_dim),
                initializer=self.projection_initializer,
                trainable=self.train_projection,
            )
        if self.use_constant:
            self.constant = self.add_weight(
                name="constant", shape=(self.output_dim,), initializer="zeros"
            )

    def call(self, inputs: Any, weights: Any = None, training: Any = None) -> Any:
        ids, scale = self._ids_and_scale(inputs, weights)
        if self.kept_dim == 0:
            return self._only_constant(ids, scale)
        rows = self._scaled(lookup(self.embeddings, ids, self.compute_dtype))
        # Reduce first: the narrow rows are the cheaper ones.
        rows = rows if scale is None else reduce_rows(rows, scale)
        if self.projection is not None:
            rows = ops.matmul(rows, ops.cast(self.projection, self.compute_dtype))
        if self.constant is not None:
            constant = ops.cast(self.constant, self.compute_dtype)
            rows = rows + reduce_constant(constant, scale)
        return rows

    def _tables(self) -> list[keras.Variable]:
        return [] if self.embeddings is None else [self.embeddings]

    def _set_tables(self, tables: list[keras.Variable]) -> None:
        self.embeddings = tables[0] if tables else None

    def _only_constant(self, ids: Any, scale: Any) -> Any:
        shape = ops.shape(ids)
        if self.combiner is not None and len(ids.shape) > 1:
            shape = shape[:-1]
        zeros = ops.zeros((*shape, self.output_dim), dtype=self.compute_dtype)
        if self.constant is None:
            return zeros
        constant = ops.cast(self.constant, self.compute_dtype)
        return zeros + reduce_constant(constant, scale)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.update(
            kept_dim=self.kept_dim,
            use_constant=self.use_constant,
            projection_initializer=initializers.serialize(self.projection_initializer),
            train_projection=self.train_projection,
            embeddings_constraint=constraints.serialize(self.embeddings_constraint),
        )
        return config
