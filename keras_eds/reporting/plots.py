"""Plans and scores as figures (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_eds.budget import format_bytes
from keras_eds.field import total_bytes
from keras_eds.plan import DimensionPlan, TablePlan, dims_text
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
from keras_eds.reporting.score_point import ScorePoint, kept_share
from keras_eds.results import StageResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_FIELDS = 60
_LONGEST_NAME = 32


def plot_sizes(plan: DimensionPlan, path: str | Path | None = None) -> Figure:
    """Draws the width that every field keeps before the width that it had.

    Args:
        plan: The plan. Of more than 60 fields the 60 widest are drawn.
        path: Where to save a PNG. Defaults to nowhere.

    Returns:
        The figure; its axes hold one container of bars for the original widths
        and one for the kept ones, in the model's order from the top.
    """
    shown = _widest(plan)
    figure, axes = canvas(7.2, 1.25 + 0.27 * max(2, len(shown)))
    places = np.arange(len(shown))
    full = [p.field.output_dim for p in shown]
    axes.barh(places, full, height=0.72, color=FULL, label="original")
    kept = [p.mean_dim for p in shown]
    axes.barh(places, kept, height=0.72, color=KEPT, label="kept")
    for place, field_plan in enumerate(shown):
        _label_sizes(axes, place, field_plan)
    axes.set_yticks(places, [_shorten(p.name) for p in shown], parse_math=False)
    # Room for two fields keeps a single bar from filling the picture.
    axes.set_ylim(max(2, len(shown)) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(full, default=1))
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    before, after = total_bytes(p.field for p in plan), plan.num_bytes()
    size = f"{format_bytes(before)} → {format_bytes(after)} ({kept_share(plan):.1%})"
    note = "kept of the original embedding width"
    if len(shown) < len(plan):
        note += f"; the {len(shown)} widest of {len(plan)} fields"
    titled(axes, size, note)
    return saved(figure, path)


def plot_scores(
    results: Sequence[StageResult], path: str | Path | None = None
) -> Figure:
    """Draws the score of every budget against the bytes that it keeps.

    Args:
        results: What the stages of one search found; those without a plan are
            left out.
        path: Where to save a PNG. Defaults to nowhere.

    Returns:
        The figure; its axes hold the lines `"retrained"`, `"before retraining"`
        and `"full size"`, as far as the scores are known.
    """
    points = [p for p in map(ScorePoint.of_result, results) if p is not None]
    if not results:
        return plot_points(points, "score", "max", path)
    return plot_points(points, results[0].objective, results[0].direction, path)


def _best_of_budgets(points: Sequence[ScorePoint], direction: str) -> list[ScorePoint]:
    """The best plan of each budget, the smallest budget first."""
    ranked = sorted(points, key=lambda p: p.score, reverse=direction == "max")
    best: dict[str, ScorePoint] = {}
    for point in ranked:
        best.setdefault(point.label, point)
    return sorted(best.values(), key=lambda p: p.share)


def plot_points(
    points: Sequence[ScorePoint],
    objective: str,
    direction: str,
    path: str | Path | None = None,
) -> Figure:
    """Draws what `plot_scores` draws, from points alone."""
    figure, axes = canvas(7.2, 4.4)
    points = _best_of_budgets([p for p in points if isfinite(p.score)], direction)
    shares = _positive([p.share for p in points])
    ends: list[tuple[float, str, str]] = []
    full = next((p.full_score for p in points if p.full_score is not None), None)
    if full is not None and isfinite(full):
        axes.axhline(full, color=QUIET, ls=(0, (5, 3)), lw=1.3, label="full size")
        ends.append((full, f"full size {full:.4f}", QUIET))
    before = [np.nan if p.score_before is None else p.score_before for p in points]
    after = [p.score for p in points]
    for scores, colour, name in (
        (before, BEFORE, "before retraining"),
        (after, KEPT, "retrained"),
    ):
        if np.isfinite(scores).any():
            face = "white" if scores is before else colour
            axes.plot(shares, scores, "o-", color=colour, mfc=face, lw=1.8, label=name)
            ends.append((np.asarray(scores)[np.isfinite(scores)][-1], name, colour))
    _share_axis(axes, shares)
    _label_points(axes, points, shares)
    _label_ends(axes, ends)
    order = "higher" if direction == "max" else "lower"
    note = "by the bytes kept; the points are labelled with their budgets"
    titled(axes, f"{objective} ({order} is better)", note)
    return saved(figure, path)


def to_image(figure: Figure) -> np.ndarray:
    """Renders a figure as `uint8` pixels of shape `(height, width, 3)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _widest(plan: DimensionPlan) -> list[TablePlan]:
    plans = sorted(plan, key=lambda p: -p.field.output_dim)[:_MOST_FIELDS]
    names = {p.name for p in plans}
    return [p for p in plan if p.name in names]


def _shorten(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _label_sizes(axes: Axes, place: int, plan: TablePlan) -> None:
    width, kept = plan.field.output_dim, plan.kept_dim
    text = str(width) if plan.mean_dim == width else f"{width} → {dims_text(plan)}"
    axes.annotate(
        text if kept else f"{width} → dropped", (width, place), (4, 0),
        textcoords="offset points", va="center", fontsize=8.5,
        color=TEXT if kept else BEFORE,
    )  # fmt: skip


def _positive(shares: Sequence[float]) -> list[float]:
    """Shares that a logarithmic axis can show: zero goes left of the others."""
    smallest = min((s for s in shares if s > 0), default=1.0)
    return [s if s > 0 else smallest / 2 for s in shares]


def _share_axis(axes: Axes, shares: Sequence[float]) -> None:
    low = np.floor(np.log2(min(shares, default=0.5)) - 0.25)
    axes.set_xscale("log", base=2)
    axes.set_xlim(2.0**low, 2**0.1)
    step = max(1, int(np.ceil(-low / 8)))
    ticks = [2.0**-k for k in range(0, int(-low) + 1, step)]
    axes.set_xticks(ticks, [f"{100 * t:.3g}%" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("share of the embedding bytes", color=TEXT, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FULL)
    axes.margins(y=0.18)


def _label_points(
    axes: Axes, points: Sequence[ScorePoint], shares: Sequence[float]
) -> None:
    for point, share in zip(points, shares, strict=True):
        below = point.score_before is not None and point.score_before > point.score
        axes.annotate(
            point.label, (share, point.score), (0, -7 if below else 7),
            textcoords="offset points", ha="center", va="top" if below else "bottom",
            fontsize=8.5, color=KEPT, path_effects=_halo(), parse_math=False,
        )  # fmt: skip


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names the lines at the right edge, pushed apart where they are close."""
    low, high = axes.get_ylim()
    ends = sorted(ends)
    heights = _spread([(value - low) / (high - low) for value, _, _ in ends], 0.06)
    for height, (_, text, colour) in zip(heights, ends, strict=True):
        axes.annotate(
            text, (1, height), (6, 0), xycoords="axes fraction",
            textcoords="offset points", va="center", fontsize=9, color=colour,
        )  # fmt: skip


def _spread(heights: list[float], gap: float) -> list[float]:
    """Ascending heights, moved apart until neighbours are `gap` away."""
    for _ in range(100):
        for low, high in pairwise(range(len(heights))):
            missing = max(0.0, gap - (heights[high] - heights[low]))
            heights[low] -= missing / 2
            heights[high] += missing / 2
    return heights


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]
