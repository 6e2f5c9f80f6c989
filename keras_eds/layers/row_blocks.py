"""How ids of many sizes are put into a few tables of one width each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]

# Padding values that a layout may add, as a share of kept values plus ids.
MOST_PADDING = 0.07


class RowBlock(NamedTuple):
    """A table: its ids, and its width, which is the largest of their sizes."""

    ids: int
    width: int


def choose_blocks(sizes: Ints, most_padding: float = MOST_PADDING) -> list[RowBlock]:
    """The fewest blocks that hold rows of these sizes with little padding.

    With ids sorted by size, a block is a run of them and costs
    `(ids + 1) * width` values: the one more row stands in for all other ids, and
    is left out where there are none. For each number of blocks K the runs of
    least cost are found by dynamic programming over the distinct sizes. Chosen is
    the smallest K with `stored <= kept + most_padding * (kept + input_dim)`, or,
    where no K reaches that, the K that stores least.

    Args:
        sizes: Integers of shape `(input_dim,)`. Ids of size 0 are in no block.
        most_padding: Share of the kept values and ids, from 0.

    Returns:
        Blocks by descending width; their ids add up to those of size above 0.
    """
    numbers = np.bincount(sizes)
    widths = np.flatnonzero(numbers)[::-1]
    widths = widths[widths > 0]
    before = np.concatenate([[0], np.cumsum(numbers[widths])])
    kept = int(np.sum(sizes, dtype=np.int64))
    most = kept + most_padding * (kept + len(sizes))
    cuts = _cheapest_cuts(before, widths, len(sizes), most)
    return [
        RowBlock(int(before[stop] - before[start]), int(widths[start]))
        for start, stop in zip(cuts, cuts[1:], strict=False)
    ]


def _cheapest_cuts(before: Ints, widths: Ints, input_dim: int, most: float) -> Ints:
    """Where to cut the distinct `widths`; `before[i]` ids are wider than the i-th."""
    distinct = len(widths)
    ids = before[None, :] - before[:-1, None]
    cost = (ids + (ids < input_dim)) * widths[:, None].astype(float)
    cost[ids <= 0] = np.inf
    # least[j]: the cost of the first j widths in as many blocks as rounds so far.
    least = np.full(distinct + 1, np.inf)
    least[0] = 0
    origins: list[Ints] = []
    stored: list[float] = []
    for _ in range(distinct):
        totals = least[:-1, None] + cost
        origins.append(np.argmin(totals, axis=0))
        least = np.min(totals, axis=0)
        stored.append(least[-1])
        if least[-1] <= most:
            break
    # Spare rows may keep all above `most`; the first of the least is then taken.
    del origins[int(np.argmin(stored)) + 1 if stored else 0 :]
    cuts = [distinct]
    for origin in reversed(origins):
        cuts.append(int(origin[cuts[-1]]))
    return np.array(cuts[::-1])


def stored_values(blocks: Sequence[RowBlock], input_dim: int) -> int:
    """Number of values in the tables of `blocks`."""
    return sum(height(block, input_dim) * block.width for block in blocks)


def height(block: RowBlock, input_dim: int) -> int:
    """Rows of a block's table: its ids, and one for all others if there are any."""
    return block.ids + (block.ids < input_dim)


def starts(blocks: Sequence[RowBlock]) -> list[int]:
    """Position of the first id of each block, and of the first id in none."""
    return [0, *np.cumsum([block.ids for block in blocks]).tolist()]


def position_dtype(input_dim: int) -> str:
    """What a position is stored in: two bytes where they are enough."""
    return "int16" if input_dim <= 2**15 else "int32"


def positions_of(sizes: Ints) -> npt.NDArray[np.int32]:
    """Where each id comes when all are sorted by size, the largest first."""
    order = np.argsort(-np.asarray(sizes, np.int32), kind="stable")
    positions = np.empty(len(sizes), np.int32)
    positions[order] = np.arange(len(sizes), dtype=np.int32)
    return positions


def reaching(sizes: Ints) -> npt.NDArray[np.int32]:
    """For each column up to the largest size, the number of ids that reach it."""
    numbers = np.bincount(sizes)
    return np.cumsum(numbers[:0:-1])[::-1].astype(np.int32)


def fullest(blocks: Sequence[RowBlock]) -> npt.NDArray[np.int32]:
    """`reaching` where every id is as large as its block allows."""
    sizes = np.repeat([b.width for b in blocks], [b.ids for b in blocks])
    return reaching(sizes.astype(np.int32))


def sizes_of(positions: Ints, reaching: Ints) -> npt.NDArray[np.int64]:
    """The sizes that `positions` and `reaching` were made of."""
    ascending = reaching[::-1]
    shorter = np.searchsorted(ascending, positions, side="right")
    return (len(ascending) - shorter).astype(np.int64)


def split_rows(
    table: npt.NDArray[Any], sizes: Ints, blocks: Sequence[RowBlock]
) -> list[npt.NDArray[Any]]:
    """The tables of `blocks`, with the first `sizes[id]` values of each row."""
    order = np.argsort(positions_of(sizes))
    tables = []
    for block, start in zip(blocks, starts(blocks), strict=False):
        ids = order[start : start + block.ids]
        rows = table[ids, : block.width]
        kept = np.arange(block.width) < np.asarray(sizes)[ids, None]
        spare = height(block, len(sizes)) - block.ids
        tables.append(np.pad(np.where(kept, rows, 0), [(0, spare), (0, 0)]))
    return tables
