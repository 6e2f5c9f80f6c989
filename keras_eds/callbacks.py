"""Callbacks for a search."""

from keras_eds.reporting.tensorboard import EDSTensorBoard

__all__ = ["EDSTensorBoard"]
