"""Layers that anyone can put into a Keras model."""

from keras_eds.layers.masked_twin_embedding import MaskedTwinEmbedding
from keras_eds.layers.pruned_field_embedding import PrunedFieldEmbedding
from keras_eds.layers.row_sized_embedding import RowSizedEmbedding

__all__ = ["MaskedTwinEmbedding", "PrunedFieldEmbedding", "RowSizedEmbedding"]
