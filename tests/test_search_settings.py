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


@pytest.mark.parametrize("batched", [False, True])
def test_models_behind_raw_strings_are_searched(batched, tmp_path):
    tf = pytest.importorskip("tensorflow")
    words = np.array(list("abcd") * 64, dtype=object)
    y = np.tile([0.0, 1.0], 128)[:, None]
    text = keras.Input((), dtype="string")
    ids = keras.layers.StringLookup(vocabulary=list("abcd"))(text)
    vectors = keras.layers.Embedding(5, 8, name="word_table")(ids)
    model = keras.Model(text, keras.layers.Dense(1, activation="sigmoid")(vectors))
    model.compile("adam", "binary_crossentropy")
    batches = tf.data.Dataset.from_tensor_slices((words, y)).batch(64)
    given = (batches,) if batched else (words, y)
    validation = batches if batched else (words, y)
    result = search(tmp_path, model, 0.5, objective="val_loss")
    result.search(*given, validation_data=validation, epochs=1, verbose=0)
    assert result.get_best_models()[0].predict(batches, verbose=0).shape == (256, 1)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_sizes_are_learned_alike_where_the_length_is_not_known(tmp_path):
    tf = pytest.importorskip("tensorflow")
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(8)
    plans = []
    for given in (batches, batches.filter(lambda x, y: True)):
        method = keras_eds.methods.AMTL(epochs=1, hidden_units=(4,))
        result = search(tmp_path / str(len(plans)), build, 0.2, method=method)
        result.search(given, validation_data=validation(), epochs=1, verbose=0)
        plans.append(result.plan_for(0.2))
    assert plans[0] == plans[1]


def test_a_stopped_stage_remembers_its_best_epoch(tmp_path):
    """The rate explodes after the best epoch, then the search is killed."""

    class Explode(keras.callbacks.Callback):
        def __init__(self, stop):
            super().__init__()
            self.stop = stop

        def on_epoch_begin(self, epoch, logs=None):
            if epoch >= 2:
                self.model.optimizer.learning_rate = 20.0

        def on_epoch_end(self, epoch, logs=None):
            if self.stop and epoch == 3:
                raise KeyboardInterrupt

    scores = []
    for name, stops in (("whole", [False]), ("killed", [True, False])):
        for stop in stops:
            result = search(
                tmp_path / name, build, 0.5, objective="val_loss", method="uniform"
            )
            backup = keras.callbacks.BackupAndRestore(tmp_path / name / "backup")
            options = {**FIT, "epochs": 5, "callbacks": [backup, Explode(stop)]}
            try:
                result.search(*data(), validation_data=validation(), **options)
            except KeyboardInterrupt:
                assert stop
        scores.append(result.results()[-1].score)
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_of_equal_models_the_smallest_comes_back(tmp_path, capsys):
    def still():
        model = build(metric="auc")
        model.optimizer.learning_rate = 0.0
        return model

    few = {k: v[:4] for k, v in validation()[0].items()}, validation()[1][:4]
    result = search(tmp_path, still, [0.6, 0.5], method="sseds")
    result.search(*data(), validation_data=few, **FIT)
    ended = [r for r in result.results() if r.plan is not None]
    assert ended[0].score == ended[1].score
    assert result.get_best_plans()[0] == ended[1].plan
    result.results_summary()
    [marked] = [line for line in capsys.readouterr().out.splitlines() if "best" in line
                and "retrain" in line]  # fmt: skip
    assert "50%" in marked


def test_a_model_that_only_counted_is_not_called_full(tmp_path, capsys):
    result = search(tmp_path, build, [0.5], method="mde")
    result.search(*data(), validation_data=validation(), **FIT)
    assert result.results()[0].full_score is None
    result.results_summary()
    [line] = [t for t in capsys.readouterr().out.splitlines() if "0 probe" in t]
    assert f"{result.results()[0].score:.4f}" not in line


def test_steps_cost_no_more_than_they_may(tmp_path):
    method = keras_eds.methods.SampledRows(tries=6, top=1, trainings=4.25)
    result = search(tmp_path, build, 0.5, method=method)
    result.search(*data(), validation_data=validation(), **{**FIT, "epochs": 1})
    steps = [r.metrics["trainings"] for r in result.results() if r.stage == "step"]
    assert len(steps) == 6 and 2 + sum(steps) <= 4.25


def test_the_least_size_is_at_most_the_width(tmp_path):
    ids = keras.Input((), dtype="int32", name="item")
    wide = keras.layers.Embedding(ITEMS, WIDTH, name="wide")(ids)
    narrow = keras.layers.Embedding(ITEMS, 1, name="first_order")(ids)
    vectors = keras.layers.Concatenate()([wide, narrow])
    head = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model({"item": ids}, head(vectors))
    model.compile("adam", "binary_crossentropy", metrics=["auc"], run_eagerly=EAGER)
    (x, y), (x_val, y_val) = data(), validation()
    result = search(
        tmp_path, model, 0.6, method=keras_eds.methods.AMTL(min_size=2, epochs=1)
    )
    val = {"item": x_val["item"]}, y_val
    result.search({"item": x["item"]}, y, validation_data=val, **FIT)
    sizes = result.get_best_plans()[0].sizes()
    assert np.min(sizes["wide"]) >= 2 and np.min(sizes["first_order"]) == 1
