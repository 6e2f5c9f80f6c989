"""What users set on their models and callbacks holds in every stage of a search."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from search_setup import EAGER, FIT, ITEMS, WIDTH, build, data, once, search, validation

import keras_eds
from keras_eds.errors import BudgetError, ProjectError
from keras_eds.surgery import keras_training
from keras_eds.surgery.copying import copy_model
from keras_eds.tuners.weights import load_weights

pytestmark = once


class Machine(keras.Model):
    """Holds its layers and a weight of its own; Keras stores no flags of layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = keras.layers.Embedding(ITEMS, WIDTH, name="item_table")
        self.upper = keras.layers.Dense(1, activation="sigmoid")
        self.shift = self.add_weight(name="shift", shape=(WIDTH,), initializer="zeros")

    def call(self, inputs):
        return self.upper(self.table(inputs["item"]) + self.shift)


def machine():
    model = Machine()
    model.compile("adam", "binary_crossentropy", metrics=["auc"], run_eagerly=EAGER)
    x, y = data()
    model.fit(x, y, epochs=1, verbose=0)
    return model


def test_frozen_layers_stay_frozen():
    model = machine()
    model.table.trainable = False
    copy = copy_model(model)
    assert not copy.table.trainable and copy.upper.trainable
    assert len(copy.trainable_variables) == len(model.trainable_variables) == 3
    table = np.array(copy.table.embeddings)
    copy.fit(*data(), verbose=0)
    np.testing.assert_array_equal(table, copy.table.embeddings)


def test_weights_beside_layers_are_drawn_anew(tmp_path):
    model = machine()
    assert np.any(np.array(model.shift) != 0)
    found = search(tmp_path, model)
    fresh = found.hypermodel.source.fresh(None)
    np.testing.assert_array_equal(fresh.shift, np.zeros(WIDTH))


def test_a_project_goes_on_under_another_tuner_id(tmp_path, monkeypatch):
    found = search(tmp_path)
    found.search(*data(), validation_data=validation(), **FIT)
    files = {p.name for p in (tmp_path / "p").iterdir()}
    assert "full.weights.h5" in files
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "another")
    again = search(tmp_path)
    assert {p.name for p in (tmp_path / "p").iterdir()} >= files
    scores = [result.score for result in found.results()]
    assert [result.score for result in again.results()] == scores
    again.search(*data(), validation_data=validation(), **FIT)
    assert [result.score for result in again.results()] == scores


