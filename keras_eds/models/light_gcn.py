"""LightGCN."""

from __future__ import annotations

from typing import Any

import keras

from keras_eds.argument_checks import check_integer
from keras_eds.models.graph_ranking_model import GraphRankingModel


@keras.saving.register_keras_serializable(package="keras_eds")
class LightGCN(GraphRankingModel):
    """Smooths the vectors of users and items over the graph of who met what.

    `s_ui = <h_u, h_i>` with `h = (x_0 + x_1 + .. + x_L) / (L + 1)`,
    `x_{l+1} = D^-1/2 A D^-1/2 x_l` (see `BipartiteGraph`) and `x_0` the two
    tables. A step propagates over the whole graph, whatever the size of the
    batch: make batches large. `scorer()` and `score_all` do so once.

    Args:
        num_users: Number of users: ids are `0 .. num_users - 1`.
        num_items: Number of items.
        edges: Users and items of the training interactions, two integer
            arrays, such as `(pairs.users, pairs.items)`. Saved with the
            weights.
        embedding_dim: Width of the vectors. Defaults to 64.
        num_layers: `L`. Defaults to 3.
        embeddings_initializer: Initializer of both tables. Defaults to `None`:
            normal with standard deviation 0.1, as in the published code. The
            paper has Xavier, CIESS 0.01.
        embeddings_l2: Penalty on the rows of a batch before propagation, `l`
            in `l / 2 * mean_b (|x_u|^2 + sum_i |x_i|^2)`. Defaults to 1e-4.
        seed: Seed of all initial weights; `None` for Keras's own.
        layout: Of the graph, in place of `edges`, for a model whose weights
            will be set.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Input shape: `{"user": (batch,), "item": (batch, n)}`.
    Output shape: `(batch, n)`.

    Raises:
        DataError: If an edge is out of range or there twice.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> model = LightGCN(2, 3, edges=([0, 0, 1], [0, 1, 2]), seed=0)
    >>> model.compile("adam", BPRLoss())
    >>> model.score_all([0, 1]).shape
    (2, 3)

    Reference: He et al., LightGCN: Simplifying and Powering Graph Convolution
    Network for Recommendation, SIGIR 2020, section 3.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        edges: Any = None,
        embedding_dim: int = 64,
        num_layers: int = 3,
        embeddings_initializer: Any = None,
        embeddings_l2: float = 1e-4,
        seed: int | None = None,
        layout: Any = None,
        **kwargs: Any,
    ) -> None:
        if embeddings_initializer is None:
            embeddings_initializer = keras.initializers.RandomNormal(stddev=0.1)
        super().__init__(
            num_users,
            num_items,
            edges,
            layout,
            embedding_dim=embedding_dim,
            embeddings_initializer=embeddings_initializer,
            embeddings_l2=embeddings_l2,
            seed=seed,
            **kwargs,
        )
        self.num_layers = check_integer("num_layers", num_layers)
        self.build()

    def propagate(self, x: Any, training: bool | None) -> Any:
        total = x
        for _ in range(self.num_layers):
            x = self.graph(x)
            total = total + x
        return total / (self.num_layers + 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": self.num_layers}
