"""What a search with steps tells about them."""

from __future__ import annotations

from keras_eds.reporting.steps import cost_line, step_scalars
from keras_eds.results import StageResult

METRICS = {
    "val_auc": 0.7,
    "kept": 0.4,
    "quality": 0.5,
    "trainings": 0.25,
    "penalty": 0.1,
    "size/user": 3.0,
    "critic_loss/user": 0.2,
}


def stage(name, **options):
    named = {"method": "ciess", "objective": "val_auc", "direction": "max"}
    return StageResult(0, name, **named, score=0.7, seconds=2.0, **options)


def test_scalars_of_a_step():
    whole = {f"eds/step/{name}": METRICS[name] for name in list(METRICS)[1:]}
    assert step_scalars(stage("step", metrics=METRICS), True) == whole
    few = {name: value for name, value in whole.items() if name.count("/") == 2}
    assert step_scalars(stage("step", metrics=METRICS), False) == few
    assert step_scalars(stage("retrain", metrics=METRICS), True) == {}


def test_cost_in_trainings():
    stages = [stage("pretrain"), stage("probe")]
    assert cost_line(stages) == ""
    stages += [stage("step", metrics=METRICS)] * 3 + [stage("retrain")] * 2
    assert cost_line(stages) == (
        "Cost: 3.75 trainings of the full model (1 at first, 3 steps as long as 0.75 "
        "trainings, 2 retrainings), 14 s"
    )
