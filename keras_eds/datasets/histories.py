"""What users have met before, and an item that comes with it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_eds.argument_checks import check_integer
from keras_eds.datasets.pairs import Pairs, checked_ids
from keras_eds.datasets.triples import Triples

Batch = tuple[dict[str, np.ndarray], np.ndarray]


class Histories(keras.utils.PyDataset):
    """Batches for `fit` of `YouTubeDNN`: a user's items, less the one to guess.

    A batch is `({"history": (batch, length), "item": (batch, 1 + n)}, labels)`:
    `item` and `labels` as in `Triples`. `history` holds up to `length` of the
    user's items in `seen`, other ones each epoch where there are more, as the
    item's number plus 1; 0 is padding. The item to guess is never in it. With
    `negatives=None` there is no `"item"`, and `labels` are the items, `(batch,)`.
    Like those of `Triples`, draws are new in each epoch, and in each pass over
    validation data.

    Args:
        pairs: The items to guess: the training part, or the validation part.
        seen: What histories are made of. Defaults to `None`: `pairs`.
        length: Most items of a history. Defaults to 20.
        batch_size: Rows of a batch. Defaults to 2048.
        negatives: `n`, how many items that the user has neither in `pairs` nor in
            `seen` stand beside each one to guess; `None` for the full softmax.
            Defaults to 1.
        seed: Seed of all draws. Defaults to 0.
        **kwargs: `workers`, `use_multiprocessing`, `max_queue_size` of
            `keras.utils.PyDataset`.

    Raises:
        DataError: If `seen` has other users or items than `pairs`, or a user has
            met all items, where some are drawn.
        ValueError: If another argument breaks the rules above.

    Example:

    >>> pairs = Pairs.of([0, 0, 1], [0, 1, 2], num_users=2, num_items=4)
    >>> x, y = Histories(pairs, length=2)[0]
    >>> x["history"].shape, x["item"].shape
    ((3, 2), (3, 2))
    """

    def __init__(
        self,
        pairs: Pairs,
        seen: Pairs | None = None,
        length: int = 20,
        batch_size: int = 2048,
        negatives: int | None = 1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.length = check_integer("length", length)
        self.negatives = negatives
        self.seed = seed
        self._seen = pairs if seen is None else seen
        pairs.check_shape("seen", self._seen)
        self._triples = Triples(pairs, batch_size, negatives, seed=seed, seen=seen)
        self._offsets = self._seen.offsets
        self._counts = self._seen.user_counts
        self._epoch = -1
        self._shuffle()

    def __len__(self) -> int:
        return len(self._triples)

    def on_epoch_end(self) -> None:
        self._triples.on_epoch_end()
        self._shuffle()

    def _shuffle(self) -> None:
        self._epoch += 1
        random = np.random.default_rng([self.seed, self._epoch])
        order = np.lexsort((random.random(len(self._seen)), self._seen.users))
        # The last one stands for no item.
        self._items = np.append(self._seen.items[order], np.int32(0))

    def __getitem__(self, index: int) -> Batch:
        x, labels = self._triples[index]
        history = self.histories(x["user"])
        history[history == x["item"][:, :1] + 1] = 0
        if self.negatives is None:
            return {"history": history}, x["item"][:, 0]
        return {"history": history, "item": x["item"]}, labels

    def histories(self, users: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Up to `length` items of each user, `(len(users), length)`.

        As in the batches, but for nothing left out: what goes into the model
        when it serves. Short histories end in zeros.

        Raises:
            DataError: If `users` are no vector of users.
        """
        ids = checked_ids("users", users, self._seen.num_users)
        places = np.arange(self.length)
        known = places < self._counts[ids, None]
        rows = self._offsets[ids, None] + np.where(known, places, 0)
        return np.where(known, self._items[rows] + 1, 0).astype(np.int32)
