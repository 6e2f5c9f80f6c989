"""The items of the largest inner products, found exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_eds.layers.int8_tables import Int8Tables
from keras_eds.retrieval.item_vectors import check_k, item_vectors


@keras.saving.register_keras_serializable(package="keras_eds")
class ExactIndex(Int8Tables):
    """Finds the `k` items whose vectors have the largest inner product with a query.

    `score_i = <u, v_i>`, over all items. Of a table that was cut it holds what the
    table holds: for `v_i = v'_i @ projection + constant` it computes
    `<u @ projection.T, v'_i> + <u, constant>`, and rows of many sizes stay in
    blocks of one width each. Make one with `ExactIndex.of`. It goes into a model
    behind the layers that make the query, and is saved, quantized and exported
    with it. `keras_rs.layers.BruteForceRetrieval` does the same for wide vectors,
    and does not save them.

    Args:
        shapes: `(items, width)` of each block, the widest first.
        num_items: Number of items, those in no block included.
        query_dim: Width of a query.
        k: How many items to find. Defaults to 10.
        has_ids: Whether items have another order than the blocks.
        use_projection: Whether there is a projection.
        use_constant: Whether there is a constant.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.

    Input shape: `(batch, query_dim)`.
    Output shapes: scores and items, both `(batch, k)`, the best first.

    Raises:
        ValueError: If `k` is more than there are items, or a query has another
            width.

    Example:

    >>> index = keras_eds.retrieval.ExactIndex.of(np.eye(3), k=2)
    >>> scores, items = index(np.array([[0.1, 0.9, 0.5]]))
    >>> keras.ops.convert_to_numpy(items).tolist()
    [[1, 2]]
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        num_items: int,
        query_dim: int,
        k: int = 10,
        has_ids: bool = False,
        use_projection: bool = False,
        use_constant: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=False, **kwargs)
        self.shapes = [list(shape) for shape in shapes]
        self.num_items = num_items
        self.query_dim = query_dim
        self.k = check_k(k, num_items)
        self.has_ids = has_ids
        self.use_projection = use_projection
        self.use_constant = use_constant

    @classmethod
    def of(cls, source: Any, k: int = 10, **kwargs: Any) -> ExactIndex:
        """An index of the vectors of an embedding layer, or of an array.

        Args:
            source: A built `keras.layers.Embedding`, `PrunedFieldEmbedding` or
                `RowSizedEmbedding`, whose ids are the items; or an array of shape
                `(num_items, query_dim)`.
            k: How many items to find. Defaults to 10.
            **kwargs: `name`, `dtype` of the layer.

        Raises:
            DataError: If `source` cannot be read.
            ValueError: If `k` is more than there are items.
        """
        found = item_vectors(source)
        index = cls(
            [block.shape for block in found.blocks],
            found.num_items,
            found.query_dim,
            k,
            found.ids is not None,
            found.projection is not None,
            found.constant is not None,
            **kwargs,
        )
        index.build()
        arrays = [found.ids, found.projection, found.constant, *found.blocks]
        held = [index.ids, index.projection, index.constant, *index.embeddings]
        for variable, array in zip(held, arrays, strict=True):
            if variable is not None:
                variable.assign(array)
        return index

    def build(self, input_shape: Any = None) -> None:
        widest = self.shapes[0][1] if self.shapes else 0
        self.ids = self._add("ids", (self.num_items,), self.has_ids, dtype="int32")
        self.projection = self._add(
            "projection", (widest, self.query_dim), self.use_projection
        )
        self.constant = self._add("constant", (self.query_dim,), self.use_constant)
        self.embeddings = [
            self._add_table(f"embeddings_{n}", tuple(shape), initializer="zeros")
            for n, shape in enumerate(self.shapes)
        ]
        if self.shapes:
            self._add_scale(widest)

    def _add(self, name: str, shape: Any, wanted: bool, dtype: Any = None) -> Any:
        if not wanted:
            return None
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", dtype=dtype, trainable=False
        )

    def call(self, inputs: Any) -> Any:
        self._check_width(inputs)
        queries = ops.cast(inputs, self.compute_dtype)
        top, places = ops.top_k(self._scores(queries), self.k)
        if self.constant is not None:
            constant = ops.cast(self.constant, queries.dtype)
            top = top + ops.expand_dims(ops.matmul(queries, constant), -1)
        ids = places if self.ids is None else ops.take(self.ids, places, axis=0)
        return top, ops.cast(ids, "int32")

    def _scores(self, queries: Any) -> Any:
        """Scores of all places, without the constant's, which all share."""
        narrow = queries
        if self.projection is not None:
            projection = ops.cast(self.projection, queries.dtype)
            narrow = ops.matmul(queries, ops.transpose(projection))
        if self.embeddings:
            narrow = self._scaled(narrow)
        parts = [
            ops.matmul(
                narrow[:, : table.shape[1]],
                ops.transpose(ops.cast(table, queries.dtype)),
            )
            for table in self.embeddings
        ]
        rest = self.num_items - sum(items for items, _ in self.shapes)
        if rest:
            # Of these nothing is known but the constant.
            parts.append(ops.zeros((ops.shape(queries)[0], rest), queries.dtype))
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def _check_width(self, queries: Any) -> None:
        if len(queries.shape) != 2 or queries.shape[1] != self.query_dim:
            raise ValueError(
                f"`inputs` must be queries of shape (batch, {self.query_dim}). "
                f"Received: shape {tuple(queries.shape)}. Give the output of the "
                "tower that the items' vectors were trained with."
            )

    def _tables(self) -> list[keras.Variable]:
        return list(self.embeddings)

    def _set_tables(self, tables: list[keras.Variable]) -> None:
        self.embeddings = tables

    def num_bytes(self) -> int:
        """What the index holds."""
        return sum(
            int(np.prod(v.shape)) * np.dtype(_numpy_dtype(v)).itemsize
            for v in self.variables
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.k), (input_shape[0], self.k)

    def compute_output_spec(self, inputs: Any) -> Any:
        scores, items = self.compute_output_shape(inputs.shape)
        return (
            keras.KerasTensor(scores, self.compute_dtype),
            keras.KerasTensor(items, "int32"),
        )

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.pop("trainable", None)
        config.update(
            shapes=self.shapes,
            num_items=self.num_items,
            query_dim=self.query_dim,
            k=self.k,
            has_ids=self.has_ids,
            use_projection=self.use_projection,
            use_constant=self.use_constant,
        )
        return config


def _numpy_dtype(variable: keras.Variable) -> str:
    name = keras.backend.standardize_dtype(variable.dtype)
    return "float16" if name == "bfloat16" else str(name)
