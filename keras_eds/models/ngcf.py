"""NGCF."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_eds.argument_checks import check_integer, check_number
from keras_eds.models.building_blocks import dense
from keras_eds.models.graph_ranking_model import GraphRankingModel
from keras_eds.models.unit_vector import unit_vector


@keras.saving.register_keras_serializable(package="keras_eds")
class NGCF(GraphRankingModel):
    """Passes messages between users and items, with weights at every layer.

    `s_ui = <h_u, h_i>` with `h = [x_0, n(x_1), .., n(x_L)]`, `n` the scaling
    to length 1, `x_{l+1} = f((L x_l + x_l) W_1 + (L x_l * x_l) W_2 + b)`,
    `L = D^-1/2 A D^-1/2` (see `BipartiteGraph`), `f` LeakyReLU with slope 0.2
    and `x_0` the two tables. A step propagates over the whole graph, whatever
    the size of the batch; `scorer()` and `score_all` do so once.

    Departures: the scaling `n` is of the published code, not in the paper;
    node dropout drops all messages that a node sends, as the paper has it,
    where the code drops single edges; and no dropout is active when scoring.

    Args:
        num_users: Number of users: ids are `0 .. num_users - 1`.
        num_items: Number of items.
        edges: Users and items of the training interactions, see `LightGCN`.
        embedding_dim: Width of the tables. Defaults to 64.
        layer_units: Width of each `x_l`. Defaults to `(64, 64, 64)`.
        node_dropout: Share of nodes that send nothing in a training step, in
            [0, 1). Defaults to 0.1.
        message_dropout: Dropped share of each `x_l`, in [0, 1). Defaults to
            0.1.
        embeddings_initializer: Initializer of both tables. Defaults to `None`:
            Xavier (Glorot) uniform.
        embeddings_l2: Penalty on the rows of a batch before propagation, see
            `LightGCN`. Defaults to 1e-5, the paper's choice for Gowalla.
        seed: Seed of all initial weights and dropout; `None` for Keras's own.
        layout: Of the graph, in place of `edges`, for a model whose weights
            will be set.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Input shape: `{"user": (batch,), "item": (batch, n)}`.
    Output shape: `(batch, n)`.

    Raises:
        DataError: If an edge is out of range or there twice.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> model = NGCF(2, 3, edges=([0, 0, 1], [0, 1, 2]), layer_units=[8], seed=0)
    >>> model.score_all([0, 1]).shape
    (2, 3)

    Reference: Wang et al., Neural Graph Collaborative Filtering, SIGIR 2019,
    section 2.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        edges: Any = None,
        embedding_dim: int = 64,
        layer_units: Any = (64, 64, 64),
        node_dropout: float = 0.1,
        message_dropout: float = 0.1,
        embeddings_initializer: Any = None,
        embeddings_l2: float = 1e-5,
        seed: int | None = None,
        layout: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            edges,
            layout,
            embedding_dim=embedding_dim,
            embeddings_initializer=embeddings_initializer or "glorot_uniform",
            embeddings_l2=embeddings_l2,
            seed=seed,
            **kwargs,
        )
        self.layer_units = [
            check_integer("layer_units", units) for units in layer_units
        ]
        self.node_dropout = check_number("node_dropout", node_dropout, least=0, below=1)
        self.message_dropout = check_number(
            "message_dropout", message_dropout, least=0, below=1
        )
        self._add_layers()
        self.build()

    def _add_layers(self) -> None:
        numbers = range(len(self.layer_units))
        policy, seeds = self.dtype_policy, self._seeds
        self.sums = [
            dense(units, seeds, dtype=policy, name=f"sum_{n}")
            for n, units in zip(numbers, self.layer_units, strict=True)
        ]
        self.products = [
            dense(units, seeds, use_bias=False, dtype=policy, name=f"product_{n}")
            for n, units in zip(numbers, self.layer_units, strict=True)
        ]
        self.messages = [
            keras.layers.Dropout(
                self.message_dropout, seed=next(seeds), dtype=policy, name=f"drop_{n}"
            )
            for n in numbers
        ]
        self.senders = [
            keras.layers.Dropout(
                self.node_dropout, noise_shape=(None, 1), seed=next(seeds),
                dtype=policy, name=f"silence_{n}",
            )
            for n in numbers
        ]  # fmt: skip

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        width = self.embedding_dim
        layers = (self.layer_units, self.sums, self.products)
        for units, sums, products in zip(*layers, strict=True):
            if not sums.built:
                sums.build((None, width))
                products.build((None, width))
            width = units

    def propagate(self, x: Any, training: bool | None) -> Any:
        parts = [x]
        for number in range(len(self.layer_units)):
            received = self.graph(self.senders[number](x, training=training))
            x = self.sums[number](received + x) + self.products[number](received * x)
            x = ops.leaky_relu(x, negative_slope=0.2)
            x = self.messages[number](x, training=training)
            parts.append(unit_vector(x))
        return ops.concatenate(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            layer_units=list(self.layer_units),
            node_dropout=self.node_dropout,
            message_dropout=self.message_dropout,
        )
        return config
