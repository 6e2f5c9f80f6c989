"""What the steps of a search tried, and what the search cost."""

from __future__ import annotations

from collections.abc import Sequence

from keras_eds.results import StageResult

# Written under their own names, whatever the number of fields.
_OF_ALL = ("kept", "quality", "trainings", "penalty")


def step_scalars(result: StageResult, single_fields: bool) -> dict[str, float]:
    """The figures of a step, by the names that they have in TensorBoard.

    Args:
        result: A step; of any other stage nothing is given.
        single_fields: Whether to give those of single fields, `<figure>/<field>`:
            size, bytes, quality, reward, critic_loss, actor_loss.
    """
    if result.stage != "step":
        return {}
    return {
        f"eds/step/{name}": float(value)
        for name, value in result.metrics.items()
        if name in _OF_ALL or (single_fields and "/" in name)
    }


def cost_line(results: Sequence[StageResult]) -> str:
    """The cost of a search with steps, in trainings of the full model; else nothing.

    A retraining counts as one, though early stopping may have ended it sooner.
    """
    stages = [result.stage for result in results]
    steps = [r.metrics["trainings"] for r in results if r.stage == "step"]
    if not steps:
        return ""
    first, last = stages.count("pretrain"), stages.count("retrain")
    tried = sum(steps)
    seconds = sum(result.seconds for result in results)
    return (
        f"Cost: {first + tried + last:.2f} trainings of the full model ({first} at "
        f"first, {len(steps)} steps as long as {tried:.2f} trainings, {last} "
        f"retrainings), {seconds:.0f} s"
    )
