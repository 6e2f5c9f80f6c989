"""What a network has learned about how long the vector of every id should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from keras_eds import archive

_FORMAT = "keras_eds.learned_sizes"


@dataclass(frozen=True, eq=False)
class FieldSizes:
    """How likely each size was for the ids of a field, at several moments.

    Args:
        group_of_id: Integers of shape `(input_dim,)`: ids are alike in groups.
        logits: Shape `(moments, groups, choices)`: of the sizes from
            `output_dim - choices + 1` to `output_dim`.
    """

    group_of_id: np.ndarray
    logits: np.ndarray

    def log_odds(self, moment: int) -> np.ndarray:
        """`log(P(size >= k) / P(size < k))`, shape `(groups, choices - 1)`.

        For each group, and the sizes k above the smallest.
        """
        logits = self.logits[moment].astype("float64")
        up = np.logaddexp.accumulate(logits[:, ::-1], axis=1)[:, ::-1]
        down = np.logaddexp.accumulate(logits, axis=1)
        return np.asarray(up[:, 1:] - down[:, :-1])


@dataclass(frozen=True, eq=False)
class LearnedSizes(Mapping[str, FieldSizes]):
    """What was learned about every field, by name."""

    by_field: Mapping[str, FieldSizes]

    def __getitem__(self, name: str) -> FieldSizes:
        return self.by_field[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_field)

    def __len__(self) -> int:
        return len(self.by_field)

    def save(self, path: str | Path) -> None:
        """Writes it to a file."""
        arrays = {
            f"{index}/{field.name}": getattr(learned, field.name)
            for index, learned in enumerate(self.by_field.values())
            for field in fields(FieldSizes)
        }
        archive.write(path, _FORMAT, {"names": list(self.by_field)}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> LearnedSizes:
        """Reads what `save` wrote."""
        meta, arrays = archive.read(path, _FORMAT)
        names = [field.name for field in fields(FieldSizes)]
        return cls(
            {
                name: FieldSizes(*(arrays[f"{index}/{part}"] for part in names))
                for index, name in enumerate(meta["names"])
            }
        )
