"""Options of `apply_plan`, what stays of a layer, and what is refused."""

from __future__ import annotations

import pickle

import keras
import numpy as np
import pytest
import zoo_models
from keras import layers, ops
from plans import masked_output, plan_of
from zoo import ZOO, compiled, ids

import keras_eds
from keras_eds import DimensionPlan, FieldPlan
from keras_eds.errors import DataError, FieldError, PlanError
from keras_eds.layers import PrunedFieldEmbedding
from keras_eds.surgery.compact_model import CompactModel
from keras_eds.surgery.inspect import inspect_batches

BACKEND = keras.backend.backend()
# PyTorch's trainer runs short of data with several steps an execution.
STEPS = 0 if BACKEND == "torch" else 2


def one_table(table, length=2, **kwargs):
    stack = [
        keras.Input((length,), dtype="int32"),
        table,
        layers.Flatten(),
        layers.Dense(1, activation="sigmoid", dtype="float32"),
    ]
    sizes = [table.input_dim] * length
    return compiled(keras.Sequential(stack), ids(*sizes), **kwargs)


def narrow(model):
    return next(t for t in model.layers if isinstance(t, PrunedFieldEmbedding))


def numpy(variable):
    return np.array(ops.convert_to_numpy(variable))


def test_in_place_changes_the_model_itself():
    model, x, y = ZOO["subclassed"]()
    plan = plan_of(model, "subspace")
    expected = masked_output(model, plan, x)
    table = model.user
    assert keras_eds.apply_plan(model, plan, in_place=True) is model
    assert model.user is table and isinstance(model, zoo_models.Holder)
    np.testing.assert_allclose(numpy(model(x)), expected, atol=1e-5)
    model.fit(x, y, verbose=0)


def test_a_model_that_was_traced_before_surgery_is_traced_again():
    model, x, y = ZOO["functional"]()
    model.compile("adam", "binary_crossentropy", run_eagerly=False)
    model.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    plan = plan_of(model, "subspace")
    expected = masked_output(model, plan, x)
    keras_eds.apply_plan(model, plan, in_place=True)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    table = narrow(model)
    before = numpy(table.embeddings)
    model.fit(x, y, verbose=0)
    assert np.abs(numpy(table.embeddings) - before).max() > 0


def test_surgery_can_be_repeated_on_other_tables(tmp_path):
    model, x, _ = ZOO["subclassed"]()
    full = keras_eds.find_fields(model)
    plan = DimensionPlan.of_sizes(full, {f.name: 2 for f in full})
    expected = masked_output(model, plan, x)
    first, rest = DimensionPlan(plan.fields[1:2]), plan.fields[:1] + plan.fields[2:]
    small = keras_eds.apply_plan(model, first)
    small = keras_eds.apply_plan(small, DimensionPlan(rest))
    np.testing.assert_allclose(numpy(small(x)), expected, atol=1e-5)
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras", compile=False)
    np.testing.assert_allclose(numpy(again(x)), expected, atol=1e-5)


def test_fresh_values_and_random_alignment():
    constant = keras.initializers.Constant(0.5)
    model, x, _ = one_table(layers.Embedding(12, 6, embeddings_initializer=constant))
    model.layers[0].embeddings.assign(np.random.default_rng(0).normal(size=(12, 6)))
    plan = plan_of(model, "subspace")
    fresh = narrow(keras_eds.apply_plan(model, plan, values="fresh"))
    np.testing.assert_array_equal(numpy(fresh.embeddings), np.full((12, 3), 0.5))
    np.testing.assert_array_equal(numpy(fresh.projection), plan.fields[0].decoder)
    random = narrow(keras_eds.apply_plan(model, plan, alignment="random"))
    assert np.abs(numpy(random.projection) - plan.fields[0].decoder).min() > 1e-6
    np.testing.assert_array_equal(numpy(random.constant), np.zeros(6))


@pytest.mark.parametrize("variant", ["subspace", "rows"])
def test_a_fixed_alignment_stays_as_planned_while_all_else_learns(variant, tmp_path):
    model, x, y = one_table(layers.Embedding(12, 6))
    plan = plan_of(model, variant)
    start = keras_eds.apply_plan(model, plan)
    fixed = keras_eds.apply_plan(model, plan, alignment="fixed")
    np.testing.assert_allclose(numpy(fixed(x)), numpy(start(x)), atol=1e-6)
    assert fixed.count_params() == start.count_params()
    fixed.save(tmp_path / "fixed.keras")
    again = keras.saving.load_model(tmp_path / "fixed.keras")
    np.testing.assert_allclose(numpy(again(x)), numpy(fixed(x)), atol=1e-6)
    for small, stays in ((start, False), (fixed, True), (again, True)):
        before = [numpy(v) for v in small.layers[0].weights]
        small.fit(x, y, epochs=2, verbose=0)
        for weight, old in zip(small.layers[0].weights, before, strict=True):
            learns = weight.name.startswith(("embeddings", "constant"))
            learns |= weight.name == "projection" and not stays
            assert np.array_equal(numpy(weight), old) != learns, weight.path


