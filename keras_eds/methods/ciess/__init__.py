"""CIESS: an agent learns a size for every id of a field.

Qu et al., Continuous Input Embedding Size Search for Recommender Systems, SIGIR
2023, arXiv 2304.03501.
"""

from keras_eds.methods.ciess.agent import Agent
from keras_eds.methods.ciess.noise import (
    GaussianNoise,
    Noise,
    OrnsteinUhlenbeckNoise,
    UniformNoise,
)
from keras_eds.methods.ciess.random_walk import RandomWalk
from keras_eds.methods.ciess.reward import Reward
from keras_eds.methods.ciess.size_range import SizeRange
from keras_eds.methods.ciess.size_states import SizeStates
from keras_eds.methods.ciess.td3 import TD3
from keras_eds.methods.quality_ratio import quality_of

__all__ = [
    "Agent",
    "GaussianNoise",
    "Noise",
    "OrnsteinUhlenbeckNoise",
    "RandomWalk",
    "Reward",
    "SizeRange",
    "SizeStates",
    "TD3",
    "UniformNoise",
    "quality_of",
]
