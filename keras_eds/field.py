"""A field: one embedding table of a model, whoever shares it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One embedding table: its name and its shape.

    Args:
        name: Where the table stands in the model, as in `"user"` or
            `"tower/user"`.
        input_dim: Number of ids (rows).
        output_dim: Width of a vector (columns).
        itemsize: Bytes of one value. Defaults to 4 (float32).
        quantized: Whether what is kept of the table is stored as 8-bit integers.
            Defaults to False.

    Example:

    >>> Field("user", input_dim=6041, output_dim=32).num_bytes
    773248
    """

    name: str
    input_dim: int
    output_dim: int
    itemsize: int = 4
    quantized: bool = False

    @property
    def value_bytes(self) -> int:
        """Bytes of one value of what is kept of the table."""
        return 1 if self.quantized else self.itemsize

    @property
    def num_parameters(self) -> int:
        """Values in the table."""
        return self.input_dim * self.output_dim

    @property
    def num_bytes(self) -> int:
        """Bytes of the table as it is today."""
        return self.num_parameters * self.itemsize


def total_bytes(fields: Iterable[Field]) -> int:
    """Bytes of all tables together."""
    return sum(field.num_bytes for field in fields)


def total_parameters(fields: Iterable[Field]) -> int:
    """Values in all tables together."""
    return sum(field.num_parameters for field in fields)
