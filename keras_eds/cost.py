"""What inference keeps of one table, and what that takes."""

from __future__ import annotations

from typing import Literal, NamedTuple

from keras_eds.field import Field

Unit = Literal["bytes", "parameters"]


class Cost(NamedTuple):
    """What inference keeps of a table.

    Args:
        values: What stands in tables: rows, and a spare one in each block of packed
            rows that does not hold every id.
        beside: The alignment and the constant.
        scales: How many columns, or rows of a whole table, have a scale if values
            are 8-bit integers.
        entries: The index of packed rows: the place of every id, and for each
            column how many ids reach it. Defaults to 0.
        entry_bytes: Bytes of all entries. Defaults to 0.
    """

    values: int
    beside: int
    scales: int
    entries: int = 0
    entry_bytes: int = 0

    def in_unit(self, unit: Unit, field: Field) -> int:
        """All of it, in bytes, or in numbers kept (scales not counted)."""
        if unit == "parameters":
            return self.values + self.beside + self.entries
        beside = self.beside + (self.scales if field.quantized else 0)
        stored = self.values * field.value_bytes + beside * field.itemsize
        return stored + self.entry_bytes
