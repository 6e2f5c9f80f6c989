from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from search_setup import (
    EAGER,
    FIT,
    ITEMS,
    USERS,
    build,
    data,
    once,
    same,
    search,
    snapshot,
)
from search_setup import validation as val

import keras_eds
from keras_eds.callbacks import EDSTensorBoard
from keras_eds.methods import SSEDS, RandomSizes, Uniform
from keras_eds.tuners.fit_data import copies_of
from keras_eds.tuners.weights import load_weights

X, Y = data()
TF = keras.backend.backend() == "tensorflow"


def run(tmp_path, model=build, budget=0.5, fit=(), **options):
    found = search(tmp_path, model, budget, **options)
    found.search(X, Y, validation_data=val(), **{**FIT, **dict(fit)})
    return found


def bytes_of_tables(model):
    count = 0
    for layer in model.layers:
        if isinstance(
            layer, keras.layers.Embedding | keras_eds.layers.PrunedFieldEmbedding
        ):
            count += sum(4 * int(np.prod(v.shape)) for v in layer.variables)
    return count


# What is found.


def test_one_call_gives_small_trained_models(tmp_path, capsys):
    found = run(tmp_path, budget=[0.5, 0.25])
    stages = [(r.stage, r.index) for r in found.results()]
    assert stages == [("pretrain", 0), ("probe", 1), ("retrain", 2), ("retrain", 3)]
    models, plans = found.get_best_models(5), found.get_best_plans(5)
    scores = [r.score for r in found.results() if r.stage == "retrain"]
    assert len(models) == len(plans) == 2
    whole = 4 * 8 * (USERS + ITEMS)
    for model, plan, score in zip(models, plans, sorted(scores)[::-1], strict=True):
        values = model.evaluate(*val(), verbose=0, return_dict=True)
        assert values["auc"] == pytest.approx(score, abs=1e-6)
        assert bytes_of_tables(model) == plan.num_bytes() <= whole // 2
    limits = sorted(plan.num_bytes() for plan in plans)
    assert limits[0] <= whole // 4 < limits[1]
    values = [hp.values["eds/budget"] for hp in found.get_best_hyperparameters(2)]
    assert sorted(values) == ["25%", "50%"]
    assert (
        found.plan_for(0.25) == plans[[p.num_bytes() for p in plans].index(limits[0])]
    )
    assert found.plan_for("600B").num_bytes() <= 600
    assert found.remaining_trials == 0
    capsys.readouterr()
    found.results_summary()
    printed = capsys.readouterr().out
    for part in ("pretrain", "probe", "50%", "25%", "user_table", "best"):
        assert part in printed
    found.results_summary(num_trials=1)
    printed = capsys.readouterr().out
    assert ("50%" in printed) != ("25%" in printed)


@once
def test_space_summary_names_tables_and_budgets(tmp_path, capsys):
    found = search(tmp_path, budget=[0.5, "900B", keras_eds.Budget(parameters=100)])
    found.search_space_summary()
    printed = capsys.readouterr().out
    for part in ("user_table", "item_table", "50%", "900 B", "100 parameters"):
        assert part in printed


@once
def test_results_before_any_stage(tmp_path, capsys):
    found = search(tmp_path)
    found.results_summary()
    assert found.get_best_models() == found.get_best_plans() == found.results() == []
    with pytest.raises(keras_eds.errors.StageError, match="search"):
        found.plan_for(0.3)


@once
def test_builder_with_unnamed_layers_metrics_and_filters(tmp_path):
    found = run(
        tmp_path, lambda: build(named=False), budget=0.9, filters=r"embedding(_\d+)?$"
    )
    assert len(found.results()) == 3
    # The metric and tables keep their names, though each build makes new ones.
    assert {r.objective for r in found.results()} == {"val_auc"}
    narrow = search(tmp_path, budget=0.5, filters="item", project_name="narrow")
    narrow.search(X, Y, validation_data=val(), **FIT)
    [plan] = narrow.get_best_plans()
    assert list(plan.sizes()) == ["item_table"]
    model = narrow.get_best_models()[0]
    assert model.get_layer("user_table").embeddings.shape == (USERS, 8)
    assert model.get_layer("item_table").variables[0].shape[1] < 8


