"""How well a model serves every id of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from keras_eds import archive

_FORMAT = "keras_eds.id_quality"


@dataclass(frozen=True, eq=False)
class IdQuality:
    """The mean score of the examples that carry each id of a field.

    Args:
        score: Shape `(input_dim,)`, higher is better; 0 without an example.
        examples: Shape `(input_dim,)`: how many examples carry each id, one that
            carries it several times counted as often.
    """

    score: np.ndarray
    examples: np.ndarray


@dataclass(frozen=True, eq=False)
class Qualities(Mapping[str, IdQuality]):
    """The qualities of the ids of every field, by name."""

    by_field: Mapping[str, IdQuality]

    def __getitem__(self, name: str) -> IdQuality:
        return self.by_field[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_field)

    def __len__(self) -> int:
        return len(self.by_field)

    def save(self, path: str | Path) -> None:
        """Writes it to a file."""
        arrays = {
            f"{index}/{field.name}": getattr(quality, field.name)
            for index, quality in enumerate(self.by_field.values())
            for field in fields(IdQuality)
        }
        archive.write(path, _FORMAT, {"names": list(self.by_field)}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Qualities:
        """Reads what `save` wrote."""
        meta, arrays = archive.read(path, _FORMAT)
        names = [field.name for field in fields(IdQuality)]
        return cls(
            {
                name: IdQuality(*(arrays[f"{index}/{part}"] for part in names))
                for index, name in enumerate(meta["names"])
            }
        )
