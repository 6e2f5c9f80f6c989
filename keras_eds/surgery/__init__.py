"""Finds, measures and changes the tables of a model."""

from keras_eds.surgery.apply import apply_plan
from keras_eds.surgery.count import count_ids
from keras_eds.surgery.load_tables import load_tables
from keras_eds.surgery.measure import measure
from keras_eds.surgery.sites import find_fields
from keras_eds.surgery.sparse_lookups import use_sparse_lookups

__all__ = [
    "apply_plan",
    "count_ids",
    "find_fields",
    "load_tables",
    "measure",
    "use_sparse_lookups",
]
