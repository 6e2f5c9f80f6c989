"""The KerasTuner side of the library."""

from keras_eds.tuners.hypermodel import EDSHyperModel
from keras_eds.tuners.oracle import EDSOracle, SSEDSOracle
from keras_eds.tuners.search import EDSSearch

__all__ = ["EDSHyperModel", "EDSOracle", "EDSSearch", "SSEDSOracle"]
