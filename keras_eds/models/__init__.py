"""Small reference models for clicks and for ranking, in stock Keras."""

from keras_eds.models.all_ids import AllIds
from keras_eds.models.bipartite_graph import BipartiteGraph
from keras_eds.models.bpr_loss import BPRLoss
from keras_eds.models.deep_crossing import DeepCrossing
from keras_eds.models.deep_fm import DeepFM
from keras_eds.models.factorization_interaction import FactorizationInteraction
from keras_eds.models.field_spec import FieldSpec
from keras_eds.models.first_order import FirstOrder
from keras_eds.models.fm import FM
from keras_eds.models.fnn import FNN
from keras_eds.models.light_gcn import LightGCN
from keras_eds.models.looked_up_l2 import LookedUpL2
from keras_eds.models.masked_mean import MaskedMean
from keras_eds.models.matrix_factorization import MatrixFactorization
from keras_eds.models.ncf import NCF
from keras_eds.models.ngcf import NGCF
from keras_eds.models.sampled_softmax_loss import SampledSoftmaxLoss
from keras_eds.models.scaled_dot import ScaledDot
from keras_eds.models.split_first_order import SplitFirstOrder
from keras_eds.models.two_tower import TwoTower
from keras_eds.models.wide_deep import WideDeep
from keras_eds.models.youtube_dnn import YouTubeDNN

__all__ = [
    "FM",
    "FNN",
    "NGCF",
    "NCF",
    "AllIds",
    "BPRLoss",
    "BipartiteGraph",
    "DeepCrossing",
    "DeepFM",
    "FactorizationInteraction",
    "FieldSpec",
    "FirstOrder",
    "LightGCN",
    "LookedUpL2",
    "MaskedMean",
    "MatrixFactorization",
    "SampledSoftmaxLoss",
    "ScaledDot",
    "SplitFirstOrder",
    "TwoTower",
    "WideDeep",
    "YouTubeDNN",
]
