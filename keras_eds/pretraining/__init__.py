"""Tables that start from other models and vectors, and follow data as they move."""

from keras_eds.pretraining.drift_report import FieldDrift, PlanDrift
from keras_eds.pretraining.new_items import mean_of_similar, vectors_from_content
from keras_eds.pretraining.plan_drift import plan_drift
from keras_eds.pretraining.read_vectors import read_vectors
from keras_eds.pretraining.update_schedule import UpdateSchedule

__all__ = [
    "FieldDrift",
    "PlanDrift",
    "UpdateSchedule",
    "mean_of_similar",
    "plan_drift",
    "read_vectors",
    "vectors_from_content",
]