@pytest.mark.parametrize("values", ["kept", "fresh"])
def test_an_initializer_that_holds_the_wide_table_is_given_up(values, tmp_path):
    table = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
    initializer = keras.initializers.Constant(table)
    model, x, _ = one_table(layers.Embedding(12, 6, embeddings_initializer=initializer))
    plan = plan_of(model, "columns")
    small = keras_eds.apply_plan(model, plan, values=values)
    config = str(narrow(small).get_config()["embeddings_initializer"])
    assert "Constant" not in config
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras", compile=False)
    np.testing.assert_allclose(numpy(again(x)), numpy(small(x)), atol=1e-6)
    if values == "kept":
        expected = masked_output(model, plan, x)
        np.testing.assert_allclose(numpy(small(x)), expected, atol=1e-5)


def test_what_a_layer_was_given_stays():
    table = layers.Embedding(
        12, 6, mask_zero=True, name="word", dtype="mixed_bfloat16",
        embeddings_regularizer=keras.regularizers.L2(0.5), activity_regularizer="l1",
        embeddings_constraint="non_neg", trainable=False,
    )  # fmt: skip
    inputs = keras.Input((2,), dtype="int32")
    pooled = layers.GlobalAveragePooling1D(dtype="float32")(table(inputs))
    model, x, _ = compiled(
        keras.Model(inputs, layers.Dense(1, activation="sigmoid")(pooled)), ids(12, 12)
    )
    small = keras_eds.apply_plan(model, plan_of(model, "columns"))
    kept = small.get_layer("word")
    assert isinstance(kept, PrunedFieldEmbedding)
    assert kept.dtype_policy.name == "mixed_bfloat16"
    assert keras.backend.standardize_dtype(kept(x).dtype) == "bfloat16"
    assert float(kept.embeddings_regularizer.l2) == 0.5
    assert kept.activity_regularizer is not None
    assert isinstance(kept.embeddings_constraint, keras.constraints.NonNeg)
    assert kept.mask_zero and not kept.trainable and not kept.trainable_variables
    assert kept.embeddings.path == table.embeddings.path == "word/embeddings"
    assert kept.projection.path == "word/projection"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_masked_alike(policy):
    model, x, y = one_table(layers.Embedding(12, 6, dtype=policy))
    plan = plan_of(model, "subspace")
    expected = masked_output(model, plan, x)
    small = keras_eds.apply_plan(model, plan)
    np.testing.assert_allclose(numpy(small(x)), expected, atol=0.05)
    assert small.fit(x, y, verbose=0).history["loss"][0] < 10


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_tables_of_any_dtype_count_their_bytes(dtype):
    if BACKEND == "jax" and dtype == "float64":
        pytest.skip("JAX has no float64 by default")
    model, _, _ = one_table(layers.Embedding(12, 6, dtype=dtype))
    plan = plan_of(model, "columns")
    small = keras_eds.apply_plan(model, plan)
    size = {"float64": 8, "float32": 4, "bfloat16": 2}[dtype]
    count = sum(int(np.prod(v.shape)) for v in narrow(small).variables)
    assert plan.num_bytes() == count * size
    assert {v.dtype for v in narrow(small).variables} == {dtype}


def test_the_copy_is_compiled_alike_with_new_state():
    model, x, y = ZOO["functional"]()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.5), "mse", metrics=["mae", "mse"],
        loss_weights=2.0, steps_per_execution=1 + STEPS, run_eagerly=True,
    )  # fmt: skip
    model.fit(x, y, verbose=0)
    small = keras_eds.apply_plan(model, plan_of(model, "full"))
    assert int(small.optimizer.iterations) == 0 < int(model.optimizer.iterations)
    assert small.optimizer is not model.optimizer
    assert small.optimizer.get_config() == model.optimizer.get_config()
    assert small.run_eagerly and small.steps_per_execution == 1 + STEPS
    ours = small.evaluate(x, y, verbose=0, return_dict=True)
    theirs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert ours == pytest.approx(theirs, abs=1e-5) and set(ours) >= {"mae", "loss"}


def test_a_compile_of_its_own_is_kept():
    model, x, y = ZOO["own_compile"]()
    small = keras_eds.apply_plan(model, plan_of(model, "columns"))
    assert small.scale == 3.0 and small.compiled
    assert small.optimizer is not model.optimizer


