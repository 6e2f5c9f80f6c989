"""What a search found, for people: tables, plots and TensorBoard."""

from keras_eds.reporting.plots import plot_scores, plot_sizes
from keras_eds.reporting.popularity import plot_popularity
from keras_eds.reporting.tables import (
    plan_markdown,
    plan_table,
    results_table,
    space_table,
    to_text,
)
from keras_eds.reporting.tensorboard import EDSTensorBoard

__all__ = [
    "EDSTensorBoard",
    "plan_markdown",
    "plan_table",
    "plot_popularity",
    "plot_scores",
    "plot_sizes",
    "results_table",
    "space_table",
    "to_text",
]
