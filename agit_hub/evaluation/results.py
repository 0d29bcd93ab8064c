"""A figure with everything that makes it mean something, and the file that holds a model's figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "measurements.json"


@dataclass(frozen=True)
class MetricResult:
    """One figure of one model."""

    metric: str
    """Its short name, such as `attention_iou`."""
    title: str
    """What it is, in words, with its unit and which way is better."""
    value: float
    dataset: str
    """What it was measured on."""
    split: str
    protocol: str
    """How, in a sentence that lets another repeat it."""
    direction: str
    """`horse to zebra`."""
    floor: float | None = None
    """What the best or no model would get: real pictures against real ones."""
    ceiling: float | None = None
    """What doing nothing gets: the input as output, or attention everywhere."""
    std: float | None = None
    """Standard deviation, over KID's subsets or over pictures."""
    standard_error: float | None = None
    """Of the value, had other pictures been drawn: by bootstrap, or std over the root of their number."""


def write_results(folder: Path, measurements: Sequence[MetricResult]) -> Path:
    """Write a model's figures into a run's folder."""
    path = folder / FILE
    text = json.dumps([asdict(measurement) for measurement in measurements], indent=2) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def read_results(folder: Path) -> list[MetricResult]:
    """The figures in a run's folder; none if it was not evaluated.

    Raises:
        ValueError: If the file is not what `write_results` writes.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        return [MetricResult(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no measurements: {error}") from error