@once
def test_builder_that_uses_unnamed_layers_from_outside(tmp_path):
    keras.backend.clear_session()
    outside = keras.layers.Dense(4)

    def builder():
        inputs = {k: keras.Input((), dtype="int32", name=k) for k in ("user", "item")}
        vector = keras.layers.Embedding(USERS, 8)(inputs["user"])
        outputs = keras.layers.Dense(1, activation="sigmoid")(outside(vector))
        model = keras.Model(inputs, outputs)
        metrics = [keras.metrics.AUC(name="auc")]
        model.compile("adam", "binary_crossentropy", metrics=metrics, run_eagerly=EAGER)
        return model

    assert len(run(tmp_path, builder).results()) == 3


def test_trained_instance_is_not_trained_again_and_untouched(tmp_path):
    model = build()
    model.fit(X, Y, **FIT)
    expected = model.evaluate(*val(), verbose=0, return_dict=True)["auc"]
    before = snapshot(model)
    found = run(tmp_path, model)
    assert [r.stage for r in found.results()] == ["probe", "retrain"]
    assert found.results()[0].score == pytest.approx(expected, abs=1e-6)
    assert same(before, snapshot(model))
    x = np.array([0, 1])
    assert len(model.predict({"user": x, "item": x}, verbose=0)) == 2


def test_untrained_instance_is_untouched(tmp_path):
    model = build()
    before = snapshot(model)
    found = run(tmp_path, model)
    assert [r.stage for r in found.results()][0] == "pretrain"
    assert same(before, snapshot(model))
    assert int(model.optimizer.iterations) == 0


class FailsIn(keras.callbacks.Callback):
    """Raises at the first step of a stage whose tables are already narrow."""

    def on_train_batch_begin(self, batch, logs=None):
        if any("pruned" in type(layer).__name__.lower() for layer in self.model.layers):
            raise OSError("the disk is full")


def test_instance_is_untouched_when_the_search_fails(tmp_path):
    model = build()
    model.fit(X, Y, **FIT)
    before = snapshot(model)
    found = search(tmp_path, model)
    with pytest.raises(keras_eds.errors.StageError, match="disk is full"):
        found.search(X, Y, validation_data=val(), **FIT, callbacks=[FailsIn()])
    assert same(before, snapshot(model))


# How stages start.


@pytest.mark.parametrize("alignment", ["plan", "fixed", "random"])
@pytest.mark.parametrize("warm_start", ["all", "tables", "initial", "fresh"])
def test_warm_starts(tmp_path, warm_start, alignment):
    model = build()
    method = SSEDS(
        basis="columns", warm_start=warm_start, alignment=alignment, fill="zero"
    )
    found = search(tmp_path, model, method=method)
    starts = []

    class Start(keras.callbacks.Callback):
        def __deepcopy__(self, memo):
            return Start()

        def on_train_begin(self, logs=None):
            names = ("user_table", "item_table", self.model.layers[-1].name)
            layers = [self.model.get_layer(n) for n in names]
            starts.append([[np.array(w) for w in la.get_weights()] for la in layers])

    # No step may change what is compared, so that the trained are the initial.
    fit = {**FIT, "epochs": 1, "callbacks": [Start()]}
    found.search(X, Y, validation_data=val(), **fit)
    full = search_full(found, model)
    _, small = starts
    [plan] = found.get_best_plans()
    trained, initial = full, [la.get_weights() for la in tables_and_head(model)]
    for number, field in enumerate(plan):
        if field.kept_dim in (0, 8):
            continue
        columns = list(field.columns)
        table, projection = small[number][0], small[number][1]
        source = {"all": trained, "tables": trained, "initial": initial}
        if warm_start in source:
            expected = source[warm_start][number][0][:, columns]
            np.testing.assert_array_equal(table, expected)
        else:
            for other in (trained, initial):
                assert not np.allclose(table, other[number][0][:, columns])
        selection = np.eye(8, dtype="float32")[columns]
        assert np.array_equal(projection, selection) == (alignment != "random")
    head = small[2][0]
    assert np.array_equal(head, trained[2][0]) == (warm_start == "all")
    assert np.array_equal(head, initial[2][0]) == (warm_start == "initial")


def tables_and_head(model):
    return [
        model.get_layer("user_table"),
        model.get_layer("item_table"),
        model.layers[-1],
    ]


