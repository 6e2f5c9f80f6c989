"""One budget's scores: what a plot of scores against sizes is made of."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from keras_eds.field import total_bytes
from keras_eds.plan import DimensionPlan
from keras_eds.results import StageResult


@dataclass(frozen=True)
class ScorePoint:
    """The scores of one retrained plan.

    Args:
        index: Place of the stage in the search.
        label: The budget as a short text.
        share: Kept bytes, as a share of the full tables' bytes.
        score: The score after retraining.
        score_before: The score before any retraining.
        full_score: The full-size model's score.
    """

    index: int
    label: str
    share: float
    score: float
    score_before: float | None = None
    full_score: float | None = None

    @classmethod
    def of_result(cls, result: StageResult) -> ScorePoint | None:
        """The point of a retraining stage, `None` of any other."""
        if result.plan is None:
            return None
        share = kept_share(result.plan)
        return cls(
            index=result.index,
            label=f"{share:.3g}" if result.budget is None else result.budget.label,
            share=share,
            score=float(result.score),
            score_before=_float(result.score_before),
            full_score=_float(result.full_score),
        )


def kept_share(plan: DimensionPlan) -> float:
    """Bytes that `plan` keeps, as a share of the full tables' bytes."""
    return plan.num_bytes() / max(1, total_bytes(p.field for p in plan))


def best_result(results: Sequence[StageResult]) -> StageResult | None:
    """The retraining stage with the best score; of equals, the smallest."""
    candidates = [r for r in results if r.plan is not None and math.isfinite(r.score)]

    def rank(result: StageResult) -> tuple[float, int]:
        assert result.plan is not None
        better = -result.score if result.direction == "max" else result.score
        return better, result.plan.num_bytes()

    return min(candidates, key=rank, default=None)


def write_points(path: str, points: Iterable[ScorePoint]) -> None:
    """Writes points as JSON, all or nothing, wherever TensorFlow can write."""
    import tensorflow as tf

    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path + ".part", "w") as file:
        file.write(json.dumps([asdict(point) for point in points]))
    tf.io.gfile.rename(path + ".part", path, overwrite=True)


def read_points(path: str) -> list[ScorePoint]:
    """Reads what `write_points` wrote; nothing if the file cannot be read."""
    import tensorflow as tf

    if not tf.io.gfile.exists(path):
        return []
    try:
        with tf.io.gfile.GFile(path) as file:
            return [ScorePoint(**entry) for entry in json.loads(file.read())]
    except (ValueError, TypeError):
        return []  # A picture's history is not worth stopping a search.


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
