"""What models that propagate over a graph have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_eds.models.bipartite_graph import BipartiteGraph
from keras_eds.models.ranking_model import (
    RankingModel,
    inner_product_scorer,
    inner_products,
)


class GraphRankingModel(RankingModel):
    """Scores by the inner product of vectors that were propagated.

    Both tables are read whole, through their layer, `table(arange)`, so that
    narrow or row-sized ones can take their place. A step propagates over the
    whole graph, whatever the size of the batch; `scorer()` does so once.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        edges: Users and items of the training interactions, two integer
            arrays, such as `(pairs.users, pairs.items)`. Saved with the
            weights.
        layout: Of the graph, in place of `edges`, for a model whose weights
            will be set.
        **kwargs: The other arguments of `RankingModel`.
    """

    def __init__(
        self, num_users: int, num_items: int, edges: Any, layout: Any, **kwargs: Any
    ) -> None:
        super().__init__(num_users, num_items, **kwargs)
        self.graph = BipartiteGraph(
            self.num_users, self.num_items, edges, layout, dtype=self.dtype_policy
        )

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if not self.graph.built:
            self.graph.build()

    def propagate(self, x: Any, training: bool | None) -> Any:
        """Vectors of all users, then all items, from the rows of both tables."""
        raise NotImplementedError

    def vectors(self) -> tuple[Any, Any]:
        """The propagated vectors of all users and of all items."""
        h = self.propagate(self._own_rows(), training=False)
        return h[: self.num_users], h[self.num_users :]

    def ids_by_table(self, inputs: dict[str, Any]) -> list[tuple[Any, Any]]:
        """The ids that a batch is about: both tables are looked up whole."""
        return [
            (self.user_embedding, inputs["user"]),
            (self.item_embedding, inputs["item"]),
        ]

    def _own_rows(self) -> Any:
        user_rows = self.user_embedding(ops.arange(self.num_users))
        item_rows = self.item_embedding(ops.arange(self.num_items))
        return ops.concatenate([user_rows, item_rows], axis=0)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        own = self._own_rows()
        self._add_l2(*self._of_batch(own, inputs), training)
        return inner_products(*self._of_batch(self.propagate(own, training), inputs))

    def _of_batch(self, rows: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        items = inputs["item"] + self.num_users
        return ops.take(rows, inputs["user"], axis=0), ops.take(rows, items, axis=0)

    def scorer(self) -> Callable[[Any], Any]:
        return inner_product_scorer(*self.vectors())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layout": list(self.graph.layout)}
