"""Tables and network trained at different frequencies."""

from __future__ import annotations

import datetime

import keras
import numpy as np
import pytest
from search_setup import build, data

from keras_eds.pretraining import UpdateSchedule

X, Y = data(64)
TABLES = 2  # `build` has two, and they come first


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


def fit(model, epochs, callbacks=(), first=0, batch_size=64):
    model.fit(
        X, Y, batch_size=batch_size, epochs=epochs, initial_epoch=first,
        shuffle=False, verbose=0, callbacks=list(callbacks),
    )  # fmt: skip


class Record(keras.callbacks.Callback):
    """The variables of model and optimizer after each epoch."""

    def __init__(self):
        super().__init__()
        self.model_values, self.slots = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.model_values.append(values(self.model))
        variables = self.model.optimizer.variables
        self.slots.append([np.array(keras.ops.convert_to_numpy(v)) for v in variables])


def same(one, other):
    return [bool(np.array_equal(a, b)) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize(
    ("schedule", "tables", "network"),
    [
        ({"tables": 2}, [1, 0, 1, 0], [1, 1, 1, 1]),
        ({"network": 3}, [1, 1, 1, 1], [1, 0, 0, 1]),
        ({"tables": lambda epoch: epoch >= 2}, [0, 0, 1, 1], [1, 1, 1, 1]),
    ],
    ids=["tables", "network", "thaw"],
)
def test_each_part_moves_in_its_epochs_only(schedule, tables, network):
    model, record = build(), Record()
    # Compiled, where other tests are not.
    model.run_eagerly, model.jit_compile = False, keras.backend.backend() == "jax"
    before = values(model)
    # In batches of 32, so that there is more than one step.
    fit(model, 4, [UpdateSchedule(**schedule), record], batch_size=32)
    for epoch, after in enumerate(record.model_values):
        moved = [not equal for equal in same(before, after)]
        assert moved[:TABLES] == [bool(tables[epoch])] * TABLES, epoch
        assert moved[TABLES:] == [bool(network[epoch])] * (len(moved) - TABLES), epoch
        before = after
    assert all(v.trainable for v in model.trainable_variables)
    assert len(model.trainable_variables) == len(before)


def test_it_is_training_with_the_frozen_part_put_back():
    """With one step an epoch, that is what freezing must be."""
    model, record = build(), Record()
    weights = model.get_weights()
    schedule = UpdateSchedule(tables=2)
    fit(model, 3, [schedule, record])

    reference, steps = build(), Record()
    reference.set_weights(weights)
    fit(reference, 1, [steps])
    tables = [np.array(w) for w in reference.get_weights()[:TABLES]]
    slots = reference.optimizer.variables
    # Adam keeps two moments for each variable, after the step and the rate.
    kept = slots[2 : 2 + 2 * TABLES]
    moments = [np.array(keras.ops.convert_to_numpy(v)) for v in kept]
    assert {tuple(m.shape) for m in moments} == {t.shape for t in tables}
    fit(reference, 1)
    reference.set_weights([*tables, *reference.get_weights()[TABLES:]])
    for variable, value in zip(kept, moments, strict=True):
        variable.assign(value)
    fit(reference, 1)
    for ours, theirs in zip(values(model), values(reference), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(model.optimizer.variables, slots, strict=True):
        np.testing.assert_allclose(
            *(keras.ops.convert_to_numpy(v) for v in (ours, theirs)),
            rtol=1e-4, atol=1e-7,
        )  # fmt: skip


def test_days_count_in_place_of_epochs():
    model, moved = build(), []
    for day in range(4):
        before = values(model)
        fit(model, 2, [UpdateSchedule(tables=3, day=day)])
        moved.append(not same(before, values(model))[0])
    assert moved == [True, False, False, True]


@pytest.mark.parametrize(("day", "due"), [(22, True), (23, False), (29, True)])
def test_every_seventh_date_is_a_sunday(day, due):
    date = datetime.date(2026, 11, day)
    assert (date.weekday() == 6) == due
    model = build()
    before = values(model)
    fit(model, 1, [UpdateSchedule(tables=7, day=date)])
    assert same(before, values(model))[0] != due


def test_what_was_frozen_before_stays_frozen():
    model = build()
    model.get_layer("user_table").trainable = False
    model.compile("sgd", "binary_crossentropy", run_eagerly=model.run_eagerly)
    before = values(model)
    fit(model, 2, [UpdateSchedule(tables=2)])
    assert same(before, values(model))[:TABLES] == [True, False]
    assert not model.get_layer("user_table").embeddings.trainable


def test_a_fit_that_failed_can_be_restored():
    model, schedule = build(), UpdateSchedule(tables=0)

    class Fail(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="power"):
        fit(model, 1, [schedule, Fail()])
    assert not model.get_layer("user_table").embeddings.trainable
    schedule.restore()
    assert all(v.trainable for v in model.weights)
    before = values(model)
    fit(model, 1)
    assert not any(same(before, values(model)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tables": -1}, "tables=-1"),
        ({"network": 1.5}, "network=1.5"),
        ({"tables": 2, "network": 3}, "tables=2, network=3"),
        ({"tables": 0, "network": 0}, "has to be trained"),
        ({"day": -1}, "day=-1"),
        ({"day": "Sunday"}, "day='Sunday'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        UpdateSchedule(**arguments)


def test_bad_models_change_nothing():
    never = UpdateSchedule(tables=lambda _: False, network=lambda _: False)
    averaged, gathered = (
        lambda: keras.optimizers.Adam(use_ema=True),
        lambda: keras.optimizers.Adam(gradient_accumulation_steps=2),
    )
    scaled = keras.optimizers.LossScaleOptimizer
    for schedule, optimizer, message in (
        (never, "sgd", "neither in 0"),
        (UpdateSchedule(tables=2), averaged(), "Adam with `use_ema`"),
        (UpdateSchedule(tables=2), gathered(), "Adam with `use_ema`"),
        (UpdateSchedule(tables=2), scaled(averaged()), "Adam with `use_ema`"),
        (UpdateSchedule(tables=2), scaled(gathered()), "Adam with `use_ema`"),
    ):
        model = build()
        model.compile(optimizer, "binary_crossentropy", run_eagerly=model.run_eagerly)
        before = values(model)
        with pytest.raises(ValueError, match=message):
            fit(model, 1, [schedule])
        assert all(same(before, values(model)))
        assert all(v.trainable for v in model.weights)
    only_table = keras.Sequential([keras.layers.Embedding(9, 4)])
    only_table.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no variables of the network"):
        only_table(np.zeros((2, 1)))
        only_table.fit(np.zeros((2, 1)), np.zeros((2, 1, 4)), verbose=0,
                       callbacks=[UpdateSchedule(tables=2)])  # fmt: skip
