"""What a run folder says of the run: settings, curve, machine, figures, pictures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agit_hub.errors import RunFolderError
from agit_hub.evaluation.results import MetricResult, read_results


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it."""

    folder: Path
    config: Mapping[str, Any]
    """Of `config.yaml`: sections `model`, `data`, `train`, ..."""
    curve: list[Mapping[str, float]]
    """Of `metrics.jsonl`: a line for each log step."""
    machine: Mapping[str, Any]
    """Of `run.json`: device, libraries, number of pictures; empty for a run that did not write it."""
    measurements: list[MetricResult]

    @property
    def model(self) -> Path:
        """The folder of the published networks."""
        return self.folder / "model"

    @property
    def labels(self) -> tuple[str, str]:
        """(source_label, target_label)."""
        model = self.config["model"]
        return model["source_label"], model["target_label"]

    @property
    def grid(self) -> Path | None:
        """The newest sample grid."""
        found = sorted((self.folder / "samples").glob("step-*.png"))
        return found[-1] if found else None

    @property
    def steps(self) -> int:
        """Optimiser steps, as far as they were logged."""
        return int(self.curve[-1]["step"]) if self.curve else 0

    @property
    def seconds(self) -> float:
        """Time that the logged steps took."""
        train = self.config["train"]
        processes = self.machine.get("processes", 1)
        pictures = 2 * train["batch_size"] * train["gradient_accumulation_steps"] * processes
        before, total = 0, 0.0
        for line in self.curve:
            total += (line["step"] - before) * pictures / line["images_per_second"]
            before = int(line["step"])
        return total


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        RunFolderError: If it is none, or holds no model yet.
    """
    config = folder / "config.yaml"
    if not config.is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no config.yaml.")
    if not (folder / "model" / "model.safetensors").is_file():
        raise RunFolderError(
            f"{folder} holds no model yet: one is written at the first checkpoint "
            "(train.checkpoint_every)."
        )
    machine = folder / "run.json"
    try:
        measurements = read_results(folder)
    except ValueError as error:
        raise RunFolderError(str(error)) from error
    return RunRecord(
        folder,
        yaml.safe_load(config.read_text(encoding="utf-8")),
        _read_lines(folder / "metrics.jsonl"),
        json.loads(machine.read_text(encoding="utf-8")) if machine.is_file() else {},
        measurements,
    )


def _read_lines(path: Path) -> list[Mapping[str, float]]:
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # one that a crash cut short
            continue
    return lines
