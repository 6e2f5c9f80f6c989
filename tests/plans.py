"""Plans for the models of the zoo, and models masked by hand."""

from __future__ import annotations

import keras
import numpy as np

import keras_eds
from keras_eds import DimensionPlan, FieldPlan, RowPlan
from keras_eds.surgery.sites import all_sites

VARIANTS = ("columns", "subspace", "dropped", "full", "rows", "prefixes")


def field_plan(field, variant, seed=0):
    """A plan for one field, with random values where it has any."""
    random = np.random.default_rng([seed, field.input_dim, field.output_dim])
    width, kept = field.output_dim, max(1, field.output_dim // 2)
    constant = random.normal(size=width).astype("float32")
    if variant == "full":
        return FieldPlan.full(field)
    if variant == "dropped":
        return FieldPlan.of_columns(field, [], constant)
    if variant in ("rows", "prefixes"):
        return row_plan(field, random, rotated=variant == "rows")
    if variant == "columns":
        columns = random.choice(width, kept, replace=False)
        return FieldPlan.of_columns(field, columns, constant)
    encoder = random.normal(size=(width, kept)).astype("float32")
    decoder = random.normal(size=(kept, width)).astype("float32")
    return FieldPlan(field, encoder, decoder, constant)


def row_plan(field, random, rotated):
    """Sizes from nothing to all, one an id."""
    width = field.output_dim
    sizes = random.integers(0, width + 1, field.input_dim)
    if not rotated:
        return RowPlan(field, sizes)
    encoder = random.normal(size=(width, width)).astype("float32")
    decoder = random.normal(size=(width, width)).astype("float32")
    mean = random.normal(size=width).astype("float32")
    return RowPlan(field, sizes, encoder, decoder, mean)


def plan_of(model, variant):
    fields = keras_eds.find_fields(model)
    return DimensionPlan(tuple(field_plan(f, variant, i) for i, f in enumerate(fields)))


def masked_output(model, plan, x):
    """What the full model gives with `masked` tables in place of its own."""
    sites = all_sites(model)
    tables = [keras.ops.convert_to_numpy(s.layer.embeddings).copy() for s in sites]
    for site, table in zip(sites, tables, strict=True):
        site.layer.embeddings.assign(plan[site.field.name].masked(table))
    output = keras.ops.convert_to_numpy(model(x))
    for site, table in zip(sites, tables, strict=True):
        site.layer.embeddings.assign(table)
    return output


def state_of(model):
    """Everything that a model is made of, as NumPy."""
    variables = [*model.variables, *model.optimizer.variables]
    return {
        (place, v.path): (keras.ops.convert_to_numpy(v).copy(), v.trainable)
        for place, v in enumerate(variables)
    }


def assert_same_state(before, after):
    assert list(before) == list(after)
    for key, (value, trainable) in before.items():
        np.testing.assert_array_equal(value, after[key][0], err_msg=str(key))
        assert trainable == after[key][1], key
