"""A metric's value with everything needed to interpret it; results as JSON and as Markdown tables."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agit_hub.atomic import write_bytes

FILE = "measurements.json"
TOPICS: dict[str, tuple[str, ...]] = {
    "Translation": ("kid", "kid_foreground", "target_accuracy", "fid", "cycle_error"),
    "Attention": (
        *("attention_iou", "attention_iou_best", "attention_best_threshold", "attention_area"),
        *("attention_average_precision", "attention_pointing"),
    ),
    "Background": (
        *("kid_background", "background_change", "identical"),
        *("background_psnr", "background_ssim"),
    ),
}
"""Metrics by the topic of their table, in the order of its rows or columns."""


@dataclass(frozen=True)
class MetricResult:
    """One metric's value for one model."""

    metric: str
    """Its short name, such as `attention_iou`."""
    title: str
    """Its name in reports, with its unit and which way is better."""
    value: float
    dataset: str
    split: str
    protocol: str
    """How it was measured, in enough detail to repeat it."""
    direction: str
    """`horse to zebra`."""
    reference: float | None = None
    """The value of real images against real ones."""
    baseline: float | None = None
    """The value without a model: the input as output (identity), or attention of one everywhere."""
    std: float | None = None
    """Standard deviation, over KID's subsets or over images."""
    standard_error: float | None = None
    """Of the value over test sets: by bootstrap, or std over the root of the number of images."""


def write_results(folder: Path, results: Sequence[MetricResult]) -> Path:
    """Write a model's results into a run's folder."""
    path = folder / FILE
    text = json.dumps([asdict(result) for result in results], indent=2) + "\n"
    write_bytes(path, text.encode())
    return path


def read_results(folder: Path) -> list[MetricResult]:
    """Read the results in a run's folder; an empty list if it was not evaluated.

    Raises:
        ValueError: If the file does not hold results.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        return [MetricResult(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no measurements: {error}") from error


def results_tables(results: Sequence[MetricResult]) -> str:
    """Format results as Markdown: a table for each topic, a row for each metric and direction."""
    topics = dict(TOPICS)
    known = {metric for metrics in topics.values() for metric in metrics}
    topics["Other"] = tuple(dict.fromkeys(r.metric for r in results if r.metric not in known))
    tables = []
    for topic, metrics in topics.items():
        rows = [result for metric in metrics for result in results if result.metric == metric]
        if rows:
            head = (topic, "direction", "value", "reference", "baseline")
            tables.append(markdown_table(head, map(result_cells, rows)))
    return "\n\n".join(tables)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def result_cells(result: MetricResult) -> list[str]:
    """Return a table's row: title, direction, value, reference and baseline."""
    error = result.standard_error
    value = f"{result.value:.4g}" + (f" ± {error:.2g}" if error is not None else "")
    others = ("" if v is None else f"{v:.4g}" for v in (result.reference, result.baseline))
    return [result.title, result.direction, value, *others]