def test_refuses_what_does_not_fit():
    model, x, y = ZOO["functional"]()
    plan = plan_of(model, "columns")
    for other in ("sequential", "subclassed", "shared", "embed_reduce_sum"):
        with pytest.raises(PlanError, match="`plan`"):
            keras_eds.apply_plan(ZOO[other]()[0], plan)
    other_shapes = keras_eds.Field("user", 13, 6)
    with pytest.raises(PlanError, match="shapes"):
        keras_eds.apply_plan(model, DimensionPlan((FieldPlan.full(other_shapes),)))
    renamed = plan.renamed({"user": "query", "item": "document"}.get)
    with pytest.raises(PlanError, match="query"):
        keras_eds.apply_plan(model, renamed)
    for option in ({"values": "old"}, {"alignment": "none"}):
        with pytest.raises(ValueError, match=f"`{next(iter(option))}`"):
            keras_eds.apply_plan(model, plan, **option)
    with pytest.raises(FieldError, match="built"):
        keras_eds.apply_plan(
            zoo_models.Holder(), plan_of(ZOO["subclassed"]()[0], "full")
        )


def test_unnamed_tables_are_paired_by_order():
    build = ZOO["own_graph"]
    first, second = build()[0], build()[0]
    plan = plan_of(first, "columns")
    assert plan.sizes().keys() != plan_of(second, "columns").sizes().keys()
    small = keras_eds.apply_plan(second, plan)
    assert small.count_params() < second.count_params()


def test_a_constraint_is_kept_with_columns_and_refused_with_a_subspace():
    model, x, _ = one_table(layers.Embedding(12, 6, embeddings_constraint="unit_norm"))
    with pytest.raises(FieldError, match="constraint"):
        keras_eds.apply_plan(model, plan_of(model, "subspace"))
    small = keras_eds.apply_plan(model, plan_of(model, "columns"))
    assert narrow(small).embeddings.constraint is not None


@pytest.mark.parametrize("reader", ["DirectReader", "DirectLossReader"])
def test_names_a_table_that_is_read_directly(reader):
    model, x, y = compiled(getattr(zoo_models, reader)(), ids(12, 9))
    with pytest.raises(FieldError, match=r"\['item'\]"):
        inspect_batches(model, {"x": x, "y": y})
    inspect_batches(model, {"x": x, "y": y}, names=["user"])


def test_a_regularizer_may_read_its_table():
    model, x, y = one_table(layers.Embedding(12, 6, embeddings_regularizer="l2"))
    own = type("Own", (keras.Sequential,), {"compute_loss": _own_loss})(model.layers)
    own.compile(loss="binary_crossentropy")
    inspect_batches(own, {"x": x, "y": y})
    assert own.layers[0].embeddings.regularizer is not None


def _own_loss(self, *args, **kwargs):
    return 2 * keras.Model.compute_loss(self, *args, **kwargs)


@pytest.mark.parametrize("kind", list(ZOO))
def test_looks_at_every_good_model_without_complaint(kind):
    model, x, y = ZOO[kind]()
    before = [numpy(v) for v in model.variables]
    inspect_batches(model, {"x": x, "y": y, "batch_size": 7})
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


@pytest.mark.parametrize(("bad", "policy"), [(12, "float32"), (-1, "mixed_bfloat16")])
def test_names_the_field_of_an_id_out_of_range(bad, policy):
    model, x, y = one_table(layers.Embedding(12, 6, name="word", dtype=policy))
    x = x.copy()
    x[5, 1] = bad
    with pytest.raises(DataError, match=f"'word'.*{bad}"):
        inspect_batches(model, {"x": x, "y": y})
    assert "call" not in vars(model.layers[0])
    with pytest.raises(DataError, match="at least one batch"):
        inspect_batches(model, {"x": x[:0], "y": y[:0]})


@keras.saving.register_keras_serializable("keras_eds_tests")
class Held(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = keras.layers.Embedding(12, 6, name="word")

    def build(self, shape):
        self.table.build(shape)

    def call(self, inputs):
        return self.table(inputs)


def test_a_small_model_is_pickled_as_the_full_one():
    ids = keras.Input((2,), dtype="int32")
    model = keras.Model(ids, keras.layers.Dense(1)(Held()(ids)))
    small = keras_eds.apply_plan(model, plan_of(model, "columns"))
    assert isinstance(small, CompactModel)
    again = pickle.loads(pickle.dumps(small))
    assert again.count_params() == small.count_params() < model.count_params()
    x = np.arange(12).reshape(6, 2)
    np.testing.assert_array_equal(numpy(again(x)), numpy(small(x)))