def search_full(found, model):
    """The full model's weights as the search left them."""
    copy = build()
    load_weights(copy, Path(found.project_dir) / "full.weights.h5")
    return [layer.get_weights() for layer in tables_and_head(copy)]


@once
def test_initial_values_of_a_trained_model_are_refused(tmp_path):
    model = build()
    model.fit(X, Y, **FIT)
    with pytest.raises(ValueError, match="warm_start='initial'"):
        search(tmp_path, model, method=SSEDS(warm_start="initial"))
    assert not any(tmp_path.iterdir())


@once
@pytest.mark.parametrize("method", [Uniform(), RandomSizes(draws=2), "uniform"])
def test_controls_train_from_scratch(tmp_path, method):
    found = run(tmp_path, method=method)
    stages = [r.stage for r in found.results()]
    assert set(stages) == {"retrain"}
    assert found.get_best_plans()[0].num_bytes() <= 4 * 4 * (USERS + ITEMS)


def test_worse_after_retraining_keeps_the_model_before(tmp_path):
    model = build()
    model.fit(X, Y, **{**FIT, "epochs": 8})
    # Steps this large destroy what was learned, but stay finite.
    model.optimizer.learning_rate = 50.0
    found = run(tmp_path, model, fit={"epochs": 1})
    [result] = [r for r in found.results() if r.stage == "retrain"]
    assert result.score == result.score_before
    expected = keras_eds.apply_plan(model, found.get_best_plans()[0])
    got = found.get_best_models()[0]
    np.testing.assert_allclose(
        got.predict(val()[0], verbose=0), expected.predict(val()[0], verbose=0),
        atol=1e-6,
    )  # fmt: skip


# What may be given.


def as_tf_data(x, y, w=None):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y) if w is None else (x, y, w))


