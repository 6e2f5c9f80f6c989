"""Finds the best items for a query in tables that were cut."""

from keras_eds.retrieval.exact_index import ExactIndex
from keras_eds.retrieval.faiss_index import FaissIndex
from keras_eds.retrieval.recall import index_recall

__all__ = ["ExactIndex", "FaissIndex", "index_recall"]
