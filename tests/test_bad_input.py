from __future__ import annotations

import functools
import json
import shutil

import keras
import keras_tuner
import numpy as np
import pytest
from search_setup import EAGER, FIT, ITEMS, USERS, build, data, same, search, snapshot
from search_setup import validation as val

import keras_eds
from keras_eds.errors import (
    BudgetError,
    DataError,
    FieldError,
    PlanError,
    ProjectError,
    StageError,
)
from keras_eds.methods import AMTL, CIESS, SSEDS
from keras_eds.tuners import EDSOracle

X, Y = data()


@pytest.fixture
def no_training(monkeypatch):
    """Fails the test if anything is trained."""

    @functools.wraps(keras.Model.fit)
    def fit(*args, **kwargs):
        raise AssertionError("something was trained")

    monkeypatch.setattr(keras.Model, "fit", fit)


def refused(directory, model=build, budget=0.5, x=X, y=Y, fit=(), **options):
    """What a search raises, after a check that nothing was touched."""
    instance = isinstance(model, keras.Model) and model.compiled
    before = snapshot(model) if instance else None
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    with pytest.raises(ValueError) as caught:
        found = search(directory, model, budget, **options)
        # What a search that begins writes is no harm; what stood there must stay.
        files = sorted(p for p in directory.rglob("*") if p.is_file())
        found.search(x, y, **{"validation_data": val(), **FIT, **dict(fit)})
    assert sorted(p for p in directory.rglob("*") if p.is_file()) == files
    assert before is None or same(before, snapshot(model))
    return caught.value


# The model.


def without_table():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def uncompiled():
    model = keras.Sequential([keras.layers.Embedding(5, 2), keras.layers.Dense(1)])
    model(np.zeros((1, 1), "int32"))
    return model


def quantized():
    model = build()
    model.get_layer("user_table").quantize("int8")
    return model


def with_lora():
    model = build()
    model.get_layer("user_table").enable_lora(2)
    return model


def tied():
    layer = keras.layers.ReversibleEmbedding(USERS, 8, name="user_table")
    ids = keras.Input((), dtype="int32")
    model = keras.Model(ids, layer(layer(ids), reverse=True))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


class ReadsTable(keras.Model):
    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(USERS, 8, name="user_table")
        self.head = keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs):
        vectors = self.table(inputs["user"])
        return self.head(vectors) + keras.ops.mean(self.table.embeddings)


def reads_table():
    model = ReadsTable()
    model(X)
    model.compile("sgd", "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    return model


class Unsavable(keras.layers.Layer):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def call(self, inputs):
        return inputs * self.scale(1.0)


def unsavable():
    ids = keras.Input((), dtype="int32", name="user")
    vectors = Unsavable(lambda z: z)(keras.layers.Embedding(USERS, 8)(ids))
    model = keras.Model(ids, keras.layers.Dense(1)(vectors))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    "model, parts",
    [
        (without_table, ["`model`", "embedding table"]),
        (uncompiled, ["`model`", "compile"]),
        (quantized, ["user_table", "int8"]),
        (with_lora, ["user_table", "LoRA"]),
        (tied, ["user_table", "ReversibleEmbedding"]),
        (reads_table, ["`model`", "table", "directly"]),
        (unsavable, ["`model`", "get_config"]),
        (lambda: 3, ["`model`"]),
    ],
)
@pytest.mark.parametrize("instance", [True, False])
def test_models(tmp_path, no_training, model, parts, instance):
    error = refused(tmp_path, model() if instance else model)
    assert isinstance(error, FieldError)
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize(
    "filters", ["nothing", ["nothing", "else"], lambda field: False, "("]
)
def test_filters_that_match_nothing(tmp_path, no_training, filters):
    error = refused(tmp_path, filters=filters)
    assert isinstance(error, FieldError) and "`filters`" in str(error)


# Arguments.


@pytest.mark.parametrize(
    "budget",
    [0, -1, -0.5, 1.5, 2, "lots", "5 elephants", "", None, [], [0.1, 0.1], True, 1e-9,
     "1B", "0MB", "-5KB", float("nan"), float("inf"), [0.5, "x"], {}, "0%", "200%"],
)  # fmt: skip
def test_budgets(tmp_path, no_training, budget):
    error = refused(tmp_path, budget=budget)
    assert isinstance(error, BudgetError) and "udget" in str(error)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"fraction": 0.1, "parameters": 5}, {}])
