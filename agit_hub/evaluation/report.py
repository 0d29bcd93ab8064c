"""An evaluation on disk: figures as JSON, a table in Markdown, and a page of pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.evaluator import Evaluation
from agit_hub.evaluation.results import MetricResult
from agit_hub.evaluation.summary import PictureResult
from agit_hub.visualization import labelled_grid, stacked

JSON, TABLE, PICTURES = "evaluation.json", "evaluation.md", "evaluation.png"
_EACH = 4  # best, worst and random ones


@dataclass(frozen=True)
class Record:
    """What `evaluation.json` holds, as far as tables need it."""

    about: Mapping[str, Any]
    """Of the model: its name, which weights, and of a run its settings, steps, time and machine."""
    measurements: list[MetricResult]


def write_report(folder: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> None:
    """Write `evaluation.json`, `evaluation.md` and `evaluation.png` into a folder.

    Args:
        folder: Made if it is not there.
        evaluation: What was measured.
        about: What is known of the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "about": dict(about),
        "protocol": evaluation.protocol,
        "measurements": [asdict(measurement) for measurement in evaluation.measurements],
        "unreadable": evaluation.unreadable,
        "pictures": [
            {"name": r.name, "direction": r.direction}
            | {metric: round(value, 6) for metric, value in r.figures.items()}
            for r in evaluation.pictures
        ],
    }
    (folder / JSON).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    table = as_table(evaluation.measurements)
    (folder / TABLE).write_text(f"Protocol {evaluation.protocol}.\n\n{table}\n", encoding="utf-8")
    page_of_pictures(evaluation.pictures).save(folder / PICTURES)


def read_record(path: Path) -> Record:
    """Read an `evaluation.json`.

    Raises:
        EvaluationError: If it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measurements = [MetricResult(**entry) for entry in content["measurements"]]
        return Record(content["about"], measurements)
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise EvaluationError(f"{path} is no evaluation: {error!r}.") from error


def as_table(measurements: Sequence[MetricResult]) -> str:
    """The figures as a Markdown table, a row for each and a pair of columns for each direction."""
    directions = list(dict.fromkeys(m.direction for m in measurements))
    found = {(m.metric, m.direction): m for m in measurements}
    lines = [
        "| | " + " | ".join(f"{d} | floor | doing nothing" for d in directions) + " |",
        "|---" * (1 + 3 * len(directions)) + "|",
    ]
    for metric, title in {m.metric: m.title for m in measurements}.items():
        cells = [cell for d in directions for cell in _cells(found.get((metric, d)))]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page_of_pictures(results: Sequence[PictureResult]) -> Image.Image:
    """Best, worst and random pictures of each direction, by IoU or by likeness to the target."""
    directions = list(dict.fromkeys(r.direction for r in results))
    halves = [_chosen([r for r in results if r.direction == d]) for d in directions]
    return stacked(
        [
            _sheet(kind, [half[kind] for half in halves])
            for kind in halves[0]
            if all(half[kind] for half in halves)
        ]
    )


def _sheet(kind: str, halves: Sequence[Sequence[PictureResult]]) -> Image.Image:
    columns: list[str] = []
    for half in halves:
        source, _, target = half[0].direction.partition(" to ")
        headings = [f"{source}, {kind}", "attention", f"to {target}", "mask"]
        columns += [*headings[: len(half[0].shown)], ""]
    rows = [
        [picture for result in row for picture in result.shown]
        for row in zip(*halves, strict=False)
    ]
    return labelled_grid(columns[:-1], rows, tile=128)


def _chosen(results: Sequence[PictureResult]) -> dict[str, list[PictureResult]]:
    metric = (
        "attention_iou"
        if all("attention_iou" in r.figures for r in results)
        else "target_similarity"
    )
    ordered = sorted(results, key=lambda r: r.figures[metric], reverse=True)
    each = min(_EACH, max(1, len(ordered) // 3))
    rest = ordered[each : len(ordered) - each]
    drawn = np.random.default_rng(0).permutation(len(rest))[:each]
    return {
        "best": ordered[:each],
        "worst": ordered[len(ordered) - each :],
        "random": [rest[n] for n in drawn],
    }


def _cells(measurement: MetricResult | None) -> list[str]:
    if measurement is None:
        return ["", "", ""]
    error = measurement.standard_error
    value = f"{measurement.value:.4g}" + (f" ± {error:.2g}" if error is not None else "")
    others = (measurement.floor, measurement.ceiling)
    return [value, *("" if other is None else f"{other:.4g}" for other in others)]
