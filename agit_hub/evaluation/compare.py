"""Evaluations of several runs in one table: what differs between them, and their figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.report import JSON, Record, read_record

# What is shown of a run unless asked otherwise, as far as it was measured.
METRICS = {
    "kid": "KID x100",
    "kid_foreground": "foreground KID x100",
    "kid_background": "background KID x100",
    "attention_iou": "IoU at 0.5",
    "attention_iou_best": "best IoU",
    "background_change": "background change",
    "identical": "identical",
    "attention_area": "area",
    "taken_for_target": "taken for target",
}
_HUNDREDFOLD = {"kid", "kid_foreground", "kid_background"}
# What tells runs apart and is no setting of the method.
_BESIDE = ("train.seed",)


class Row(NamedTuple):
    """A run, or several that differ in their seed alone."""

    name: str
    seeds: str
    weights: str
    steps: str
    minutes: str
    figures: dict[tuple[str, str], str]
    """By metric and direction."""


def find_records(paths: Sequence[Path]) -> list[Record]:
    """The evaluations that paths mean: run folders, or evaluations' JSON files.

    Raises:
        EvaluationError: If one of them holds none.
    """
    records = []
    for path in paths:
        files = sorted(path.glob(f"evaluation/*/{JSON}")) if path.is_dir() else [path]
        if not files:
            raise EvaluationError(
                f"{path} holds no evaluation yet: agit evaluate --model {path} --source ... --target ..."
            )
        records += [read_record(file) for file in files]
    return records


def compare(records: Sequence[Record]) -> str:
    """The evaluations as a Markdown table: a row for each, and one for the mean of each recipe's seeds.

    Raises:
        EvaluationError: If they were measured on different pictures or by different protocols.
    """
    _check_comparable(records)
    recipes = _recipes(records)
    directions = list(dict.fromkeys(m.direction for r in records for m in r.measurements))
    there = {m.metric for record in records for m in record.measurements}
    metrics = [metric for metric in METRICS if metric in there]
    columns = [(metric, direction) for metric in metrics for direction in directions]
    heads = [f"{METRICS[metric]}, {direction}" for metric, direction in columns]
    fixed = ["run", "seed", "weights", "steps", "minutes"]
    lines = [_line([*fixed, *heads]), "|---" * (len(fixed) + len(heads)) + "|"]
    for name, group in recipes.items():
        for row in _rows(name, group):
            cells = [row.figures.get(column, "") for column in columns]
            lines.append(_line([row.name, row.seeds, row.weights, row.steps, row.minutes, *cells]))
    lines += [
        _line([what, "", "", "", "", *(_yardstick(records, column, field) for column in columns)])
        for what, field in (("*doing nothing*", "ceiling"), ("*floor*", "floor"))
    ]
    return "\n".join(lines)


def _rows(name: str, group: Sequence[Record]) -> Iterator[Row]:
    for record in group:
        about = record.about
        figures = {(m.metric, m.direction): _shown(m.metric, m.value) for m in record.measurements}
        minutes = about.get("minutes")
        yield Row(
            name,
            str(about.get("settings", {}).get("train", {}).get("seed", "")),
            str(about.get("weights", "")),
            str(about.get("steps", "")),
            "" if minutes is None else f"{minutes:.0f}",
            figures,
        )
    for weights in dict.fromkeys(record.about.get("weights") for record in group):
        same = [record for record in group if record.about.get("weights") == weights]
        if len(same) > 1:
            yield Row(
                f"**{name}**", f"mean of {len(same)}", str(weights or ""), "", "", _means(same)
            )


def _means(group: Sequence[Record]) -> dict[tuple[str, str], str]:
    values: dict[tuple[str, str], list[float]] = {}
    for record in group:
        for m in record.measurements:
            values.setdefault((m.metric, m.direction), []).append(m.value)
    return {
        (metric, direction): f"**{_shown(metric, fmean(found))}** ± {_shown(metric, stdev(found))}"
        for (metric, direction), found in values.items()
        if len(found) == len(group)
    }


def _shown(metric: str, value: float) -> str:
    return f"{value * 100:.2f}" if metric in _HUNDREDFOLD else f"{value:.3f}"


def _yardstick(records: Sequence[Record], column: tuple[str, str], field: str) -> str:
    for record in records:
        for m in record.measurements:
            value = getattr(m, field)
            if (m.metric, m.direction) == column and value is not None:
                return _shown(m.metric, value)
    return ""


def _recipes(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs of the same settings but for the seed, by what sets them apart from the others."""
    flat = [_recipe(record) for record in records]
    known = [settings for settings in flat if settings]
    keys = {
        key
        for settings in known
        for key in settings
        if any(other.get(key) != settings[key] for other in known)
    }
    groups: dict[str, list[Record]] = {}
    for record, settings in zip(records, flat, strict=True):
        told = ", ".join(f"{key} {settings.get(key)}" for key in sorted(keys))
        of_its_own = str(record.about.get("model", ""))
        recipe = told or "the same recipe" if settings else of_its_own
        groups.setdefault(str(record.about.get("name") or recipe), []).append(record)
    return {_called(name, group): group for name, group in groups.items()}


def _recipe(record: Record) -> dict[str, Any]:
    """A run's settings but for its seed, with dotted keys; of a published model none are known."""
    settings = _flat(record.about.get("settings", {}))
    return {key: value for key, value in settings.items() if key not in _BESIDE}


def _called(name: str, group: Sequence[Record]) -> str:
    """A recipe of a single run goes by the run's name where nothing sets it apart."""
    models = {str(record.about.get("model", "")) for record in group}
    return models.pop() if name == "the same recipe" and len(models) == 1 else name


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def _check_comparable(records: Sequence[Record]) -> None:
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for record in records:
        for m in record.measurements:
            if m.metric not in _HUNDREDFOLD:  # all of KID's kinds
                continue
            measured = (f"{m.dataset}, {m.split}", m.protocol)
            before = seen.setdefault((m.metric, m.direction), measured)
            if before != measured:
                raise EvaluationError(
                    f"{record.about.get('model')} was measured on {measured[0]} by {measured[1]!r}, and "
                    f"others on {before[0]} by {before[1]!r}: evaluate all of them alike."
                )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