def test_budget_is_given_once(options):
    with pytest.raises(BudgetError, match="`budget`"):
        keras_eds.Budget(**options)


@pytest.mark.parametrize(
    "method, least",
    [
        # A column of seven ids and its alignment.
        (lambda: SSEDS(fill="zero"), {"parameters": 7 + 4, "num_bytes": 44}),
        # The places of seven ids, how many have a value, a value, a spare row.
        (lambda: AMTL(min_size=0), {"parameters": 7 + 1 + 2, "num_bytes": 14 + 4 + 8}),
    ],
)
def test_budget_with_room_for_nothing(method, least):
    fields = [keras_eds.Field("user", 200, 8), keras_eds.Field("day", 7, 4)]
    for unit, amount in least.items():
        oracle = EDSOracle(fields, keras_eds.Budget(**{unit: amount}), method())
        less = keras_eds.Budget(**{unit: amount - 1})
        with pytest.raises(BudgetError, match=f"at least {amount} .*room for"):
            EDSOracle(fields, less, method())
        with pytest.raises(BudgetError, match=f"at least {amount} .*room for"):
            oracle.plan_for(less)


def test_floor_above_the_budget(tmp_path, no_training):
    error = refused(tmp_path, budget=0.1, method=SSEDS(floor=7))
    assert isinstance(error, BudgetError)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"method": "magic"}, "`method`"),
        ({"method": 3}, "`method`"),
        ({"seed": -1}, "`seed`"),
        ({"seed": "a"}, "`seed`"),
        ({"seed": 1.5}, "`seed`"),
        ({"objective": ["val_auc", "val_loss"]}, "`objective`"),
        ({"objective": "val_mystery"}, "objective"),
    ],
)
def test_options(tmp_path, no_training, options, name):
    assert name in str(refused(tmp_path, **options))
    assert not any(tmp_path.iterdir())


# Data.


def empty_dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).take(0).batch(8)


def unlabelled_dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(X).batch(8)


def generator():
    yield X, Y


@pytest.mark.parametrize(
    "x, y, fit, name",
    [
        (None, None, {}, "`x`"),
        ({k: v[:0] for k, v in X.items()}, Y[:0], {}, "`x`"),
        (X, None, {}, "`x`"),
        (generator(), None, {}, "`x`"),
        (X, Y, {"validation_data": generator()}, "`validation_data`"),
        (X, Y, {"validation_data": (X,)}, "`validation_data`"),
        (X, Y, {"validation_data": None}, "`validation_data`"),
        (X, Y, {"validation_data": None, "validation_split": 2.0},
         "`validation_split`"),
        (X, Y, {"validation_data": ({k: v[:0] for k, v in X.items()}, Y[:0])},
         "`validation_data`"),
        (X, Y, {"epoch": 3}, "epoch"),
        ({**X, "user": X["user"] + USERS}, Y, {}, "user_table"),
        ({**X, "item": X["item"] - 1}, Y, {}, "item_table"),
        (X, Y[:10], {}, "`x`"),
    ],
)  # fmt: skip
def test_data(tmp_path, no_training, x, y, fit, name):
    error = refused(tmp_path, x=x, y=y, fit=fit)
    assert isinstance(error, DataError) and name in str(error)


def test_data_sets(tmp_path, no_training):
    for x in (empty_dataset(), unlabelled_dataset(), iter(unlabelled_dataset())):
        error = refused(tmp_path, x=x, y=None)
        assert isinstance(error, DataError) and "`x`" in str(error)


def test_objective_that_is_not_measured(tmp_path, no_training):
    for name in ("val_accuracy", "accuracy"):
        error = refused(tmp_path, objective=name, project_name=name)
        assert isinstance(error, DataError)
        assert "`objective`" in str(error) and "auc" in str(error)


def test_saliency_on_validation_data_that_is_missing(tmp_path, no_training):
    options = {"method": SSEDS(data="validation"), "objective": "loss"}
    error = refused(tmp_path, fit={"validation_data": None}, **options)
    assert isinstance(error, DataError) and "`validation_data`" in str(error)


