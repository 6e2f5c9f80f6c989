"""The normalised graph of users and items, as a layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_eds.argument_checks import check_integer
from keras_eds.errors import DataError
from keras_eds.models.compiled import compiled
from keras_eds.models.half_precision import dtype_of, widened
from keras_eds.models.neighbour_lists import LENGTH, neighbour_lists, num_pieces
from keras_eds.models.packed_edges import pack_edges, unpack_edges


@keras.saving.register_keras_serializable(package="keras_eds")
class BipartiteGraph(keras.layers.Layer):
    """Gives every node the sum of its neighbours: `y = D^-1/2 A D^-1/2 x`.

    `A` is the symmetric 0/1 matrix of who met what, `D` the diagonal matrix of
    the numbers of neighbours. Nodes are the users, then the items. A node
    without neighbours gets 0. No product with a dense or sparse matrix is
    formed: neighbours are gathered and added, on every backend, and, since the
    matrix is symmetric, the gradient is the same operation.

    Edges are weights: they are saved with the weights (packed, about 2 bytes
    an edge), and the config holds only their number.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        edges: Users and items of the edges, two integer arrays `(edges,)`.
        layout: How many edges and pieces of lists there are, in place of
            `edges`, for a layer whose weights will be set.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.

    Input shape: `(num_users + num_items, dim)`. Output shape: the same.

    Raises:
        DataError: If an edge is out of range or there twice.
        ValueError: If neither `edges` nor `layout` is given, or a number is
            not positive.

    Example:

    >>> graph = BipartiteGraph(1, 4, edges=([0, 0, 0, 0], [0, 1, 2, 3]))
    >>> y = graph(np.array([[2.0], [1.0], [1.0], [1.0], [5.0]], "float32"))
    >>> keras.ops.convert_to_numpy(y).ravel().tolist()
    [4.0, 1.0, 1.0, 1.0, 1.0]

    Reference: He et al., LightGCN: Simplifying and Powering Graph Convolution
    Network for Recommendation, SIGIR 2020, equation 3.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        edges: Any = None,
        layout: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_users = check_integer("num_users", num_users)
        self.num_items = check_integer("num_items", num_items)
        if edges is None and layout is None:
            raise ValueError(
                "`edges` must be given. Received: neither edges nor layout. Give "
                "`edges`; `layout` alone is for a layer whose weights will be set."
            )
        # Three arrays of integers, none of which a dtype policy may cast.
        self.autocast = False
        if edges is not None:
            users, items = _check_edges(edges, self.num_users, self.num_items)
            pieces = num_pieces(users, items, self.num_users, self.num_items)
            layout = (len(users), pieces)
            self._first: Any = (users, items)
        else:
            self._first = None
        self.layout = tuple(int(number) for number in layout)

    @property
    def num_nodes(self) -> int:
        """Users and items together."""
        return self.num_users + self.num_items

    def build(self, input_shape: Any = None) -> None:
        pieces = self.layout[1]
        self.neighbours = self._integers("neighbours", (LENGTH, pieces))
        self.owners = self._integers("owners", (pieces,))
        self.scale = self.add_weight(
            name="scale", shape=(self.num_nodes, 1), initializer="zeros",
            dtype="float32", trainable=False,
        )  # fmt: skip
        if self._first is not None:
            self._assign(*self._first)
            self._first = None

    def _integers(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", dtype="int32", trainable=False
        )

    def _assign(self, users: Any, items: Any) -> None:
        neighbours, owners = neighbour_lists(
            users, items, self.num_users, self.num_items
        )
        counts = (neighbours < self.num_nodes).sum(axis=0)
        degrees = np.bincount(owners, counts, minlength=self.num_nodes)
        scale = np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0)
        self.neighbours.assign(neighbours)
        self.owners.assign(owners)
        self.scale.assign(scale[:, None])

    def call(self, inputs: Any) -> Any:
        # Half precision stands still when a small number is added to a large one.
        values = widened(inputs)
        # On TensorFlow `convert_to_tensor` leaves a Keras variable as it is.
        sums = _symmetric_product(
            values,
            ops.cast(self.neighbours, "int32"),
            ops.cast(self.owners, "int32"),
            ops.cast(self.scale, dtype_of(values)),
        )
        return ops.cast(sums, dtype_of(inputs))

    def edges(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Users and items of the edges, sorted by user, then item."""
        if not self.built:
            return self._first if self._first is not None else _no_edges()
        pieces = ops.convert_to_numpy(self.neighbours)
        owners = ops.convert_to_numpy(self.owners)
        is_edge = (pieces < self.num_nodes) & (owners < self.num_users)
        _, columns = np.nonzero(is_edge)
        users = owners[columns].astype(np.int64)
        items = pieces[is_edge].astype(np.int64) - self.num_users
        order = np.lexsort((items, users))
        return users[order], items[order]

    def save_own_variables(self, store: Any) -> None:
        store["edges"] = pack_edges(*self.edges(), self.num_users)

    def load_own_variables(self, store: Any) -> None:
        packed = np.asarray(store["edges"])
        self._assign(*unpack_edges(packed, self.num_users))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.update(
            num_users=self.num_users,
            num_items=self.num_items,
            layout=list(self.layout),
        )
        return config


def _no_edges() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def _check_edges(edges: Any, num_users: int, num_items: int) -> tuple[Any, Any]:
    users, items = (np.asarray(part).astype(np.int64) for part in edges)
    if users.shape != items.shape or users.ndim != 1:
        raise DataError(
            "`edges` must be two vectors of the same length. Received: shapes "
            f"{users.shape} and {items.shape}. Give the users and the items."
        )
    outside = (users < 0) | (users >= num_users) | (items < 0) | (items >= num_items)
    if outside.any():
        raise DataError(
            f"`edges` must join users 0 .. {num_users - 1} with items 0 .. "
            f"{num_items - 1}. Received: {int(outside.sum())} that do not. "
            "Number both from 0."
        )
    keys = np.unique(users * num_items + items)
    if len(keys) < len(users):
        raise DataError(
            "`edges` must hold every edge once. Received: "
            f"{len(users) - len(keys)} repeated. Drop the copies."
        )
    return np.divmod(keys, num_items)


def _symmetric_product(x: Any, neighbours: Any, owners: Any, scale: Any) -> Any:
    """`S A S x`, with itself as gradient."""

    def product(values: Any) -> Any:
        def gradient(*args: Any, upstream: Any = None) -> Any:
            given = args[0] if upstream is None else upstream
            return _product(given, neighbours, owners, scale)

        return _product(values, neighbours, owners, scale), gradient

    return ops.custom_gradient(product)(x)


# Op by op, sixteen large sums would be written and read again: 6 times slower.
@compiled
def _product(x: Any, neighbours: Any, owners: Any, scale: Any) -> Any:
    # One more row, of zeros, for what pads the lists.
    scaled = ops.pad(x * scale, [[0, 1], [0, 0]])
    total = ops.take(scaled, neighbours[0], axis=0)
    for place in range(1, LENGTH):
        total = total + ops.take(scaled, neighbours[place], axis=0)
    # TensorFlow takes the number of segments for unsorted ones only.
    is_sorted = keras.backend.backend() != "tensorflow"
    sums = ops.segment_sum(total, owners, x.shape[0], sorted=is_sorted)
    return sums * scale
