"""User, item that the user met, items that the user did not meet."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_eds.argument_checks import check_choice, check_integer
from keras_eds.datasets.pairs import Pairs
from keras_eds.datasets.unseen_items import UnseenItems

Batch = tuple[dict[str, np.ndarray], np.ndarray]
_ORDERS = ("interactions", "users")


class Triples(keras.utils.PyDataset):
    """Batches for `fit`: `n` items a user has not met beside each one met.

    A batch is `({"user": (batch,), "item": (batch, 1 + n)}, labels)`: column
    0 of the items is the one met, the others are uniform draws from the
    items that the user has not met; `labels`, `(batch, 1 + n)`, are 1 in
    column 0. The same seed gives the same batches on every backend; order and
    draws are new in each epoch, and in each pass over validation data.

    Args:
        pairs: What users have met: the training part.
        batch_size: Rows of a batch. Defaults to 2048.
        negatives: `n`, how many items that were not met. Defaults to 1. `None`:
            none, and no user has to leave an item.
        order: `"interactions"`: an epoch is every interaction once, shuffled.
            `"users"`: as many rows, each a uniform draw of a user and then of
            one of the user's items, which weighs all users alike.
        seed: Seed of all draws. Defaults to 0.
        seen: What else users have met, of which nothing is drawn either: the
            training part, where `pairs` are the validation part. Defaults to
            `None`: nothing.
        **kwargs: `workers`, `use_multiprocessing`, `max_queue_size` of
            `keras.utils.PyDataset`.

    Raises:
        DataError: If a user has met all items, where some are drawn, or `seen`
            has other users or items than `pairs`.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> pairs = Pairs.of([0, 0, 1], [0, 1, 2], num_users=2, num_items=4)
    >>> x, y = Triples(pairs, batch_size=3)[0]
    >>> x["item"].shape, y.tolist()
    ((3, 2), [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])

    Reference: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit
    Feedback, UAI 2009, section 4.1.
    """

    def __init__(
        self,
        pairs: Pairs,
        batch_size: int = 2048,
        negatives: int | None = 1,
        order: str = "interactions",
        seed: int = 0,
        seen: Pairs | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_size = check_integer("batch_size", batch_size)
        self.negatives, self._unseen = 0, None
        if negatives is not None:
            self.negatives = check_integer("negatives", negatives)
            self._unseen = UnseenItems(_met(pairs, seen))
        check_choice("order", order, _ORDERS)
        self.pairs = pairs
        self.order = order
        self.seed = seed
        self._offsets = pairs.offsets
        self._active = np.flatnonzero(pairs.user_counts)
        self._epoch = -1
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.batch_size)

    def on_epoch_end(self) -> None:
        self._epoch += 1
        random = np.random.default_rng([self.seed, self._epoch])
        if self.order == "interactions":
            self._rows = random.permutation(len(self.pairs))

    def __getitem__(self, index: int) -> Batch:
        start = index * self.batch_size
        size = min(self.batch_size, len(self.pairs) - start)
        # Not one stream: workers take the batches in any order.
        random = np.random.default_rng([self.seed, self._epoch, index])
        rows = (
            self._rows[start : start + size]
            if self.order == "interactions"
            else self._rows_of_users(size, random)
        )
        users = self.pairs.users[rows]
        items = self.pairs.items[rows][:, None]
        if self._unseen is not None:
            repeated = np.repeat(users[:, None], self.negatives, axis=1)
            drawn = self._unseen.draw(repeated, random)
            items = np.concatenate([items, drawn], axis=1)
        labels = np.zeros(items.shape, "float32")
        labels[:, 0] = 1
        return {"user": users, "item": items}, labels

    def _rows_of_users(self, size: int, random: np.random.Generator) -> np.ndarray:
        users = random.choice(self._active, size)
        first, last = self._offsets[users], self._offsets[users + 1]
        return np.asarray(random.integers(first, last))


def _met(pairs: Pairs, seen: Pairs | None) -> Pairs:
    """`pairs` and what their users have in `seen`, which may overlap."""
    if seen is None:
        return pairs
    pairs.check_shape("seen", seen)
    # Other users may have met all items: nothing is drawn for them.
    known = pairs.user_counts[seen.users] > 0
    keys = np.union1d(pairs.keys, seen.keys[known])
    users, items = np.divmod(keys, max(1, pairs.num_items))
    return Pairs.of(users, items, pairs.num_users, pairs.num_items)