def test_labels_that_do_not_fit(tmp_path, no_training):
    error = refused(tmp_path, y=np.zeros((len(Y), 3), "float32"))
    assert isinstance(error, DataError) and "`y`" in str(error)


class Uncopyable(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.file = open(__file__)  # noqa: SIM115


def test_callback_that_cannot_be_copied(tmp_path, no_training):
    callback = Uncopyable()
    error = refused(tmp_path, fit={"callbacks": [callback]})
    callback.file.close()
    assert isinstance(error, DataError) and "`callbacks`" in str(error)


# Stages that fail.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_in_the_first_stage(tmp_path, capsys):
    model = build()
    before = snapshot(model)
    found = search(tmp_path, model)
    with pytest.raises(StageError, match="'pretrain' failed"):
        found.search(X, Y, validation_data=val(), **FIT, callbacks=[Poison("pretrain")])
    assert same(before, snapshot(model))
    # Whoever corrects that goes on in the same project.
    again = search(tmp_path, model)
    again.search(X, Y, validation_data=val(), **FIT)
    assert [r.stage for r in again.results()] == ["pretrain", "probe", "retrain"]


class Poison(keras.callbacks.Callback):
    """Makes the labels' loss NaN in the stages of one budget."""

    def __init__(self, budget):
        super().__init__()
        self.budget, self.stage_name = budget, ""

    def on_stage_end(self, result):
        pass

    def on_train_batch_begin(self, batch, logs=None):
        if self.stage_name.endswith(self.budget):
            kernel = self.model.layers[-1].kernel
            kernel.assign(np.full(kernel.shape, np.nan, "float32"))


def poisoned(tmp_path, **options):
    found = search(tmp_path, budget=[0.5, 0.25], **options)
    with pytest.warns(RuntimeWarning, match="1 of 4 stages failed.*'retrain' for 50%"):
        found.search(X, Y, validation_data=val(), **FIT, callbacks=[Poison("-50%")])
    return found


def test_nan_in_one_of_two_budgets(tmp_path, capsys):
    found = poisoned(tmp_path)
    [plan] = found.get_best_plans(2)
    assert plan.fits(keras_eds.Budget.parse(0.25))
    assert len(found.get_best_models(2)) == 1
    found.results_summary()
    printed = capsys.readouterr().out
    assert "Stage 'retrain' for 50% failed" in printed
    # The one that failed is repeated, and nothing else.
    again = search(tmp_path, budget=[0.5, 0.25])
    again.search(X, Y, validation_data=val(), **FIT)
    assert sorted(r.index for r in again.results()) == [0, 1, 2, 3]
    assert len(again.get_best_plans(2)) == 2


class FailOnce(keras.callbacks.Callback):
    failures: list[str] = []

    def on_train_begin(self, logs=None):
        if not FailOnce.failures:
            FailOnce.failures.append("failed")
            raise OSError("not now")


def test_retries(tmp_path):
    found = search(tmp_path, max_retries_per_trial=1)
    found.search(X, Y, validation_data=val(), **FIT, callbacks=[FailOnce()])
    assert FailOnce.failures and len(found.results()) == 3


# Project directories.


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    found = search(directory)
    found.search(X, Y, validation_data=val(), **FIT)
    return directory


@pytest.fixture
def project(finished, tmp_path):
    shutil.copytree(finished / "p", tmp_path / "p")
    return tmp_path


def wider():
    inputs = {"user": keras.Input((), dtype="int32", name="user")}
    vectors = keras.layers.Embedding(USERS + ITEMS, 8)(inputs["user"])
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(vectors))
    auc = keras.metrics.AUC(name="auc")
    model.compile("sgd", "binary_crossentropy", metrics=[auc], run_eagerly=EAGER)
    return model


@pytest.mark.parametrize(
    "options, name",
    [
        ({"model": wider}, "model"),
        ({"budget": 0.4}, "budget"),
        ({"budget": [0.5, 0.25]}, "budget"),
        ({"method": "uniform"}, "method"),
        ({"method": SSEDS(floor=1)}, "method"),
        ({"filters": "user"}, "fields"),
        ({"objective": "val_loss"}, "objective"),
    ],
)
def test_project_of_another_search(project, no_training, options, name):
    error = refused(project, **options)
    assert isinstance(error, ProjectError)
    assert name in str(error) and str(project / "p") in str(error)
    assert "overwrite=True" in str(error)
    assert len(search(project).get_best_models()) == 1


