"""The size of every id against how often it comes, as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_eds.errors import PlanError
from keras_eds.plan import DimensionPlan
from keras_eds.reporting.canvas import (
    BEFORE,
    FULL,
    KEPT,
    QUIET,
    TEXT,
    canvas,
    saved,
    titled,
)
from keras_eds.row_plan import RowPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 24
_COLOURS = (KEPT, BEFORE, "#009E73", "#CC79A7", "#E69F00", QUIET)


def plot_popularity(
    plan: DimensionPlan,
    counts: Mapping[str, np.ndarray],
    path: str | Path | None = None,
) -> Figure:
    """Draws the mean size of ids against how often they come.

    A line a field, through the means of ids that come about as often; the band
    holds the middle 80 % of them. Drawn are the fields whose ids have sizes of
    their own and come at all, of more than six the six with most ids.

    Args:
        plan: The plan.
        counts: How often each id comes, by field name; see
            `keras_eds.count_ids`.
        path: Where to save a PNG. Defaults to nowhere.

    Raises:
        PlanError: If no field of the plan has a size for every id, or `counts` are
            not of its ids.
    """
    plans = [p for p in plan if isinstance(p, RowPlan) and p.name in counts]
    if not plans:
        raise PlanError(
            "`plan` must have a field with a size for every id, and `counts` its "
            f"counts. Received: fields {[p.name for p in plan]} and counts of "
            f"{sorted(counts)}. Search with method='principal_rows'."
        )
    for p in plans:
        if np.shape(counts[p.name]) != p.sizes.shape:
            raise PlanError(
                "`counts` must hold one number for every id of a field. Received: "
                f"{p.name} with {len(p.sizes)} ids and counts of shape "
                f"{np.shape(counts[p.name])}. Take them from keras_eds.count_ids."
            )
    sizes = {p.name: p.sizes for p in plans}
    return saved(popularity_figure(sizes, counts), path)


def popularity_figure(
    sizes: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
) -> Figure:
    """The figure of `plot_popularity`.

    Args:
        sizes: The size of each id, by field name.
        counts: How often each comes, likewise.
    """
    seen = [name for name in sizes if np.any(np.asarray(counts[name]) > 0)]
    largest = sorted(seen, key=lambda name: -len(sizes[name]))[: len(_COLOURS)]
    figure, axes = canvas(7.2, 3.6)
    for name, colour in zip(largest, _COLOURS, strict=False):
        _draw(axes, name, sizes[name], np.asarray(counts[name]), colour)
    axes.set_xscale("log")
    axes.set_xlabel("how often the id comes in training", color=TEXT, fontsize=9)
    axes.set_ylabel("values kept", color=TEXT, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FULL)
    axes.set_ylim(bottom=0)
    if largest:
        axes.legend(frameon=False, fontsize=9, labelcolor=TEXT, loc="upper left")
    titled(axes, "Size against popularity", "mean, and the middle 80 % of ids")
    return figure


def _draw(
    axes: Axes, name: str, sizes: np.ndarray, counts: np.ndarray, colour: str
) -> None:
    seen = counts > 0
    counts, sizes = counts[seen], sizes[seen]
    edges = np.geomspace(1, counts.max() + 1, _BINS + 1)
    group = np.digitize(counts, edges[1:-1])
    used = np.unique(group)
    middle = [np.exp(np.log(counts[group == g]).mean()) for g in used]
    mean = [sizes[group == g].mean() for g in used]
    low, high = (
        [np.quantile(sizes[group == g], share) for g in used] for share in (0.1, 0.9)
    )
    axes.fill_between(middle, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(middle, mean, color=colour, linewidth=2, label=name)
