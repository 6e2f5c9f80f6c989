"""Layers that anyone can put into a Keras model."""

from keras_eds.layers.pruned_field_embedding import PrunedFieldEmbedding

__all__ = ["PrunedFieldEmbedding"]
