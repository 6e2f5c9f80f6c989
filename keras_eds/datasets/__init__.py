"""Public data sets: clicks, and who met what, ready for `keras_eds.models`."""

from keras_eds.datasets.adjacency_lists import load_gowalla, load_yelp2018
from keras_eds.datasets.avazu import load_avazu
from keras_eds.datasets.criteo import load_criteo
from keras_eds.datasets.dataset import Dataset
from keras_eds.datasets.find_data import find_data
from keras_eds.datasets.histories import Histories
from keras_eds.datasets.interactions import Interactions
from keras_eds.datasets.movielens_1m import load_movielens_1m
from keras_eds.datasets.movielens_interactions import load_movielens_interactions
from keras_eds.datasets.pairs import Pairs
from keras_eds.datasets.planted import make_planted
from keras_eds.datasets.planted_ids import make_planted_ids
from keras_eds.datasets.triple_stream import triple_stream
from keras_eds.datasets.triples import Triples
from keras_eds.datasets.unseen_items import UnseenItems

__all__ = [
    "Dataset",
    "Histories",
    "Interactions",
    "Pairs",
    "Triples",
    "UnseenItems",
    "find_data",
    "load_avazu",
    "load_criteo",
    "load_gowalla",
    "load_movielens_1m",
    "load_movielens_interactions",
    "load_yelp2018",
    "make_planted",
    "make_planted_ids",
    "triple_stream",
]
