"""What is evaluated: a run's last or picked weights, a model's folder, or a repo of the Hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agit_hub.errors import EvaluationError
from agit_hub.hub.card import shareable
from agit_hub.runs import RunFolder, read_run

PICKED = "picked"


@dataclass(frozen=True)
class ModelSource:
    """A model, and what is known of it."""

    weights: str
    """A folder or a repo."""
    about: Mapping[str, Any]
    """For the report: its name and which weights; of a run its settings, steps, time and machine."""
    run: Path | None = None
    folder: Path | None = None
    """Where a run keeps such reports."""


def resolve_model(model: str, weights: str = "last") -> ModelSource:
    """Find what a person means by a model.

    Args:
        model: A run folder, a model folder, or a repo of the Hub.
        weights: Of a run: `last`, or `picked`, those that did best on its validation pictures.

    Raises:
        EvaluationError: If there are no such weights.
        RunFolderError: If a run holds no model yet.
    """
    if weights not in ("last", PICKED):
        raise EvaluationError(f"weights is {weights!r}; expected last or {PICKED}.")
    own = RunFolder(model)
    folder = own.path
    if not own.exists:
        if weights == PICKED:
            raise EvaluationError(
                f"{model} is no run folder: only a run has weights to pick among."
            )
        name = folder.resolve().name if folder.is_dir() else model
        return ModelSource(model, {"model": name, "weights": "as published"})
    run = read_run(folder)
    place = run.model if weights == "last" else own.picked
    if not place.is_dir():
        raise EvaluationError(
            f"{folder} has no picked weights: they are kept by a run that measures itself on its way "
            "(eval.steps)."
        )
    about = {
        "model": folder.resolve().name,
        "weights": "last" if weights == "last" else "picked on validation",
        "steps": run.steps if weights == "last" else int(own.read_picked()["step"]),
        "minutes": round(run.seconds / 60, 1),
        "machine": dict(run.machine),
        "settings": shareable(run.config),
    }
    return ModelSource(str(place), about, folder, own.evaluation(weights))
