"""Optimizers whose step costs the batch and not the vocabulary."""

from keras_eds.optimizers.lazy_adagrad import LazyAdagrad
from keras_eds.optimizers.lazy_adam import LazyAdam

__all__ = ["LazyAdagrad", "LazyAdam"]