class Rows(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        part = slice(64 * index, 64 * index + 64)
        return {k: v[part] for k, v in self.x.items()}, self.y[part]


def as_torch(x, y):
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Pairs(Dataset):
        def __len__(self):
            return len(y)

        def __getitem__(self, row):
            return {k: torch.tensor(v[row]) for k, v in x.items()}, torch.tensor(y[row])

    return DataLoader(Pairs(), batch_size=64)


KINDS = {
    "dataset": lambda: {"x": as_tf_data(X, Y).batch(64)},
    "weighted dataset": lambda: {"x": as_tf_data(X, Y, np.ones(len(Y))).batch(64)},
    "endless dataset": lambda: {
        "x": as_tf_data(X, Y).batch(64).repeat(), "steps_per_epoch": 3
    },
    "PyDataset": lambda: {"x": Rows(X, Y)},
    "DataLoader": lambda: {"x": as_torch(X, Y)},
    "arrays and weights": lambda: {
        "x": X, "y": Y, "sample_weight": np.linspace(0, 1, len(Y))
    },
    "class weights": lambda: {"x": X, "y": Y, "class_weight": {0: 1.0, 1: 2.0}},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_data(tmp_path, kind):
    given = KINDS[kind]()
    found = search(tmp_path)
    others = {"validation_data": val(), "epochs": 1, "verbose": 0}
    found.search(**given, **others)
    assert [r.stage for r in found.results()] == ["pretrain", "probe", "retrain"]


@once
def test_validation_kinds_score_alike(tmp_path):
    scores = []
    x, y = val()
    weights = np.ones(len(y))
    for number, given in enumerate(
        [(x, y), (x, y, weights), as_tf_data(x, y).batch(32), Rows64(x, y)]
    ):
        found = search(tmp_path, project_name=str(number))
        found.search(X, Y, validation_data=given, **FIT)
        scores.append(found.results()[-1].score)
    assert scores == pytest.approx([scores[0]] * 4, abs=1e-6)


class Rows64(Rows):
    def __len__(self):
        return 2


@once
def test_validation_split_is_kerass(tmp_path):
    split = search(tmp_path, project_name="split")
    split.search(X, Y, validation_split=0.25, **FIT)
    first = {k: v[:192] for k, v in X.items()}
    last = {k: v[192:] for k, v in X.items()}
    given = search(tmp_path, project_name="given")
    given.search(first, Y[:192], validation_data=(last, Y[192:]), **FIT)
    expected = [r.score for r in given.results()]
    assert [r.score for r in split.results()] == pytest.approx(expected, abs=1e-6)


@once
def test_positional_arguments_and_single_callback(tmp_path):
    found = search(tmp_path)
    stop = keras.callbacks.EarlyStopping("val_auc", mode="max", patience=0)
    # x, y, batch_size, epochs, verbose, callbacks, validation_split
    found.search(X, Y, 64, 2, 0, stop, 0.25)
    assert len(found.results()) == 3


@once
@pytest.mark.parametrize("verbose", [0, 1, 2, "auto", True, False])
def test_verbose(tmp_path, verbose, capsys):
    run(tmp_path, fit={"verbose": verbose, "epochs": 1})
    printed = capsys.readouterr().out
    for stage in ("Stage 1/3", "Stage 2/3", "Stage 3/3", "50%", "left"):
        assert (stage in printed) == bool(verbose)
    assert bool(printed) == bool(verbose)


@once
def test_validation_frequency_does_not_warn(tmp_path):
    found = run(tmp_path, fit={"epochs": 3, "validation_freq": 2})
    assert len(found.results()) == 3


# What decides.


@once
@pytest.mark.parametrize(
    "objective, direction",
    [
        (None, "min"),
        ("val_loss", "min"),
        ("val_auc", "max"),
        (keras_tuner.Objective("val_auc", "max"), "max"),
        (keras_tuner.Objective("val_auc", "min"), "min"),
    ],
)
def test_objective_decides(tmp_path, objective, direction):
    found = run(tmp_path, budget=[0.6, 0.2], objective=objective, fit={"epochs": 1})
    results = [r for r in found.results() if r.stage == "retrain"]
    best = (max if direction == "max" else min)(results, key=lambda r: r.score)
    assert found.get_best_plans()[0] == best.plan
    for result in results:
        assert result.direction == direction
        kept = (max if direction == "max" else min)(result.score, result.score_before)
        assert result.score == kept


@once
def test_training_objective_needs_no_validation_data(tmp_path):
    found = search(tmp_path, objective="auc")
    found.search(X, Y, **FIT)
    score = found.results()[-1].score
    model = found.get_best_models()[0]
    values = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert values["auc"] == pytest.approx(score, abs=1e-6)


# Seeds.


@once
def test_seed_zero_is_kept_and_seeds_repeat(tmp_path):
    scores = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 5)):
        found = run(tmp_path, project_name=name, seed=seed)
        scores[name] = (found.get_best_plans()[0].digest(), found.results()[-1].score)
    assert scores["a"] == scores["b"] != scores["c"]
    state = json.loads((tmp_path / "a" / "oracle.json").read_text())
    assert state["eds_seed"] == 0
    assert search(tmp_path, project_name="a", seed=None).oracle.seed == 0
    with pytest.raises(
        keras_eds.errors.ProjectError, match="`seed` must be None or .* 0. Received"
    ):
        search(tmp_path, project_name="a", seed=2)


