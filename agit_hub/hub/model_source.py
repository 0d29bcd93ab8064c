"""Resolves the model to evaluate: a run's last or best weights, a model folder, or a Hub repo."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agit_hub.environment import expand_home
from agit_hub.errors import EvaluationError
from agit_hub.hub.card import shareable
from agit_hub.models.location import find_model
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
    is_last: bool = False
    """Whether these are a run's last weights."""


def resolve_model(model: str, weights: str = "last") -> ModelSource:
    """Find a model's weights.

    Args:
        model: A run folder, a model's folder or weights file (in a run, or on its own), or a Hub repo.
        weights: Of a run: `last`, or `best`, those with the lowest KID in its validation; a run's folder
            `best` means the latter.

    Raises:
        EvaluationError: If there are no such weights.
        RunFolderError: If a run holds no model yet.
    """
    if weights not in ("last", BEST):
        raise EvaluationError(f"weights is {weights!r}; expected last or {BEST}.")
    run_folder = RunFolder.containing(model)
    if run_folder is None:
        files = find_model(model)
        if weights == BEST:
            raise EvaluationError(f"{model} is not a run folder: only a run has {BEST} weights.")
        name = model if files is None else files.name
        return ModelSource(model, {"model": name, "weights": "as published"})
    folder = run_folder.path
    named = expand_home(model).absolute()
    if run_folder.best.absolute() in (named, named.parent):
        weights = BEST
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
    return ModelSource(
        str(path), about, folder, run_folder.evaluation(weights), is_last=weights == "last"
    )
