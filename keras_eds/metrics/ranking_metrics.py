"""Recall and NDCG in the logs of `fit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_eds.argument_checks import check_integer
from keras_eds.datasets.pairs import Pairs
from keras_eds.metrics.evaluate_ranking import (
    Ids,
    check_ks,
    check_pairs,
    evaluate_ranking,
)


class RankingMetrics(keras.callbacks.Callback):
    """Adds `val_recall@20`, `val_ndcg@20`, .. to the logs of an epoch.

    In a search, `objective=keras_tuner.Objective("val_ndcg@20", "max")` decides by
    it. Put it before `EarlyStopping`, `ModelCheckpoint` and others that monitor
    these names (`mode="max"`): callbacks read the logs in their order.

    Args:
        positives: What should be found: the validation part.
        seen: What is left out: the training part.
        ks: How many places count. Defaults to `(20,)`.
        every: Rank after the first epoch, every `every` epochs from there,
            and after the last. In between, the last values are repeated.
        max_users: Score a fixed random draw of this many users; `None` for
            all with a positive.
        scorer: Maps the model to what `evaluate_ranking` takes. Defaults to
            `None`: the model itself, which then has a method `scorer()`.
        prefix: Begins every name. Defaults to `"val_"`.
        seed: Seed of the draw of users.

    Raises:
        DataError: If `positives` holds nothing, or `seen` numbers users or items
            otherwise.
        ValueError: If `every`, `max_users` or one of `ks` is not a positive integer.

    Example:

    >>> pairs = Pairs.of([0, 1], [2, 0], num_users=2, num_items=3)
    >>> metrics = RankingMetrics(pairs, seen=None, ks=[1])
    >>> model.fit(x, y, callbacks=[metrics])  # doctest: +SKIP
    """

    def __init__(
        self,
        positives: Pairs,
        seen: Pairs | None,
        ks: Sequence[int] = (20,),
        every: int = 1,
        max_users: int | None = None,
        scorer: Callable[[keras.Model], Any] | None = None,
        prefix: str = "val_",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.positives, self.seen = positives, seen
        self.ks = check_ks(ks)
        check_pairs(positives, seen)
        self.every = check_integer("every", every)
        self.scorer, self.prefix = scorer, prefix
        self.users = None if max_users is None else _draw(positives, max_users, seed)
        self._last: dict[str, float] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._last = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        is_last = epoch + 1 == self.params.get("epochs")
        if not self._last or epoch % self.every == 0 or is_last:
            self._last = self.scores_of(self.model)
        if logs is not None:
            logs.update(self._last)

    def scores_of(self, model: keras.Model) -> dict[str, float]:
        """What it adds to the logs, of a model as it is."""
        scorer = model if self.scorer is None else self.scorer(model)
        scores = evaluate_ranking(
            scorer, self.positives, self.seen, self.ks, self.users
        )
        return {f"{self.prefix}{k}": v for k, v in scores.means().items()}


def _draw(positives: Pairs, max_users: int, seed: int) -> Ids:
    users = np.flatnonzero(positives.user_counts)
    size = min(check_integer("max_users", max_users), len(users))
    return np.random.default_rng(seed).choice(users, size, replace=False)