def test_overwrite_begins_anew(project):
    found = search(project, budget=0.3, overwrite=True)
    assert found.results() == []
    found.search(X, Y, validation_data=val(), **FIT)
    assert len(found.results()) == 3


def test_project_of_another_tuner(tmp_path, no_training):
    other = keras_tuner.RandomSearch(
        lambda hp: build(), "val_loss", directory=tmp_path, project_name="p"
    )
    other.oracle.save()
    error = refused(tmp_path)
    assert isinstance(error, ProjectError) and "another tuner" in str(error)


def damage(path, how):
    content = path.read_bytes()
    damaged = {"empty": b"", "half": content[: len(content) // 2], "other": b"[1, 2]"}
    path.write_bytes(damaged[how])


@pytest.mark.parametrize("how", ["empty", "half", "other"])
@pytest.mark.parametrize(
    "name", ["oracle.json", "tuner0.json", "eds_project.json", "trial_0001/trial.json"]
)
def test_damaged_state(project, no_training, name, how):
    damage(project / "p" / name, how)
    error = refused(project)
    assert isinstance(error, ProjectError)
    assert str(project / "p" / name) in str(error) and "overwrite=True" in str(error)


@pytest.mark.parametrize("how", ["empty", "half", "other"])
@pytest.mark.parametrize(
    "name, kind",
    [
        ("trial_0002/model.keras", ProjectError),
        ("trial_0002/plan.npz", PlanError),
        ("trial_0002/outcome.json", ProjectError),
        ("trial_0001/measurements.npz", PlanError),
    ],
)
def test_damaged_results(project, name, kind, how):
    damage(project / "p" / name, how)
    found = search(project)
    read = {
        "model.keras": found.get_best_models,
        "plan.npz": found.get_best_plans,
        "outcome.json": found.results,
        "measurements.npz": lambda: found.plan_for(0.3),
    }[name.split("/")[1]]
    with pytest.raises(kind) as caught:
        read()
    assert str(project / "p" / name) in str(caught.value)
    with pytest.raises((ProjectError, PlanError)):
        read()


class Stop(keras.callbacks.Callback):
    """Ends the process's work after the probe."""

    def on_stage_end(self, result):
        if result.stage == "probe":
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["empty", "half"])
@pytest.mark.parametrize(
    "name, kind",
    [
        ("full.weights.h5", ProjectError),
        ("full_scores.json", ProjectError),
        ("trial_0001/measurements.npz", PlanError),
    ],
)
def test_damaged_file_that_a_stage_needs(tmp_path, name, kind, how):
    path, fit = tmp_path / "p" / name, {"validation_data": val(), **FIT}
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path).search(X, Y, **fit, callbacks=[Stop()])
    whole = path.read_bytes()
    damage(path, how)
    with pytest.raises(kind) as caught:
        search(tmp_path).search(X, Y, **fit)
    assert str(path) in str(caught.value)
    # Whoever restores the file goes on.
    path.write_bytes(whole)
    again = search(tmp_path)
    again.search(X, Y, **fit)
    assert [r.stage for r in again.results()] == ["pretrain", "probe", "retrain"]


def test_missing_files(project):
    (project / "p" / "trial_0002" / "model.keras").unlink()
    with pytest.raises(ProjectError, match="model.keras"):
        search(project).get_best_models()
    (project / "p" / "oracle.json").unlink()
    with pytest.raises(ProjectError, match="oracle.json"):
        search(project)


def test_state_of_an_older_oracle(project):
    path = project / "p" / "oracle.json"
    state = json.loads(path.read_text())
    del state["eds_seed"]
    path.write_text(json.dumps(state))
    with pytest.raises(ProjectError, match="could not be read"):
        search(project)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its tensors")
