"""Resolves the model to evaluate: a run's last or best weights, a model folder, or a Hub repo."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agit_hub.errors import EvaluationError
from agit_hub.hub.card import shareable
from agit_hub.runs import RunFolder, read_run

BEST = "best"


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights are, and facts about it."""

    weights: str
    """A folder or a Hub repo."""
    about: Mapping[str, Any]
    """For reports: name and weights; for a run also its settings, steps, time and machine."""
    run: Path | None = None
    folder: Path | None = None
    """The run's folder for evaluations of these weights."""


def resolve_model(model: str, weights: str = "last") -> ModelSource:
    """Find a model's weights.

    Args:
        model: A run folder, a model folder, or a Hub repo.
        weights: Of a run: `last`, or `best`, those with the lowest KID in its validation.

    Raises:
        EvaluationError: If there are no such weights.
        RunFolderError: If a run holds no model yet.
    """
    if weights not in ("last", BEST):
        raise EvaluationError(f"weights is {weights!r}; expected last or {BEST}.")
    run_folder = RunFolder(model)
    folder = run_folder.path
    if not run_folder.exists:
        if weights == BEST:
            raise EvaluationError(f"{model} is not a run folder: only a run has {BEST} weights.")
        name = folder.resolve().name if folder.is_dir() else model
        return ModelSource(model, {"model": name, "weights": "as published"})
    run = read_run(folder)
    path = run.model if weights == "last" else run_folder.best
    if not path.is_dir():
        raise EvaluationError(
            f"{folder} has no {BEST} weights: only runs with validation (eval.steps) keep them."
        )
    steps, described = run.steps, "last"
    if weights == BEST:
        steps, described = int(run_folder.read_best()["step"]), "best on validation"
    about = {
        "model": folder.resolve().name,
        "weights": described,
        "steps": steps,
        "minutes": round(run.seconds / 60, 1),
        "machine": dict(run.machine),
        "settings": shareable(run.config),
    }
    return ModelSource(str(path), about, folder, run_folder.evaluation(weights))
