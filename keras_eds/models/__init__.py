"""Small reference models for click-through prediction, in stock Keras."""

from keras_eds.models.deep_crossing import DeepCrossing
from keras_eds.models.deep_fm import DeepFM
from keras_eds.models.factorization_interaction import FactorizationInteraction
from keras_eds.models.field_spec import FieldSpec
from keras_eds.models.first_order import FirstOrder
from keras_eds.models.fm import FM
from keras_eds.models.looked_up_l2 import LookedUpL2
from keras_eds.models.masked_mean import MaskedMean
from keras_eds.models.scaled_dot import ScaledDot
from keras_eds.models.split_first_order import SplitFirstOrder
from keras_eds.models.two_tower import TwoTower
from keras_eds.models.wide_deep import WideDeep

__all__ = [
    "FM",
    "DeepCrossing",
    "DeepFM",
    "FactorizationInteraction",
    "FieldSpec",
    "FirstOrder",
    "LookedUpL2",
    "MaskedMean",
    "ScaledDot",
    "SplitFirstOrder",
    "TwoTower",
    "WideDeep",
]
