"""What an exported model can be called on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from export_setup import only_tensorflow, run

import keras_eds

tf = pytest.importorskip("tensorflow")
pytestmark = only_tensorflow


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(100, 6)
        self.top = keras.layers.Dense(1)

    def call(self, x):
        return self.top(self.table(x["id"]))


def test_subclassed_models_take_their_inputs_from_a_batch(tmp_path):
    model, x = Subclassed(), {"id": np.arange(4, dtype="int64")}
    model(x)
    with pytest.raises(ValueError, match="`inputs` must be given.*Subclassed"):
        keras_eds.export(model, tmp_path / "served")
    assert not list(tmp_path.iterdir())
    path = keras_eds.export(model, tmp_path / "served", inputs=x)
    more = {"id": np.arange(9, dtype="int64")}
    expected = keras.ops.convert_to_numpy(model(more))
    np.testing.assert_allclose(run(path, "tf_saved_model", more), expected, atol=1e-5)
    specs = {"id": keras.InputSpec(shape=(None,), dtype="int32")}
    path = keras_eds.export(model, tmp_path / "lite", "litert", inputs=specs)
    x = {"id": np.arange(4, dtype="int32")}
    np.testing.assert_allclose(run(path, "litert", x), expected[:4], atol=1e-5)


def four_ids(structure):
    """A model that tells apart which of its four inputs is which."""
    table = keras.layers.Embedding(9, 4)
    inputs = [keras.Input((), dtype="int32", name=name) for name in "abcd"]
    rows = [factor * table(x) for factor, x in enumerate(inputs, 1)]
    return keras.Model(structure(*inputs), keras.layers.Concatenate()(rows))


@pytest.mark.parametrize(
    ("structure", "names"),
    [
        (lambda a, b, c, d: [a, b, c, d], ["input_0", "input_1", "input_2", "input_3"]),
        (lambda a, b, c, d: {"x": [a, b], "y": [c, d]}, ["x_0", "x_1", "y_0", "y_1"]),
        (lambda a, b, c, d: dict(a=a, b=b, c=c, d=d), ["a", "b", "c", "d"]),
        (lambda a, b, c, d: [[a, b], {"k": c, "l": d}],
         ["input_0_0", "input_0_1", "input_1_k", "input_1_l"]),
    ],
    ids=["list", "lists in a dict", "dict", "a list and a dict in a list"],
)  # fmt: skip
def test_inputs_are_called_by_their_place_in_the_structure(structure, names, tmp_path):
    model = four_ids(structure)
    values = [np.arange(2, dtype="int32") + shift for shift in range(4)]
    path = keras_eds.export(model, tmp_path / "served")
    named = tf.saved_model.load(str(path)).signatures["serving_default"]
    x = {name: tf.constant(v) for name, v in zip(names, values, strict=True)}
    expected = model(structure(*values)).numpy()
    (given,) = named(**x).values()
    np.testing.assert_array_equal(given, expected)
    given = run(path, "tf_saved_model", structure(*values))
    np.testing.assert_array_equal(given, expected)


@keras.saving.register_keras_serializable("test_export_inputs")
class Mean(keras.layers.Layer):
    """Of the values that are there: padding changes it."""

    def call(self, x):
        return tf.reduce_mean(tf.cast(x, "float32"), axis=1)


def test_what_is_not_dense_is_refused(tmp_path):
    def check(model, message, inputs=None):
        with pytest.raises(ValueError, match=message):
            keras_eds.export(model, tmp_path / "served", inputs=inputs)
        assert not list(tmp_path.iterdir())

    bag = keras.Input((20,), sparse=True, name="bag")
    check(keras.Model(bag, keras.layers.Dense(2)(bag)), "`model` must.*'bag'.*sparse")
    try:
        bag = keras.Input((None,), ragged=True, name="bag")
    except TypeError:
        pass  # of an older Keras
    else:
        check(keras.Model(bag, Mean()(bag)), "`model` must.*'bag'.*ragged")
    model = keras.Sequential([keras.Input((3,)), Mean()])
    ragged = tf.ragged.constant([[1.0, 2.0], [3.0]])
    check(model, "`inputs` must.*'RaggedTensor'.*ragged", ragged)
    sparse = tf.sparse.from_dense([[0.0, 1.0, 2.0]])
    check(model, "`inputs` must.*'SparseTensor'.*sparse", [sparse])


def test_inputs_that_the_model_cannot_take_are_named(tmp_path):
    model = Subclassed()
    model({"id": np.arange(4)})
    with pytest.raises(ValueError, match="(?s)`inputs` must be what.*KeyError.*id"):
        keras_eds.export(model, tmp_path / "served", inputs={"user": np.arange(4)})
    assert not list(tmp_path.iterdir())
