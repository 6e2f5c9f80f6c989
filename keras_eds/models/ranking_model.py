"""What models that rank items for users have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import initializers, ops

from keras_eds.argument_checks import check_integer, check_number
from keras_eds.models.building_blocks import seed_stream

# 16 MB of float32: a block that stays near the processor.
_SCORES_A_BLOCK = 2**22


class RankingModel(keras.Model):
    """Scores items for users; holds one table of each.

    Inputs are `{"user": (batch,), "item": (batch, n)}`, integers; the output
    `(batch, n)` holds a score for each item. A batch of
    `keras_eds.datasets.Triples` goes straight into `fit`, with `BPRLoss`,
    `SampledSoftmaxLoss` or `keras.losses.BinaryCrossentropy(from_logits=True)`.
    The tables are the attributes `user_embedding` and `item_embedding`. A
    model is built as soon as it is made.

    Args:
        num_users: Rows of the users' table.
        num_items: Rows of the items' table.
        embedding_dim: Width of both.
        embeddings_initializer: Initializer of both, with seeds of their own.
        embeddings_l2: `l` in `l / 2 * mean_b (|e_u|^2 + sum_i |e_i|^2)`,
            added to the training loss: `e` are the rows of the batch's users
            and items.
        seed: Seed of all initial weights; `None` for Keras's own.
        **kwargs: `name`, `dtype` of `keras.Model`.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int,
        embeddings_initializer: Any,
        embeddings_l2: float,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_users = check_integer("num_users", num_users)
        self.num_items = check_integer("num_items", num_items)
        self.embedding_dim = check_integer("embedding_dim", embedding_dim)
        self.embeddings_l2 = check_number("embeddings_l2", embeddings_l2, least=0)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.seed = seed
        self._seeds = seed_stream(self._own_seed() if seed is None else seed)
        self.user_embedding = self._table(self.num_users, "user_embedding")
        self.item_embedding = self._table(self.num_items, "item_embedding")

    def _table(self, rows: int, name: str, width: int | None = None) -> Any:
        return keras.layers.Embedding(
            rows,
            width or self.embedding_dim,
            embeddings_initializer=self._new_initializer(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _new_initializer(self) -> Any:
        """Two tables of one shape must not start alike."""
        given, seed = self.embeddings_initializer, next(self._seeds)
        if seed is None or not isinstance(given, keras.initializers.Initializer):
            return given
        config = given.get_config()
        return type(given)(**config | ({"seed": seed} if "seed" in config else {}))

    def _own_seed(self) -> int | None:
        given = self.embeddings_initializer
        drawn = isinstance(given, keras.initializers.Initializer)
        seed = given.get_config().get("seed") if drawn else None
        return seed if isinstance(seed, int) else None

    def build(self, input_shape: Any = None) -> None:
        if not self.user_embedding.built:
            self.user_embedding.build()
            self.item_embedding.build()

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        raise NotImplementedError

    def scorer(self) -> Callable[[Any], Any]:
        """Return a function from users `(block,)` to scores `(block, num_items)`.

        What does not depend on the user is computed once, here: the function
        does not see weights that change later.
        """
        raise NotImplementedError

    def score_all(self, users: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Score all items for each of `users`, `(len(users), num_items)`.

        Raises:
            ValueError: If an id is no integer or out of range.
        """
        given = np.asarray(users)
        known = given.ndim == 1 and (given.dtype.kind in "iu" or not given.size)
        if not known or not ((0 <= given) & (given < self.num_users)).all():
            raise ValueError(
                f"`users` must be integers in 0 .. {self.num_users - 1}. Received: "
                f"users={users!r}. Give the numbers of users in the training data."
            )
        ids = given.astype("int32")
        scorer = self.scorer()
        scores = np.empty((len(ids), self.num_items), np.float32)
        step = max(1, _SCORES_A_BLOCK // self.num_items)
        for start in range(0, len(ids), step):
            block = scorer(ids[start : start + step])
            scores[start : start + step] = ops.convert_to_numpy(block)
        return scores

    def _add_l2(self, user_rows: Any, item_rows: Any, training: bool | None) -> None:
        """Add the penalty on rows `(batch, dim)` and `(batch, n, dim)`."""
        if training and self.embeddings_l2:
            # float32: squares of small weights vanish in half precision.
            squares = [
                ops.sum(ops.square(ops.cast(rows, "float32")))
                for rows in (user_rows, item_rows)
            ]
            batch = ops.cast(ops.shape(user_rows)[0], "float32")
            self.add_loss(self.embeddings_l2 / 2 * (squares[0] + squares[1]) / batch)

    def compute_output_shape(
        self, input_shape: dict[str, tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        return input_shape["item"]

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config.update(
            num_users=self.num_users,
            num_items=self.num_items,
            embedding_dim=self.embedding_dim,
            embeddings_initializer=initializers.serialize(self.embeddings_initializer),
            embeddings_l2=self.embeddings_l2,
            seed=self.seed,
        )
        return config


def inner_products(user_rows: Any, item_rows: Any) -> Any:
    """`(batch, dim)` and `(batch, n, dim)` to `(batch, n)`."""
    return ops.sum(ops.expand_dims(user_rows, 1) * item_rows, axis=-1)


def inner_product_scorer(user_rows: Any, item_rows: Any) -> Callable[[Any], Any]:
    """A scorer from the vectors of all users and of all items."""
    users = ops.stop_gradient(user_rows)
    items = ops.transpose(ops.stop_gradient(item_rows))
    return lambda ids: ops.matmul(ops.take(users, ids, axis=0), items)
