"""Values of every field, by name, and their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from keras_eds import archive

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ByField(Mapping[str, T]):
    """One dataclass of arrays for every field, by name.

    Attributes:
        kind: What its file calls itself.
        part: The dataclass. What is None in one is left out of the file.
    """

    by_field: Mapping[str, T]

    kind: ClassVar[str]
    part: ClassVar[type[Any]]

    def __getitem__(self, name: str) -> T:
        return self.by_field[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_field)

    def __len__(self) -> int:
        return len(self.by_field)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array, as `0/counts` for `counts` of the first field."""
        return {
            f"{index}/{entry.name}": np.asarray(getattr(values, entry.name))
            for index, values in enumerate(self.by_field.values())
            for entry in fields(self.part)
            if getattr(values, entry.name) is not None
        }

    def save(self, path: str | Path) -> None:
        """Writes it to a file."""
        archive.write(path, self.kind, {"names": list(self.by_field)}, self.arrays())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote."""
        meta, arrays = archive.read(path, cls.kind)
        names = [entry.name for entry in fields(cls.part)]
        return cls(
            {
                name: cls.part(**{n: arrays.get(f"{index}/{n}") for n in names})
                for index, name in enumerate(meta["names"])
            }
        )
