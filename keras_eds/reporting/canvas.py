"""The paper that every figure is drawn on: size, colours, title."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's blue and orange-red: told apart with any colour vision.
KEPT, BEFORE = "#0072B2", "#D55E00"
FULL, TEXT, QUIET = "#D9DEE4", "#22262B", "#6B737C"
_DPI = 110


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure and its axes, without a display."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # No pyplot: nothing global, no display, and safe in any thread.
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure((width, height), dpi=_DPI, layout=layout, facecolor="white")
    axes = figure.add_subplot(facecolor="white")
    axes.tick_params(length=0, labelcolor=TEXT, labelsize=9)
    return figure, axes


def titled(axes: Axes, title: str, note: str) -> None:
    """Writes a title, and below it a note."""
    axes.set_title(
        title, loc="left", pad=22, color=TEXT, fontweight="bold", fontsize=11,
        parse_math=False,
    )  # fmt: skip
    axes.annotate(
        note, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points",
        color=QUIET, fontsize=9,
    )  # fmt: skip


def saved(figure: Figure, path: str | Path | None) -> Figure:
    """The figure, written as a PNG if there is a path."""
    if path is not None:
        figure.savefig(path, format="png")
    return figure
