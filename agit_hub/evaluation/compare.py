"""Compares the evaluations of several runs: how the runs differ, and their metrics by topic."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.report import JSON, Record, read_record
from agit_hub.evaluation.results import TOPICS, markdown_table
from agit_hub.evaluation.summary import OWN
from agit_hub.runs import RunFolder, flatten

# The metrics shown, at most three of a topic, as far as they were measured.
METRICS = {
    "kid": "KID x100",
    "kid_foreground": "foreground KID x100",
    "target_accuracy": "target accuracy",
    "attention_iou": "IoU at 0.5",
    "attention_iou_best": "best IoU",
    "attention_area": "area",
    "kid_background": "background KID x100",
    "background_change": "background change",
    "identical": "identical",
}
_KIDS = {"kid", "kid_foreground", "kid_background"}
# Settings that differ between runs of one recipe.
_IGNORED = ("train.seed",)
_SAME = "the same recipe"
# If more settings differ, a run's name says more than they do.
_MOST_NAMED = 5
_OWN_THRESHOLD = re.compile(rf"\b[\d.e-]+{re.escape(OWN)}")


class Row(NamedTuple):
    """A run, or the mean of several that differ only in their seed."""

    name: str
    seed: str
    weights: str
    steps: str
    minutes: str
    metrics: dict[tuple[str, str], str]
    """By metric and direction."""


def find_records(paths: Sequence[Path]) -> list[Record]:
    """Read the evaluations in run folders or `evaluation.json` files.

    Raises:
        EvaluationError: If a path holds none.
    """
    records = []
    for path in paths:
        run = RunFolder.containing(path)
        path = path if run is None else run.path
        # The last weights before the best.
        found = path.glob(f"evaluation/*/{JSON}") if path.is_dir() else [path]
        files = sorted(found, reverse=True)
        if not files:
            raise EvaluationError(
                f"{path} holds no evaluation yet: agit evaluate --model {path} --source ... --target ..."
            )
        records += [read_record(file) for file in files]
    return records


def compare(records: Sequence[Record]) -> str:
    """Format evaluations as Markdown: a table of the runs, and one for each topic and direction.

    Tables have at most five columns, a row for each run, and one for the mean over a recipe's seeds.

    Raises:
        EvaluationError: If they were measured on different images or by different protocols.
    """
    _check_comparable(records)
    rows = [row for name, group in _recipes(records).items() for row in _rows(name, group)]
    runs = [row[:5] for row in rows if not row.seed.startswith("mean")]
    blocks = [markdown_table(("run", "seed", "weights", "steps", "minutes"), runs)]
    several = len({row.weights for row in rows}) > 1
    measured = {(m.metric, m.direction): m for record in records for m in record.measurements}
    for topic, names in TOPICS.items():
        for direction in dict.fromkeys(direction for _, direction in measured):
            columns = [
                (name, direction)
                for name in names
                if name in METRICS and any(metric == name for metric, _ in measured)
            ]
            if not any(column in measured for column in columns):
                continue
            head = ("run", "seed", *(METRICS[metric] for metric, _ in columns))
            lines = [
                (
                    f"{row.name}, {row.weights}" if several and row.weights else row.name,
                    row.seed,
                    *(row.metrics.get(column, "") for column in columns),
                )
                for row in rows
            ]
            for field in ("baseline", "reference"):
                bounds = [_bound(records, column, field) for column in columns]
                if any(bounds):
                    lines.append((f"*{field}*", "", *bounds))
            blocks.append(f"{topic}, {direction}:\n\n{markdown_table(head, lines)}")
    return "\n\n".join(blocks)


def _rows(name: str, group: Sequence[Record]) -> Iterator[Row]:
    for record in group:
        about, minutes = record.about, record.about.get("minutes")
        yield Row(
            name,
            str(about.get("settings", {}).get("train", {}).get("seed", "")),
            str(about.get("weights", "")),
            str(about.get("steps", "")),
            "" if minutes is None else f"{minutes:.0f}",
            {(m.metric, m.direction): _format(m.metric, m.value) for m in record.measurements},
        )
    for weights in dict.fromkeys(record.about.get("weights") for record in group):
        seeds = [record for record in group if record.about.get("weights") == weights]
        if len(seeds) > 1:
            mean = f"mean of {len(seeds)}"
            yield Row(f"**{name}**", mean, str(weights or ""), "", "", _means(seeds))


def _means(group: Sequence[Record]) -> dict[tuple[str, str], str]:
    values: dict[tuple[str, str], list[float]] = {}
    for record in group:
        for m in record.measurements:
            values.setdefault((m.metric, m.direction), []).append(m.value)
    return {
        (
            metric,
            direction,
        ): f"**{_format(metric, fmean(found))}** ± {_format(metric, stdev(found))}"
        for (metric, direction), found in values.items()
        if len(found) == len(group)
    }


def _format(metric: str, value: float) -> str:
    return f"{value * 100:.2f}" if metric in _KIDS else f"{value:.3f}"


def _bound(records: Sequence[Record], column: tuple[str, str], field: str) -> str:
    for record in records:
        for m in record.measurements:
            value = getattr(m, field)
            if (m.metric, m.direction) == column and value is not None:
                return _format(m.metric, value)
    return ""


def _recipes(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Group runs whose settings differ at most in the seed, named by what sets them apart."""
    recipes = []
    for record in records:
        settings = flatten(record.about.get("settings", {}))
        recipes.append({key: v for key, v in settings.items() if key not in _IGNORED})
    known = [settings for settings in recipes if settings]  # published models have none
    differing = sorted(
        {
            key
            for settings in known
            for key in settings
            if any(other.get(key) != settings[key] for other in known)
        }
    )
    groups: dict[str, list[Record]] = {}
    for record, settings in zip(records, recipes, strict=True):
        name = record.about.get("name")
        if not name and settings and len(differing) > _MOST_NAMED:
            name = records[recipes.index(settings)].about.get("model")  # that of its first seed
        elif not name and settings:
            name = ", ".join(f"{key} {settings.get(key)}" for key in differing) or _SAME
        groups.setdefault(str(name or record.about.get("model", "")), []).append(record)
    single = {str(record.about.get("model", "")) for record in groups.get(_SAME, ())}
    if len(single) == 1:  # nothing sets this run apart
        groups = {(single.copy().pop() if n == _SAME else n): g for n, g in groups.items()}
    return groups


def _check_comparable(records: Sequence[Record]) -> None:
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for record in records:
        for m in record.measurements:
            # The threshold that a model comes with is a part of it.
            protocol = _OWN_THRESHOLD.sub(f"threshold{OWN}", m.protocol)
            conditions = (f"{m.dataset}, {m.split}", protocol)
            expected = first.setdefault((m.metric, m.direction), conditions)
            if expected != conditions:
                raise EvaluationError(
                    f"{record.about.get('model')} was measured on {conditions[0]} by "
                    f"{conditions[1]!r}, and others on {expected[0]} by {expected[1]!r}: evaluate all "
                    "of them alike."
                )
