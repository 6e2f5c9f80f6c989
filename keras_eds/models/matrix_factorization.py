"""Matrix factorisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_eds.models.ranking_model import (
    RankingModel,
    inner_product_scorer,
    inner_products,
)


@keras.saving.register_keras_serializable(package="keras_eds")
class MatrixFactorization(RankingModel):
    """Scores an item for a user by the inner product of their vectors.

    `s_ui = <e_u, e_i>`, without biases.

    Args:
        num_users: Number of users: ids are `0 .. num_users - 1`.
        num_items: Number of items.
        embedding_dim: Width of the vectors. Defaults to 64.
        embeddings_initializer: Initializer of both tables. Defaults to `None`:
            normal with standard deviation 0.01.
        embeddings_l2: Penalty on the rows of a batch, `l` in
            `l / 2 * mean_b (|e_u|^2 + sum_i |e_i|^2)`. Defaults to 1e-4.
        seed: Seed of all initial weights; `None` for Keras's own.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Input shape: `{"user": (batch,), "item": (batch, n)}`.
    Output shape: `(batch, n)`.

    Raises:
        ValueError: If an argument breaks the rules above.

    Example:

    >>> model = MatrixFactorization(num_users=10, num_items=20, seed=0)
    >>> model.compile("adam", BPRLoss())
    >>> model.score_all([3, 4]).shape
    (2, 20)

    Reference: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit
    Feedback, UAI 2009, section 4.3.1.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        embeddings_initializer: Any = None,
        embeddings_l2: float = 1e-4,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if embeddings_initializer is None:
            embeddings_initializer = keras.initializers.RandomNormal(stddev=0.01)
        super().__init__(
            num_users,
            num_items,
            embedding_dim,
            embeddings_initializer,
            embeddings_l2,
            seed,
            **kwargs,
        )
        self.build()

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        user_rows = self.user_embedding(inputs["user"])
        item_rows = self.item_embedding(inputs["item"])
        self._add_l2(user_rows, item_rows, training)
        return inner_products(user_rows, item_rows)

    def scorer(self) -> Callable[[Any], Any]:
        return inner_product_scorer(
            self.user_embedding(ops.arange(self.num_users)),
            self.item_embedding(ops.arange(self.num_items)),
        )
