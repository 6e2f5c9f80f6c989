"""Gives everything that a function builds the same names each time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from keras.src.backend.common import global_state

_COUNTERS = "object_name_uids"


class NameCounters:
    """Keras's counters of unnamed objects.

    Keras calls the second unnamed layer `dense_1` and the second unnamed metric
    `auc_1`. A search that builds a model for every stage, and goes on in another
    process, would get other names for its fields and metrics each time.

    Args:
        counts: Where to count from, by name. Defaults to 0.
    """

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self._counts = counts or {}

    @classmethod
    def now(cls) -> NameCounters:
        """The counters as they stand."""
        return cls(dict(global_state.get_global_attribute(_COUNTERS) or {}))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts from here; afterwards, on from where names are free."""
        now = dict(global_state.get_global_attribute(_COUNTERS) or {})
        _set(self._counts)
        try:
            yield
        finally:
            built = dict(global_state.get_global_attribute(_COUNTERS) or {})
            most = {k: max(now.get(k, 0), built.get(k, 0)) for k in {**now, **built}}
            _set(most)


def _set(counts: dict[str, int]) -> None:
    counters: defaultdict[str, int] = defaultdict(int)
    counters.update(counts)
    global_state.set_global_attribute(_COUNTERS, counters)
