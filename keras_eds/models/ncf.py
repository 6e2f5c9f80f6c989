"""Neural collaborative filtering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_eds.argument_checks import check_integer
from keras_eds.models.building_blocks import dense
from keras_eds.models.ranking_model import RankingModel

# Hidden values of all items that are held at once while scoring.
_VALUES_A_BLOCK = 2**24


@keras.saving.register_keras_serializable(package="keras_eds")
class NCF(RankingModel):
    """Neural matrix factorisation: inner product and perceptron, weighed.

    `s_ui = w [g_u * g_i, MLP([e_u, e_i])]`, with `e` the tables
    `user_embedding` and `item_embedding`, and `g` two more tables of the same
    width, `user_factors` and `item_factors`. All four are searched and cut;
    CIESS's code leaves `g` at full width.

    Args:
        num_users: Number of users: ids are `0 .. num_users - 1`.
        num_items: Number of items.
        embedding_dim: Width of the four tables. Defaults to 64.
        hidden_units: Widths of the perceptron's ReLU layers, at least one.
            Defaults to `(64,)`.
        embeddings_initializer: Initializer of the tables. Defaults to `None`:
            Xavier (Glorot) uniform.
        embeddings_l2: Penalty on the rows of a batch in all four tables, see
            `MatrixFactorization`. Defaults to 1e-4.
        seed: Seed of all initial weights; `None` for Keras's own.
        **kwargs: `name`, `dtype` of `keras.Model`.

    Input shape: `{"user": (batch,), "item": (batch, n)}`.
    Output shape: `(batch, n)`, without a sigmoid.

    Raises:
        ValueError: If an argument breaks the rules above.

    Example:

    >>> model = NCF(num_users=10, num_items=20, seed=0)
    >>> model.score_all([3, 4]).shape
    (2, 20)

    Reference: He et al., Neural Collaborative Filtering, WWW 2017, section
    3.4 (NeuMF).
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        hidden_units: Any = (64,),
        embeddings_initializer: Any = None,
        embeddings_l2: float = 1e-4,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            embedding_dim,
            embeddings_initializer or "glorot_uniform",
            embeddings_l2,
            seed,
            **kwargs,
        )
        self.hidden_units = [
            check_integer("hidden_units", units) for units in hidden_units
        ]
        if not self.hidden_units:
            raise ValueError(
                "`hidden_units` must hold at least one width. Received: "
                "hidden_units=[]. Use `MatrixFactorization` for no perceptron."
            )
        self.user_factors = self._table(self.num_users, "user_factors")
        self.item_factors = self._table(self.num_items, "item_factors")
        policy, seeds = self.dtype_policy, self._seeds
        # Dense([e_u, e_i]) is Dense(e_u) + Dense(e_i): each row goes in once.
        first = self.hidden_units[0]
        self.from_user = dense(first, seeds, dtype=policy, name="from_user")
        self.from_item = dense(
            first, seeds, use_bias=False, dtype=policy, name="from_item"
        )
        self.hidden = [
            dense(units, seeds, activation="relu", dtype=policy, name=f"hidden_{n}")
            for n, units in enumerate(self.hidden_units[1:], start=1)
        ]
        self.weigh = dense(1, seeds, use_bias=False, dtype=policy, name="weigh")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if self.user_factors.built:
            return
        self.user_factors.build()
        self.item_factors.build()
        width = self.hidden_units[0]
        self.from_user.build((None, self.embedding_dim))
        self.from_item.build((None, self.embedding_dim))
        for layer in self.hidden:
            layer.build((None, width))
            width = layer.units
        self.weigh.build((None, self.embedding_dim + width))

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        users, items = inputs["user"], inputs["item"]
        user_rows, user_factors = self.user_embedding(users), self.user_factors(users)
        item_rows, item_factors = self.item_embedding(items), self.item_factors(items)
        self._add_l2(user_rows, item_rows, training)
        self._add_l2(user_factors, item_factors, training)
        x = self._hidden(ops.expand_dims(self.from_user(user_rows), 1), item_rows)
        products = ops.expand_dims(user_factors, 1) * item_factors
        return ops.squeeze(self.weigh(ops.concatenate([products, x], axis=-1)), -1)

    def _hidden(self, user_part: Any, item_rows: Any) -> Any:
        x = ops.relu(user_part + self.from_item(item_rows))
        for layer in self.hidden:
            x = layer(x)
        return x

    def scorer(self) -> Callable[[Any], Any]:
        ids = ops.arange(self.num_items)
        item_rows = ops.stop_gradient(self.item_embedding(ids))
        kernel = ops.stop_gradient(self.weigh.kernel)
        weights = ops.cast(kernel, item_rows.dtype)
        factors = ops.transpose(self.item_factors(ids)) * weights[: self.embedding_dim]
        step = max(1, _VALUES_A_BLOCK // (self.num_items * max(self.hidden_units)))

        def score_block(users: Any) -> Any:
            user_part = self.from_user(self.user_embedding(users))
            x = self._hidden(ops.expand_dims(user_part, 1), item_rows)
            deep = ops.squeeze(ops.matmul(x, weights[self.embedding_dim :]), -1)
            return deep + ops.matmul(self.user_factors(users), factors)

        def score(users: Any) -> Any:
            blocks = [
                ops.stop_gradient(score_block(users[start : start + step]))
                for start in range(0, len(users), step)
            ]
            return ops.concatenate(blocks, axis=0)

        return score

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden_units": list(self.hidden_units)}
