"""What one stage of a search found, as reports read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from keras_eds.budget import Budget
from keras_eds.plan import DimensionPlan

StageName = Literal["pretrain", "probe", "learn", "step", "retrain"]


@dataclass(frozen=True)
class StageResult:
    """The outcome of one stage.

    Args:
        index: Place of the stage in the search, from 0.
        stage: `"pretrain"`, `"probe"`, `"learn"`, `"step"` or `"retrain"`.
        method: Name of the method, as in `"sseds"`.
        objective: Name of the score, as in `"val_auc"`.
        direction: `"max"` or `"min"`: which scores are better.
        score: The stage's score; of a probe, the full-size model's, which is not
            trained where ids are only counted; of learning and of a step, the
            masked model's.
        seconds: What the stage took.
        budget: The budget that the stage is for (retraining only).
        plan: The plan that the stage trained (retraining only).
        score_before: The score before any retraining.
        full_score: The full-size model's score.
        saliency: Each field's share of all saliency, adding up to 1.
        metrics: Every metric that the stage measured. Of a step also `kept`, the
            share of all table values that its masks kept, `quality`, the mean
            score of an id, `trainings`, its length in trainings of the full model,
            and by field `size/<field>`, `bytes/<field>` and what the method knows.
        settings: The method's settings for the stage.
    """

    index: int
    stage: StageName
    method: str
    objective: str
    direction: Literal["max", "min"]
    score: float
    seconds: float
    budget: Budget | None = None
    plan: DimensionPlan | None = None
    score_before: float | None = None
    full_score: float | None = None
    saliency: Mapping[str, float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
