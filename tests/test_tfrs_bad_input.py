"""What a search of a TFRS model refuses, before any work starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tfrs_setup import (
    TITLES,
    RatingsModel,
    RetrievalModel,
    compiled,
    id_tower,
    ratings,
    rows,
    tf,
    tfrs,
)

import keras_eds
from keras_eds.errors import DataError, FieldError


@pytest.mark.parametrize("given", [None, "0"])
def test_without_the_variable_it_is_said_what_to_set_and_where(given):
    environment = dict(os.environ)
    environment.pop("TF_USE_LEGACY_KERAS")
    if given is not None:
        environment["TF_USE_LEGACY_KERAS"] = given
    command = [sys.executable, "-c", "import keras_eds.bridges.tfrs"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: The environment variable TF_USE_LEGACY_KERAS")
    assert f"Received: TF_USE_LEGACY_KERAS={given!r}" in error
    assert 'os.environ["TF_USE_LEGACY_KERAS"] = "1"` on the first line' in error


def test_a_variable_that_is_set_too_late_is_told_apart():
    environment = dict(os.environ)
    environment.pop("TF_USE_LEGACY_KERAS")
    script = (
        "import os, tensorflow as tf; tf.keras.layers; "
        "os.environ['TF_USE_LEGACY_KERAS'] = '1'; "
        "import keras_eds.bridges.tfrs"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "='1' that was set too late" in done.stderr


class NoTable(tfrs.Model):
    def __init__(self):
        super().__init__()
        self.user_tower = tf.keras.Sequential([tf.keras.layers.Dense(4)])
        self.task = tfrs.tasks.Ranking()

    def compute_loss(self, features, training=False):
        return self.task(features["user_rating"], self.user_tower(features["x"]))


def test_towers_without_a_table():
    with pytest.raises(FieldError, match=r"Embedding.*'user_tower': \['Dense'\].*Put"):
        keras_eds.EDSSearch(compiled(NoTable()), 0.1)


def test_a_tower_is_no_model():
    tower = id_tower(TITLES)
    tower.compile(tf.keras.optimizers.Adagrad(0.1))
    with pytest.raises(FieldError, match="must be a tfrs.Model.*Put it into"):
        keras_eds.EDSSearch(tower, 0.1)


def test_a_model_that_is_not_compiled():
    with pytest.raises(FieldError, match="must be compiled.*model.compile"):
        keras_eds.EDSSearch(RatingsModel(), 0.1)


def test_an_optimizer_that_keras_3_has_not():
    class Own(tf.keras.optimizers.Adagrad):
        pass

    model = RatingsModel()
    model.compile(Own(0.1))
    with pytest.raises(FieldError, match="optimizer that Keras 3 has too.*Own"):
        keras_eds.EDSSearch(model, 0.1)


def test_a_schedule_that_keras_3_has_not():
    class Own(tf.keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

        def get_config(self):
            return {}

    model = RatingsModel()
    model.compile(tf.keras.optimizers.Adagrad(Own()))
    with pytest.raises(FieldError, match="schedule that Keras 3 has too.*Own"):
        keras_eds.EDSSearch(model, 0.1)


def test_its_tables_are_not_quantized(tmp_path):
    with pytest.raises(ValueError, match="`quantize` must be None for a TFRS model"):
        keras_eds.EDSSearch(
            compiled(RatingsModel()), 0.4, directory=tmp_path, quantize="int8"
        )


def searching(tmp_path, data, **options):
    found = keras_eds.EDSSearch(compiled(RatingsModel()), 0.4, directory=tmp_path)
    found.search(data, validation_data=ratings(seed=1), verbose=0, **options)


def test_arrays_are_refused(tmp_path):
    with pytest.raises(DataError, match="must be a tf.data.Dataset of batches"):
        searching(tmp_path, rows())


def test_callbacks_of_tf_keras_are_refused(tmp_path):
    stop = tf.keras.callbacks.EarlyStopping()
    with pytest.raises(DataError, match="Keras 3.*keras.callbacks.EarlyStopping"):
        searching(tmp_path, ratings(), callbacks=[stop])


def test_ids_that_a_vocabulary_lacks_are_refused(tmp_path):
    """Without a row for them, they would be read past the end of the table."""
    names = TITLES[:5]
    table = tf.keras.layers.Embedding(len(names), 8)
    model = RatingsModel()
    model.movie_model = id_tower(names, table)
    found = keras_eds.EDSSearch(compiled(model), 0.5, directory=tmp_path)
    with pytest.raises(DataError, match="ids from 0 to 4 for table 'movie_model'"):
        found.search(ratings(), validation_data=ratings(seed=1), verbose=0)


def test_a_table_that_the_loss_does_not_reach(tmp_path):
    model = RatingsModel()
    model.spare = id_tower(TITLES)
    found = keras_eds.EDSSearch(compiled(model), 0.5, directory=tmp_path)
    with pytest.raises(FieldError, match=r"\['spare'\].*does not reach"):
        found.search(ratings(), validation_data=ratings(seed=1), verbose=0)


def test_losses_that_are_not_of_examples(tmp_path):
    class Summed(RatingsModel):
        def compute_loss(self, features, training=False):
            return tf.reduce_mean(super().compute_loss(features))

    method = keras_eds.methods.CIESS(episodes=1, iterations=1, top=1)
    found = keras_eds.EDSSearch(
        compiled(Summed(), eager=True), 0.5, method=method, directory=tmp_path
    )
    with pytest.raises((DataError, keras_eds.errors.StageError), match="each example"):
        found.search(ratings(), validation_data=ratings(seed=1), verbose=0)


def test_an_objective_that_is_not_there(tmp_path):
    model = compiled(RetrievalModel(id_tower(TITLES), id_tower(TITLES)))
    found = keras_eds.EDSSearch(model, 0.5, objective="val_auc", directory=tmp_path)
    with pytest.raises(DataError, match="factorized_top_k/top_5_categorical_accuracy"):
        found.search(ratings(), validation_data=ratings(seed=1), verbose=0)
