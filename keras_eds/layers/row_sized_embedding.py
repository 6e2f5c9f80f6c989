"""An embedding in which every id has a length of its own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import initializers, ops

from keras_eds.argument_checks import check_integer
from keras_eds.arrays import as_array
from keras_eds.backend.block_lookup import block_lookup
from keras_eds.backend.lookup import lookup
from keras_eds.layers import row_blocks
from keras_eds.layers.combining import (
    reduce_constant,
    reduce_rows,
)
from keras_eds.layers.int8_tables import Int8Tables
from keras_eds.layers.lookup_layer import LookupLayer
from keras_eds.layers.row_checks import (
    check_blocks,
    check_dense,
    check_fit,
    check_rows,
    check_sizes,
)
from keras_eds.layers.row_initializer import constant_rows, in_table


@keras.saving.register_keras_serializable(package="keras_eds")
class RowSizedEmbedding(Int8Tables, LookupLayer):
    """Looks ids up whose vectors have each its own number of values.

    `output = pad(row[:sizes[id]]) @ projection + constant`, where `pad` appends
    zeros. Ids of similar size share a table of the width of the largest of them,
    so that no table of shape `(input_dim, output_dim)` exists. The layer holds
    at most 7 % more values than `sum(sizes) + input_dim` (but for vocabularies so
    small that a spare row per table counts) and 4 bytes per id to find its row,
    or 2 for a vocabulary of at most 32,768.

    Sizes are weights: they are saved with the weights, and the config holds only
    `blocks`, the layout of the tables. A layer made from a config alone gives the
    lowest ids the largest sizes, until its weights are set.

    Values beyond an id's size are 0 and have no gradient.

    Args:
        input_dim: Number of ids.
        output_dim: Width of the output.
        sizes: Integers of shape `(input_dim,)` from 0 to `output_dim`: how many
            values each id has. An id of size 0 has none.
        blocks: The layout, as pairs (ids, width). Defaults to `None`: few tables
            with little padding. Without `sizes`, for a layer whose weights will
            be set.
        use_projection: Whether to multiply the padded rows by a matrix of shape
            `(max(sizes), output_dim)`. Defaults to `False`: the rows are padded to
            `output_dim`.
        use_constant: Whether to add a trainable vector of shape `(output_dim,)`
            to every id. Defaults to `False`.
        embeddings_initializer: Initializer of the rows, called for each table.
            Defaults to `"uniform"`.
        projection_initializer: Initializer of the projection. Defaults to
            `"identity"`: at first the output is that without a projection.
        train_projection: Whether the projection learns. Defaults to `True`.
        embeddings_regularizer: Regularizer of each table. Defaults to `None`.
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
        ValueError: If sizes or blocks do not fit `input_dim` and `output_dim`.

    Example:

    >>> sizes = [8, 3, 0, 3, 1]
    >>> layer = keras_eds.layers.RowSizedEmbedding(5, 8, sizes)
    >>> layer(np.array([[0, 1, 2]])).shape
    (1, 3, 8)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        sizes: Any = None,
        blocks: Any = None,
        use_projection: bool = False,
        use_constant: bool = False,
        embeddings_initializer: Any = "uniform",
        projection_initializer: Any = "identity",
        train_projection: bool = True,
        embeddings_regularizer: Any = None,
        mask_zero: bool = False,
        combiner: str | None = None,
        **kwargs: Any,
    ) -> None:
        input_dim = check_integer("input_dim", input_dim)
        output_dim = check_integer("output_dim", output_dim)
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer,
            embeddings_regularizer,
            mask_zero,
            combiner,
            **kwargs,
        )
        self._take_sizes(sizes, blocks)
        self.use_projection = use_projection
        self.use_constant = use_constant
        self.projection_initializer = initializers.get(projection_initializer)
        self.train_projection = train_projection

    def _take_sizes(self, sizes: Any, blocks: Any) -> None:
        if sizes is None and blocks is None:
            raise ValueError(
                "`sizes` must be given. Received: neither sizes nor blocks. Give "
                "`sizes`; `blocks` alone is for a layer whose weights will be set."
            )
        if blocks is not None:
            chosen = check_blocks(blocks, self.input_dim, self.output_dim)
            positions = np.arange(self.input_dim, dtype=np.int32)
            reaching = row_blocks.fullest(chosen)
        if sizes is not None:
            array = check_sizes(sizes, self.input_dim, self.output_dim)
            positions = row_blocks.positions_of(array)
            reaching = row_blocks.reaching(array)
            if blocks is None:
                chosen = row_blocks.choose_blocks(array)
            check_fit(array, chosen)
        self.blocks = tuple(chosen)
        self._first_rows: list[npt.NDArray[Any]] | None = None
        self._at_first: Any = (positions, reaching)

    @property
    def stored_width(self) -> int:
        """The largest size."""
        return self.blocks[0].width if self.blocks else 0

    def build(self, input_shape: Any = None) -> None:
        if self._at_first is None:
            return
        self.embeddings: list[keras.Variable] = []
        self.projection = None
        self.constant = None
        if self.blocks:
            self._build_tables()
        if self.blocks and self.use_projection:
            self.projection = self.add_weight(
                name="projection",
                shape=(self.stored_width, self.output_dim),
                initializer=self.projection_initializer,
                trainable=self.train_projection,
            )
        if self.use_constant:
            self.constant = self.add_weight(
                name="constant", shape=(self.output_dim,), initializer="zeros"
            )
        # A list for every id is not to be held twice.
        self._at_first = None

    def _build_tables(self) -> None:
        positions, reaching = self._at_first
        dtype = row_blocks.position_dtype(self.input_dim)
        self.positions = self._add_integers("positions", positions, dtype)
        self.reaching = self._add_integers("reaching", reaching, "int32")
        starts = row_blocks.starts(self.blocks)
        for number, (block, start) in enumerate(zip(self.blocks, starts, strict=False)):
            if self._first_rows is None:
                stop = start + block.ids
                first = in_table(
                    self.embeddings_initializer, number, start, stop, reaching
                )
            else:
                first = constant_rows(self._first_rows[number])
            table = self._add_table(
                f"embeddings_{number}",
                (row_blocks.height(block, self.input_dim), block.width),
                initializer=first,
                regularizer=self.embeddings_regularizer,
            )
            self.embeddings.append(table)
        self._add_scale(self.stored_width)
        self._first_rows = None

    def _add_integers(
        self, name: str, values: npt.NDArray[np.int32], dtype: str
    ) -> Any:
        return self.add_weight(
            name=name,
            shape=values.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype),
            dtype=dtype,
            trainable=False,
        )

    def call(self, inputs: Any, weights: Any = None, training: Any = None) -> Any:
        ids, scale = self._ids_and_scale(inputs, weights)
        rows = self._rows(ids)
        # Reduce first: the narrow rows are the cheaper ones.
        rows = rows if scale is None else reduce_rows(rows, scale)
        if self.projection is not None:
            rows = ops.matmul(rows, ops.cast(self.projection, self.compute_dtype))
        if self.constant is not None:
            constant = ops.cast(self.constant, self.compute_dtype)
            rows = rows + reduce_constant(constant, scale)
        return rows

    def _rows(self, ids: Any) -> Any:
        width = self.output_dim if self.projection is None else self.stored_width
        if not self.blocks:
            return ops.zeros((*ops.shape(ids), width), self.compute_dtype)
        rows = block_lookup(
            self.embeddings,
            row_blocks.starts(self.blocks),
            lookup(self.positions, ids, "int32"),
            ops.convert_to_tensor(self.reaching),
            width,
            self.compute_dtype,
        )
        return self._scaled(rows)

    def _tables(self) -> list[keras.Variable]:
        return list(self.embeddings)

    def _set_tables(self, tables: list[keras.Variable]) -> None:
        self.embeddings = tables

    def sizes(self) -> npt.NDArray[np.int64]:
        """How many values each id has, shape `(input_dim,)`."""
        if not self.blocks:
            return np.zeros(self.input_dim, np.int64)
        if self.built:
            held = (self.positions, self.reaching)
            positions, reaching = (ops.convert_to_numpy(v) for v in held)
        else:
            positions, reaching = self._at_first
        return row_blocks.sizes_of(positions, reaching)

    def to_dense(self) -> npt.NDArray[np.float32]:
        """What each id's lookup gives, shape `(input_dim, output_dim)`."""
        dense = np.empty((self.input_dim, self.output_dim), np.float32)
        for start in range(0, self.input_dim, 65536):
            ids = np.arange(start, min(start + 65536, self.input_dim), dtype=np.int32)
            rows = ops.cast(self(ops.convert_to_tensor(ids)), "float32")
            dense[ids] = ops.convert_to_numpy(ops.stop_gradient(rows))
        return dense

    def build_from_rows(self, table: npt.ArrayLike) -> None:
        """Builds the layer with the first `sizes[id]` values of each row.

        Args:
            table: Floats of shape `(input_dim, width)`, `width` at least the
                largest size.

        Raises:
            ValueError: If the layer is built already, or the shape does not fit.
        """
        if self.built:
            raise ValueError(
                f"`table` must be given before layer {self.name!r} is built. Received: "
                "a layer that is. Use RowSizedEmbedding.from_dense(table, sizes)."
            )
        rows = as_array(table)
        check_rows(rows, self.input_dim, self.stored_width)
        self._first_rows = row_blocks.split_rows(rows, self.sizes(), self.blocks)
        self.build()

    @classmethod
    def from_dense(
        cls,
        table: npt.ArrayLike,
        sizes: Any,
        projection: npt.ArrayLike | None = None,
        constant: npt.ArrayLike | None = None,
        **kwargs: Any,
    ) -> RowSizedEmbedding:
        """A built layer that holds the first `sizes[id]` values of each row.

        Args:
            table: Floats of shape `(input_dim, width)`.
            sizes: Integers of shape `(input_dim,)` from 0 to `width`.
            projection: Floats of shape `(width, output_dim)`. Defaults to `None`:
                `output_dim` is `width`.
            constant: Floats of shape `(output_dim,)`. Defaults to `None`.
            **kwargs: Other arguments of the layer.

        Raises:
            ValueError: If the shapes do not fit each other.
        """
        values = as_array(table)
        given = None if projection is None else as_array(projection)
        output_dim = check_dense(values, given, constant)
        sizes = check_sizes(sizes, len(values), values.shape[1])
        layer = cls(
            len(values),
            output_dim,
            sizes,
            use_projection=given is not None,
            use_constant=constant is not None,
            **kwargs,
        )
        layer.build_from_rows(values)
        if given is not None and layer.projection is not None:
            layer.projection.assign(given[: layer.stored_width])
        if layer.constant is not None:
            layer.constant.assign(constant)
        return layer

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.update(
            blocks=[list(block) for block in self.blocks],
            use_projection=self.use_projection,
            use_constant=self.use_constant,
            projection_initializer=initializers.serialize(self.projection_initializer),
            train_projection=self.train_projection,
        )
        return config
