from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest
from search_setup import FIT, ITEMS, USERS, build, data, once, same, snapshot
from search_setup import validation as val

import keras_eds
from keras_eds.errors import PlanError, StageError
from keras_eds.tuners import EDSHyperModel, EDSOracle, SSEDSOracle

X, Y = data()
# KerasTuner loads weights into a model whose optimizer is not built yet.
pytestmark = pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")


def tuner(tmp_path, model, oracle, **options):
    hypermodel = EDSHyperModel(model)
    fields = keras_eds.find_fields(hypermodel.source.example)
    return keras_tuner.Tuner(
        hypermodel=hypermodel, oracle=oracle(fields), directory=tmp_path, **options
    )


def two(fields):
    return SSEDSOracle(fields, [0.5, 0.25], "val_auc", seed=3, basis="columns")


@pytest.mark.parametrize("instance", [True, False])
def test_plain_tuner_runs_every_stage(tmp_path, instance):
    model = build()
    before = snapshot(model)
    found = tuner(tmp_path, model if instance else build, two)
    found.search(X, Y, validation_data=val(), **FIT)
    stages = [
        t.hyperparameters.values["eds/stage"] for t in found.oracle.trials.values()
    ]
    assert stages == ["pretrain", "probe", "retrain", "retrain"]
    models, trials = found.get_best_models(2), found.oracle.get_best_trials(2)
    assert trials[0].score >= trials[1].score
    for small, trial in zip(models, trials, strict=True):
        score = small.evaluate(*val(), verbose=0, return_dict=True)["auc"]
        assert score == pytest.approx(trial.score, abs=1e-6)
        limit = 4 * 8 * (USERS + ITEMS) * (0.5 if trial.trial_id == "0002" else 0.25)
        kept = [
            small.get_layer(name).variables for name in ("user_table", "item_table")
        ]
        count = sum(4 * int(np.prod(v.shape)) for group in kept for v in group)
        assert count == trial.hyperparameters.values["eds/bytes"] <= limit
    assert same(before, snapshot(model))


@once
def test_plain_tuner_equals_the_search(tmp_path):
    found = tuner(tmp_path, build, two)
    found.search(X, Y, validation_data=val(), **FIT)
    method = keras_eds.methods.SSEDS(basis="columns")
    ours = keras_eds.EDSSearch(
        build, [0.5, 0.25], method, "val_auc", seed=3, directory=tmp_path / "ours"
    )
    ours.search(X, Y, validation_data=val(), **FIT)
    scores = [trial.score for trial in found.oracle.trials.values()]
    assert scores == pytest.approx([r.score for r in ours.results()], abs=1e-6)
    plans = [found.oracle.plan_for(b) for b in (0.5, 0.25)]
    assert plans == [ours.plan_for(b) for b in (0.5, 0.25)]


@once
def test_any_method_and_the_policy_of_the_user(tmp_path):
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = tuner(
            tmp_path, build, lambda fields: EDSOracle(fields, 0.5, "uniform", "val_auc")
        )
        found.search(X, Y, validation_data=val(), **FIT)
        [small] = found.get_best_models(1)
        assert small.get_layer("user_table").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy(old)


@once
def test_resumed_plain_tuner_repeats_nothing(tmp_path):
    first = tuner(tmp_path, build, two)
    first.search(X, Y, validation_data=val(), **FIT)
    moved = tmp_path / "moved"
    (tmp_path / "untitled_project").rename(tmp_path / "other")
    moved.mkdir()
    (tmp_path / "other").rename(moved / "untitled_project")
    again = tuner(moved, build, two)
    again.search(X, Y, validation_data=val(), **FIT)
    assert len(again.oracle.trials) == 4
    score = again.get_best_models(1)[0].evaluate(*val(), verbose=0)[1]
    assert score == pytest.approx(again.oracle.get_best_trials(1)[0].score, abs=1e-6)


@once
def test_what_keeps_an_oracle_from_going_on_is_raised(tmp_path):
    """A hypermodel that runs no stages measures nothing."""

    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return build()

    fields = keras_eds.find_fields(build())
    oracle = SSEDSOracle(fields, 0.5, "val_auc", trained=True, seed=1)
    found = keras_tuner.Tuner(hypermodel=Own(), oracle=oracle, directory=tmp_path)
    with pytest.raises(StageError, match="measured saliency"):
        found.search(X, Y, validation_data=val(), **FIT)
    # KerasTuner's lock is free again, and what was corrected is not raised again.
    with pytest.raises(StageError, match="measured saliency"):
        found.oracle.create_trial("another")
    oracle.method = keras_eds.methods.Uniform()
    assert oracle.create_trial("another").status == "RUNNING"


def test_a_plan_beyond_its_budget_is_never_trained():
    class Greedy(keras_eds.methods.Uniform):
        def plan(self, state, budget, draw=0):
            return super().plan(state, keras_eds.Budget(fraction=0.9), draw)

    fields = keras_eds.find_fields(build())
    oracle = EDSOracle(fields, 0.5, Greedy(), "val_auc", trained=True, seed=1)
    assert oracle.populate_space("0")["status"] == "STOPPED"
    with pytest.raises(PlanError, match="A plan for 50% must fit it"):
        raise oracle.error
    with pytest.raises(PlanError, match="A plan for 50% must fit it"):
        oracle.plan_for(0.5)
