"""The KerasTuner side of the library."""

from keras_eds.tuners.hypermodel import EDSHyperModel
from keras_eds.tuners.oracle import EDSOracle
from keras_eds.tuners.oracle_presets import AMTLOracle, CIESSOracle, SSEDSOracle
from keras_eds.tuners.search import EDSSearch

__all__ = [
    "AMTLOracle",
    "CIESSOracle",
    "EDSHyperModel",
    "EDSOracle",
    "EDSSearch",
    "SSEDSOracle",
]
