"""Numbers and choices are refused by name, and read as Python's own."""

import doctest
import json

import numpy as np
import pytest

import keras_eds
from keras_eds import argument_checks
from keras_eds.argument_checks import check_choice, check_integer, check_number


@pytest.mark.parametrize("value", [1, -1, 2.0, True, "2", None, np.nan])
def test_what_is_no_such_integer_is_refused(value):
    with pytest.raises(ValueError, match="`groups` must be an integer of at least 2"):
        check_integer("groups", value, 2)


@pytest.mark.parametrize("value", [0, 1, -0.5, np.nan, np.inf, True, "0.5", None])
def test_what_is_no_such_number_is_refused(value):
    with pytest.raises(ValueError, match="`rate` must be a finite number above 0 and"):
        check_number("rate", value, above=0, below=1)


def test_bounds_belong_to_the_range_where_they_are_said_to():
    assert check_number("tau", 0, least=0, most=1) == 0.0
    assert check_number("tau", 1, least=0, most=1) == 1.0


def test_what_is_no_choice_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"one of \('a', 'b'\).*'c'\. Take a\."):
        check_choice("order", "c", ("a", "b"), "Take a.")


def test_numbers_of_numpy_become_those_of_python():
    assert type(check_integer("groups", np.int64(3))) is int
    assert type(check_number("rate", np.float32(0.5), above=0)) is float
    layers = keras_eds.layers
    for layer in (
        layers.PrunedFieldEmbedding(np.int64(9), np.int64(2), np.int64(4)),
        layers.RowSizedEmbedding(np.int64(2), np.int64(4), [1, 4]),
        layers.MaskedTwinEmbedding(
            np.int64(9), np.int64(4), hidden_units=[np.int64(8)], min_size=np.int64(0)
        ),
    ):
        config = layer.get_config()
        config = json.loads(json.dumps(config))
        assert config["output_dim"] == 4
        assert type(config["input_dim"]) is int


def test_docstring_examples_run():
    results = doctest.testmod(argument_checks)
    assert results.attempted and not results.failed