def test_files_of_callbacks_stand_apart(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    callbacks = [
        keras.callbacks.ModelCheckpoint(logs / "best.keras", monitor="val_loss"),
        keras.callbacks.CSVLogger(logs / "log.csv"),
        keras.callbacks.BackupAndRestore(logs / "backup", delete_checkpoint=False),
    ]
    options = {"validation_data": validation(), "callbacks": callbacks, **FIT}
    search(tmp_path).search(*data(), **options)
    assert not (logs / "best.keras").exists() and not (logs / "log.csv").exists()
    full = keras.models.load_model(logs / "0-pretrain" / "best.keras")
    assert {layer.name for layer in full.layers} >= {"user_table", "item_table"}
    assert full.get_layer("user_table").output_dim == WIDTH
    (small,) = [p for p in logs.glob("*/best.keras") if "pretrain" not in str(p)]
    assert keras.models.load_model(small).count_params() < full.count_params()
    assert len((small.parent / "log.csv").read_text().splitlines()) == 1 + FIT["epochs"]
    assert (logs / "backup" / "0-pretrain" / "latest.weights.h5").exists()


def test_vectors_among_the_metrics_are_passed_over(tmp_path):
    model = build()
    metrics = [keras.metrics.AUC(name="auc"), keras.metrics.F1Score(threshold=0.5)]
    model.compile("adam", "binary_crossentropy", metrics=metrics, run_eagerly=True)
    found = search(tmp_path, model)
    found.search(*data(), validation_data=validation(), **FIT)
    assert found.get_best_plans()[0].fits(keras_eds.Budget(0.5))


def scaled(x):
    """Not registered, as most people's functions are not."""
    return 5 * keras.ops.sigmoid(x)


def test_what_a_file_cannot_name_is_built_again(tmp_path):
    def builds():
        inputs = keras.Input((), dtype="int32", name="item")
        rows = keras.layers.Embedding(ITEMS, WIDTH, name="item_table")(inputs)
        hidden = keras.layers.Dense(4, activation=scaled)(rows)
        outputs = keras.layers.Dense(1, activation="sigmoid")(hidden)
        model = keras.Model({"item": inputs}, outputs)
        model.compile("adam", "binary_crossentropy", metrics=["auc"], run_eagerly=EAGER)
        return model

    x, y = data()
    found = search(tmp_path, builds)
    options = {"validation_data": ({"item": validation()[0]["item"]}, validation()[1])}
    found.search({"item": x["item"]}, y, **options, **FIT)
    small = found.get_best_models()[0]
    best = max(r.score for r in found.results() if r.stage == "retrain")
    scores = small.evaluate(*options["validation_data"], verbose=0, return_dict=True)
    assert scores["auc"] == pytest.approx(best, abs=1e-6)


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.01 * keras.ops.minimum(1.0, keras.ops.cast(step, "float32") / 4 + 0.1)

    def get_config(self):
        return {}


def test_a_schedule_of_ones_own_is_copied():
    def builds():
        model = build()
        model.compile(keras.optimizers.Adam(WarmUp()), "binary_crossentropy")
        return model

    copy = copy_model(builds())
    assert isinstance(copy.optimizer._learning_rate, WarmUp)


def test_models_that_run_to_their_end_are_counted_in_small_batches():
    seen = []

    class Watched(keras.layers.Dense):
        def call(self, inputs):
            seen.append(inputs.shape[0])
            return super().call(inputs)

    ids = keras.Input((2,), dtype="int32")
    table = keras.layers.Embedding(ITEMS, WIDTH, name="table")
    both = table(ids[:, 0]) + table(ids[:, 1])
    model = keras.Model(ids, Watched(1)(both))
    given = np.random.default_rng(0).integers(0, ITEMS, (3000, 2))
    counts = keras_eds.count_ids(model, {"x": given, "batch_size": 8})["table"]
    np.testing.assert_array_equal(counts, np.bincount(given.ravel(), minlength=ITEMS))
    assert [n for n in seen if n] == [1024, 1024, 952]


class Weights(keras.callbacks.Callback):
    """Writes the table down after every step; copies write to the same list."""

    seen: list = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(np.array(self.model.get_layer("item_table").embeddings))


@pytest.mark.parametrize("callbacks", [[], [keras.callbacks.SwapEMAWeights()]])
def test_averaged_weights_are_the_ones_that_stay(callbacks, tmp_path):
    model = build()
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.7)
    model.compile(optimizer, "binary_crossentropy", metrics=["auc"], run_eagerly=EAGER)
    Weights.seen.clear()
    found = search(tmp_path, model)
    options = {**FIT, "epochs": 1, "callbacks": [Weights(), *callbacks]}
    found.search(*data(), validation_data=validation(), **options)
    steps = Weights.seen[: 256 // FIT["batch_size"]]
    average = steps[0]
    for table in steps[1:]:
        average = 0.7 * average + 0.3 * table
    full = build()
    load_weights(full, tmp_path / "p" / "full.weights.h5")
    table = np.array(full.get_layer("item_table").embeddings)
    np.testing.assert_allclose(table, average, rtol=1e-5, atol=1e-6)


def test_a_backup_is_of_the_weights_that_training_goes_on_from(tmp_path):
    """Averaged weights are swapped in after it is written."""
    model = build()
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.7)
    model.compile(optimizer, "binary_crossentropy", metrics=["auc"], run_eagerly=EAGER)
    found = search(tmp_path, model)
    Weights.seen.clear()
    backup = keras.callbacks.BackupAndRestore(
        str(tmp_path / "backup"), delete_checkpoint=False
    )
    options = {**FIT, "epochs": 1, "callbacks": [Weights(), backup]}
    found.search(*data(), validation_data=validation(), **options)
    (file,) = (tmp_path / "backup").rglob("*pretrain*/*.weights.h5")
    written = build()
    with keras_training.without_optimizer(written):
        written.load_weights(file)
    last = Weights.seen[256 // FIT["batch_size"] - 1]
    table = np.array(written.get_layer("item_table").embeddings)
    np.testing.assert_allclose(table, last, rtol=1e-4, atol=1e-6)


def test_budgets_that_are_written_alike_are_told_apart(tmp_path):
    first, second = (keras_eds.Budget(fraction=0.5 + 1e-9 * i) for i in range(2))
    assert first.label == second.label
    found = search(tmp_path, budget=first)
    found.search(*data(), validation_data=validation(), **{**FIT, "epochs": 1})
    with pytest.raises(ProjectError, match="budget"):
        search(tmp_path, budget=second)
    with pytest.raises(BudgetError, match="alike"):
        search(tmp_path / "both", budget=[first, second])


@pytest.mark.parametrize("method", ["principal_rows", "ciess", "mde"])
def test_tables_of_half_precision_are_measured_and_cut(method, tmp_path):
    ids = keras.Input((), dtype="int32", name="item")
    table = keras.layers.Embedding(ITEMS, WIDTH, name="item_table", dtype="bfloat16")
    head = keras.layers.Dense(1, activation="sigmoid", dtype="float32")
    model = keras.Model({"item": ids}, head(table(ids)))
    model.compile("adam", "binary_crossentropy", metrics=["auc"], run_eagerly=EAGER)
    if method == "ciess":
        method = keras_eds.methods.CIESS(episodes=1, iterations=1, steps=1, top=1)
    result = search(tmp_path, model, 0.5, method=method)
    (x, y), (x_val, y_val) = data(), validation()
    val = {"item": x_val["item"]}, y_val
    result.search({"item": x["item"]}, y, validation_data=val, **FIT)
    plan = result.get_best_plans()[0]
    assert 0 < plan.num_bytes() <= 0.5 * 2 * ITEMS * WIDTH
