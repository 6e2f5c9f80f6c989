"""TensorFlow Recommenders: our layers in its models, and a search of them.

TFRS runs on tf_keras, this library on Keras 3. Set `TF_USE_LEGACY_KERAS=1` before
TensorFlow is imported.
"""

from keras_eds.bridges.tfrs.environment import check_environment

check_environment()

from keras_eds.bridges.tfrs.tfrs_layer import TFRSLayer  # noqa: E402

__all__ = ["TFRSLayer"]