def test_same_seed_in_another_process(tmp_path):
    script = Path(__file__).with_name("child_search.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "child"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    there = json.loads(done.stdout.splitlines()[-1])
    found = run(tmp_path, budget=[0.5, 0.25])
    assert there["plans"] == [p.digest() for p in found.get_best_plans(2)]
    here = [r.score for r in found.results()]
    assert there["scores"] == pytest.approx(here, abs=1e-6)


# Callbacks.


class Recorder(keras.callbacks.Callback):
    """Counts what it is told; a copy tells its original's list."""

    def __init__(self):
        super().__init__()
        self.stage_name = ""
        self.ended, self.trained = [], []

    def __deepcopy__(self, memo):
        copy = Recorder()
        copy.trained = self.trained
        return copy

    def on_train_begin(self, logs=None):
        self.trained.append(self.stage_name)

    def on_stage_end(self, result):
        self.ended.append((result.index, result.stage))


def test_callbacks_are_copied_and_told_of_stages(tmp_path):
    recorder = Recorder()
    found = run(tmp_path, budget=[0.5, 0.1], fit={"callbacks": [recorder]})
    assert recorder.trained == ["0-pretrain", "2-50%", "3-10%"]
    expected = [(0, "pretrain"), (1, "probe"), (2, "retrain"), (3, "retrain")]
    assert recorder.ended == expected
    assert recorder.stage_name == ""
    # A finished search that is started again repeats nothing.
    again = search(tmp_path, budget=[0.5, 0.1])
    again.search(X, Y, validation_data=val(), **FIT, callbacks=[recorder])
    assert recorder.ended == expected and len(recorder.trained) == 3
    assert again.get_best_plans() == found.get_best_plans()


@once
def test_used_callback_does_not_drag_its_model_along(tmp_path):
    model, used = build(), keras.callbacks.EarlyStopping("val_auc", mode="max")
    model.fit(X, Y, validation_data=val(), **FIT, callbacks=[used])
    run(tmp_path, model, fit={"callbacks": [used]})
    assert used.model is model
    [copied] = copies_of(used)
    assert copied._model is None and copied.monitor == "val_auc"


def test_tensorboards_write_a_folder_a_stage(tmp_path):
    logs = tmp_path / "logs"
    callbacks = [EDSTensorBoard(logs)]
    if TF:
        callbacks.append(keras.callbacks.TensorBoard(logs / "keras"))
    run(tmp_path, budget=[0.5, 0.25], fit={"callbacks": callbacks, "epochs": 1})
    stages = {"0-pretrain", "2-50%", "3-25%"}
    assert stages <= {path.name for path in (logs / "eds").iterdir()}
    if TF:
        assert stages == {path.name for path in (logs / "keras").iterdir()}


# Models.


def test_mixed_precision_survives(tmp_path):
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = run(tmp_path)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        model = found.get_best_models()[0]
        assert model.get_layer("user_table").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy(old)


class OwnCompile(keras.Model):
    """A model whose `compile` takes what Keras's does not."""

    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(USERS, 8)
        self.head = keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs):
        return self.head(self.table(inputs["user"]))

    def compile(self, strength, **kwargs):
        super().compile(**kwargs)
        self.strength = strength


def own_compile():
    model = OwnCompile()
    loss, metrics = "binary_crossentropy", [keras.metrics.AUC(name="auc")]
    model.compile(0.5, optimizer="adam", loss=loss, metrics=metrics)
    return model


@once
def test_own_compile_needs_a_function(tmp_path):
    with pytest.raises(keras_eds.errors.FieldError, match="Pass a function"):
        search(tmp_path, own_compile())
    found = run(tmp_path, own_compile, fit={"epochs": 1})
    model = found.get_best_models()[0]
    assert model.strength == 0.5 and model.compiled
    score = model.evaluate(*val(), verbose=0, return_dict=True)["auc"]
    assert score == pytest.approx(found.results()[-1].score, abs=1e-6)


def with_lambda():
    model = build()
    inputs = model.input
    outputs = keras.layers.Lambda(lambda z: 0.1 + 0.8 * z)(model.output)
    model = keras.Model(inputs, outputs)
    auc = keras.metrics.AUC(name="auc")
    model.compile("adam", "binary_crossentropy", metrics=[auc], run_eagerly=True)
    return model


@once
@pytest.mark.parametrize("instance", [True, False])
def test_model_with_lambda_comes_back(tmp_path, instance):
    found = run(tmp_path, with_lambda() if instance else with_lambda)
    score = found.get_best_models()[0].evaluate(*val(), verbose=0, return_dict=True)
    assert score["auc"] == pytest.approx(found.results()[-1].score, abs=1e-6)


def test_best_model_is_an_ordinary_file(tmp_path):
    found = run(tmp_path, budget=0.3)
    model = found.get_best_models()[0]
    history = model.fit(X, Y, **FIT)
    assert np.isfinite(history.history["loss"]).all()
    model.save(tmp_path / "small.keras")
    code = (
        "import sys, numpy as np, keras, keras_eds\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "x = {k: np.arange(20, dtype='int32') for k in ('user', 'item')}\n"
        "np.save(sys.argv[2], model.predict(x, verbose=0))\n"
    )
    there = tmp_path / "there.npy"
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "small.keras", there], check=True
    )
    x = {k: np.arange(20, dtype="int32") for k in ("user", "item")}
    np.testing.assert_allclose(np.load(there), model.predict(x, verbose=0), atol=1e-6)


@once
def test_no_warning_of_ours(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(tmp_path)
    assert [w for w in caught if "keras_eds" in str(w.filename)] == []
