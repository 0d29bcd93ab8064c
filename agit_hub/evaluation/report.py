"""An evaluation on disk: results as JSON, as Markdown tables, and as a sheet of sample images."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agit_hub.atomic import write_bytes
from agit_hub.errors import EvaluationError
from agit_hub.evaluation.evaluator import Evaluation
from agit_hub.evaluation.results import MetricResult, results_tables
from agit_hub.evaluation.summary import ImageResult
from agit_hub.visualization import labelled_grid, stacked

JSON, TABLES, SHEET = "evaluation.json", "evaluation.md", "evaluation.png"
_ROWS = 4  # at most, of each of the best, worst and random images


@dataclass(frozen=True)
class Record:
    """The content of `evaluation.json` that tables need."""

    about: Mapping[str, Any]
    """The model's name and weights; for a run also its settings, steps, time and machine."""
    measurements: list[MetricResult]


def write_report(folder: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> None:
    """Write `evaluation.json`, `evaluation.md` and `evaluation.png` into a folder, created if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "about": dict(about),
        "protocol": evaluation.protocol,
        "measurements": [asdict(result) for result in evaluation.measurements],
        "unreadable": evaluation.unreadable,
        "notes": evaluation.notes,
        "images": [
            {"name": image.name, "direction": image.direction}
            | {metric: round(value, 6) for metric, value in image.metrics.items()}
            for image in evaluation.images
        ],
    }
    write_bytes(folder / JSON, (json.dumps(content, indent=1) + "\n").encode())
    tables = results_tables(evaluation.measurements)
    notes = "".join(f"\n{note}\n" for note in evaluation.notes)
    write_bytes(folder / TABLES, f"Protocol {evaluation.protocol}.\n{notes}\n{tables}\n".encode())
    sheet = io.BytesIO()
    sample_sheet(evaluation.images).save(sheet, format="PNG")
    write_bytes(folder / SHEET, sheet.getbuffer())


def read_record(path: Path) -> Record:
    """Read an `evaluation.json`.

    Raises:
        EvaluationError: If the file is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measurements = [MetricResult(**entry) for entry in content["measurements"]]
        return Record(content["about"], measurements)
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise EvaluationError(f"{path} is no evaluation: {error!r}.") from error


def sample_sheet(images: Sequence[ImageResult]) -> Image.Image:
    """Draw each direction's best, worst and random images, by attention IoU or target similarity."""
    directions = list(dict.fromkeys(image.direction for image in images))
    chosen = [_choose([i for i in images if i.direction == name]) for name in directions]
    return stacked(
        [
            _grid(kind, [direction[kind] for direction in chosen])
            for kind in chosen[0]
            if all(direction[kind] for direction in chosen)
        ]
    )


def _choose(images: Sequence[ImageResult]) -> dict[str, list[ImageResult]]:
    masked = all("attention_iou" in image.metrics for image in images)
    metric = "attention_iou" if masked else "target_similarity"
    ordered = sorted(images, key=lambda image: image.metrics[metric], reverse=True)
    count = min(_ROWS, max(1, len(ordered) // 3))
    rest = ordered[count : len(ordered) - count]
    random = np.random.default_rng(0).permutation(len(rest))[:count]
    return {
        "best": ordered[:count],
        "worst": ordered[len(ordered) - count :],
        "random": [rest[n] for n in random],
    }


def _grid(kind: str, directions: Sequence[Sequence[ImageResult]]) -> Image.Image:
    columns: list[str] = []
    for images in directions:
        headings = [f"{images[0].direction}, {kind}", "attention", "translation", "mask"]
        columns += [*headings[: len(images[0].thumbnails)], ""]
    rows = [
        [thumbnail for image in row for thumbnail in image.thumbnails]
        for row in zip(*directions, strict=False)
    ]
    return labelled_grid(columns[:-1], rows, tile=128)
