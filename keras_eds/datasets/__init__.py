"""Click-through data sets, ready for `keras_eds.models`."""

from keras_eds.datasets.avazu import load_avazu
from keras_eds.datasets.criteo import load_criteo
from keras_eds.datasets.dataset import Dataset
from keras_eds.datasets.find_data import find_data
from keras_eds.datasets.movielens_1m import load_movielens_1m
from keras_eds.datasets.planted import make_planted

__all__ = [
    "Dataset",
    "find_data",
    "load_avazu",
    "load_criteo",
    "load_movielens_1m",
    "make_planted",
]
