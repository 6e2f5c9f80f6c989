"""Models as files that serve without this library."""

from keras_eds.serving.export import export
from keras_eds.serving.quantize import quantize_tables

__all__ = ["export", "quantize_tables"]
