"""What a trial leaves on disk, and how a proposal travels in a trial.

Values of a trial must be small and plain; plans and measurements are files in
the trial's folder. Weights that several trials read are in the folder above.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_eds import archive
from keras_eds.budget import Budget
from keras_eds.errors import ProjectError
from keras_eds.id_quality import Qualities
from keras_eds.learned_sizes import LearnedSizes
from keras_eds.measurements import Measurements
from keras_eds.methods import Proposal
from keras_eds.plan import DimensionPlan


class TrialFiles:
    """The paths of one trial.

    Args:
        folder: The trial's folder, inside the project's.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.plan = self.folder / "plan.npz"
        self.measurements = self.folder / "measurements.npz"
        self.learned = self.folder / "learned.npz"
        self.qualities = self.folder / "qualities.npz"
        self.outcome = self.folder / "outcome.json"
        self.failure = self.folder / "failure.txt"
        self.before = self.folder / "before.weights.h5"
        self.best_epoch = self.folder / "best_epoch.weights.h5"
        self.checkpoint = self.folder / "checkpoint.weights.h5"
        self.model = self.folder / "model.keras"
        self.full_weights = self.folder.parent / "full.weights.h5"
        self.counted = self.folder.parent / "counted.npz"
        self.full_scores = self.folder.parent / "full_scores.json"
        self.initial_weights = self.folder.parent / "initial.weights.h5"

    def write_outcome(self, metrics: dict[str, Any], seconds: float) -> None:
        """Writes what a stage scored and how long it took."""
        text = json.dumps({**metrics, "seconds": seconds})
        archive.write_bytes(self.outcome, text.encode())

    def read_outcome(self) -> dict[str, Any]:
        """Reads what `write_outcome` wrote."""
        return read_json(self.outcome)

    def write_full_scores(self, scores: dict[str, float]) -> None:
        """Writes what the full model scored."""
        archive.write_bytes(self.full_scores, json.dumps(scores).encode())

    def read_full_scores(self) -> dict[str, float] | None:
        """What the full model scored, or None if it was not trained here."""
        return read_json(self.full_scores) if self.full_scores.exists() else None

    def read_learned(self) -> LearnedSizes | None:
        """What was learned about sizes, or None for any other stage."""
        return LearnedSizes.load(self.learned) if self.learned.exists() else None

    def read_qualities(self) -> Qualities | None:
        """How well ids were served, or None where no stage asked."""
        return Qualities.load(self.qualities) if self.qualities.exists() else None

    def learned_weights(self, moment: int) -> Path:
        """The weights at one of the moments at which sizes were taken down."""
        return self.folder.parent / f"learned_{moment}.weights.h5"

    def write_failure(self, text: str) -> None:
        """Writes why a stage failed, for the processes that did not see it."""
        archive.write_bytes(self.failure, text.encode())

    def read_failure(self) -> str:
        """What `write_failure` wrote."""
        return self.failure.read_text() if self.failure.exists() else "no reason."

    def read_measurements(self) -> Measurements | None:
        """What a probe measured, or None for any other stage."""
        if not self.measurements.exists():
            return None
        return Measurements.load(self.measurements)


def forget_full_model(project: Path) -> None:
    """Deletes what trials of a project share about the full model."""
    files = TrialFiles(project / "any")
    learned = project.glob("learned_*.weights.h5")
    full = (files.full_weights, files.full_scores, files.initial_weights)
    for path in (*full, *learned):
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
        ProjectError: If it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError) as error:
        raise ProjectError(
            f"`directory` must hold a whole project. Received: {str(path)!r}, which "
            "is missing or damaged. Restore it, or start again with overwrite=True."
        ) from error
    return content


def proposal_values(proposal: Proposal, files: TrialFiles) -> dict[str, Any]:
    """A proposal as values of a trial; its plan goes to the trial's folder."""
    values: dict[str, Any] = {
        "eds/stage": proposal.stage,
        "eds/settings": json.dumps(dict(proposal.settings)),
        "eds/folder": str(files.folder),
    }
    if proposal.plan is not None:
        proposal.plan.save(files.plan)
        values["eds/plan"] = proposal.plan.digest()
    if proposal.plan is not None and proposal.budget is not None:
        values["eds/budget"] = proposal.budget.label
        values["eds/limit"] = json.dumps(vars(proposal.budget))
        values["eds/parameters"] = proposal.plan.num_parameters()
        values["eds/bytes"] = proposal.plan.num_bytes()
    return values


def read_proposal(hp: Any, folder: str | Path | None = None) -> Proposal:
    """The proposal that a trial carries."""
    values = hp.values
    plan = budget = None
    if "eds/plan" in values:
        files = TrialFiles(folder or values["eds/folder"])
        plan = DimensionPlan.load(files.plan)
    if "eds/limit" in values:
        budget = Budget(**json.loads(values["eds/limit"]))
    return Proposal(
        values["eds/stage"], plan, budget, json.loads(values["eds/settings"])
    )