def test_ragged_ids_are_refused_before_training(tmp_path):
    tf = pytest.importorskip("tensorflow")
    ids = keras.Input((None,), dtype="int32", ragged=True, name="words")
    vectors = keras.layers.Embedding(20, 8, name="word_table")(ids)
    model = keras.Model(ids, keras.layers.Dense(1)(RaggedMean()(vectors)))
    model.compile("sgd", "mse")
    words = tf.ragged.constant([[1, 2], [3], [4, 5, 6]] * 20, dtype="int32")
    batches = tf.data.Dataset.from_tensors((words, np.ones((60, 1), "float32")))
    model.fit(batches, verbose=0, shuffle=False)
    search = keras_eds.EDSSearch(model, 0.5, directory=tmp_path)
    with pytest.raises(FieldError, match="dense ids.*'word_table'.*to_tensor"):
        search.search(batches, validation_data=batches, epochs=1, shuffle=False)
    assert not search.results()
    with pytest.raises(FieldError, match="dense ids"):
        keras_eds.measure(model, {"x": batches, "shuffle": False})


class RaggedMean(keras.layers.Layer):
    def call(self, vectors):
        import tensorflow as tf

        return tf.reduce_mean(vectors, axis=1)

    def compute_output_shape(self, shape):
        return shape[0], shape[-1]


class Hit(keras.metrics.Metric):
    """Has an argument that no `get_config` tells."""

    def __init__(self, threshold, **kwargs):
        super().__init__(**kwargs)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return keras.ops.zeros(())


def test_what_cannot_be_made_anew_is_refused_before_training(tmp_path):
    def unrenewable():
        model = build()
        model.compile("adam", "binary_crossentropy", metrics=[Hit(0.5)])
        return model

    with pytest.raises(FieldError, match="`metrics`.*get_config"):
        search(tmp_path, unrenewable)


@pytest.mark.parametrize("method", ["sseds", "amtl", "uniform"])
def test_validation_ids_out_of_range(tmp_path, no_training, method):
    x, y = val()
    beyond = {**x, "item": np.full_like(x["item"], ITEMS)}
    error = refused(tmp_path, method=method, fit={"validation_data": (beyond, y)})
    assert isinstance(error, DataError)
    assert f"`validation_data` must hold ids from 0 to {ITEMS - 1}" in str(error)


def test_a_project_without_a_finished_stage_is_free(tmp_path):
    nothing = keras_tuner.Objective("val_nothing", "max")
    assert isinstance(refused(tmp_path, objective=nothing), DataError)
    found = search(tmp_path, budget=0.3)
    found.search(X, Y, validation_data=val(), **FIT)
    assert len(found.get_best_plans()) == 1
    error = refused(tmp_path, budget=0.4)
    assert isinstance(error, ProjectError) and "same budget" in str(error)


def test_a_probe_that_says_nothing_is_repeated(tmp_path):
    tried = {"episodes": 1, "iterations": 1, "updates": 1, "steps": 1}
    method = CIESS(compare=False, **tried)
    x = {"user": X["user"] % 20, "item": X["item"] % 10}
    unknown = {"user": np.full(64, 30), "item": np.full(64, 20)}
    model = build()
    model.fit(x, Y, verbose=0)
    with pytest.raises(StageError, match="`validation_data` must carry ids that come"):
        search(tmp_path, model, method=method).search(
            x, Y, **FIT, validation_data=(unknown, np.arange(64)[:, None] % 2)
        )
    found = search(tmp_path, model, method=method)
    found.search(x, Y, validation_data=(x, Y), **FIT)
    assert len(found.get_best_plans()) == 1


class LooksWholeTablesUp(keras.Model):
    """Keras cannot call it on symbols when it loads it."""

    def __init__(self):
        super().__init__()
        self.users = keras.layers.Embedding(USERS, 8)
        self.last = keras.layers.Dense(1, activation="sigmoid")

    def call(self, x):
        whole = self.users(keras.ops.arange(USERS))
        return self.last(keras.ops.take(whole, x["user"], axis=0))

    def get_config(self):
        return {}


@pytest.mark.filterwarnings("ignore:Model .looks_whole:UserWarning")
def test_model_that_comes_back_in_part_is_refused():
    model = LooksWholeTablesUp()
    model.compile("adam", "binary_crossentropy")
    model.fit(X, Y, verbose=0)
    fields = keras_eds.find_fields(model)
    plan = keras_eds.DimensionPlan.of_sizes(fields, {f.name: 8 for f in fields})
    with pytest.raises(FieldError, match="3 weights .* came back.* function"):
        keras_eds.apply_plan(model, plan)
