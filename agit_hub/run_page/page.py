"""Collect what a run folder holds, and write its page."""

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite, nan
from pathlib import Path
from typing import Any

from PIL import Image

from agit_hub.atomic import write_bytes
from agit_hub.errors import RunFolderError
from agit_hub.evaluation.results import FILE as RESULTS_FILE
from agit_hub.evaluation.results import MetricResult, result_cells
from agit_hub.run_page.status import read_status
from agit_hub.runs import RunFolder, flatten

# Points of a curve; longer ones are averaged.
_MAX_POINTS = 400
# Of grids inside the page, in pixels of the longer side.
_EMBEDDED_SIZE = 1600
# The report of `agit evaluate`.
_REPORT = "evaluation.json"
_PLACEHOLDER = "{{data}}"
_TEMPLATE = Path(__file__).with_name("page.html")

# Title, names of the metrics of source and target, factor, and limits of the axis if they are fixed.
_Chart = tuple[str, tuple[str, ...], float, tuple[float, float] | None]
_CHARTS: tuple[_Chart, ...] = (
    (
        "Attention: mean of the maps",
        ("attention/source/mean", "attention/target/mean"),
        1,
        (0, 1),
    ),
    (
        "Attention: share of the pixels above the threshold (tau)",
        ("attention/source/area", "attention/target/area"),
        1,
        (0, 1),
    ),
    (
        "Attention: share of pixels near 0 or 1",
        ("attention/source/binary", "attention/target/binary"),
        1,
        (0, 1),
    ),
    (
        "Mean change by translation, of 255",
        ("attention/source/change", "attention/target/change"),
        127.5,
        None,
    ),
    ("KID x100 of validation, lower is better", ("eval/st/kid", "eval/ts/kid"), 100, None),
    ("Generators: adversarial loss", ("loss/adversarial_st", "loss/adversarial_ts"), 1, None),
    # A direction's discriminator judges the images of its target.
    ("Discriminators: loss", ("loss/discriminator_t", "loss/discriminator_s"), 1, None),
    ("Cycle consistency loss", ("loss/cycle_s", "loss/cycle_t"), 1, None),
    ("Structure loss", ("loss/structure_s", "loss/structure_t"), 1, None),
    ("Learning rate", ("learning_rate",), 1, None),
    ("Images per second", ("images_per_second",), 1, None),
)


def write_page(run: RunFolder) -> Path:
    """Write `index.html` of a run from what its folder holds, and return its path.

    Sample grids are read from the folder `samples` beside it; nothing is loaded from a network.

    Raises:
        RunFolderError: If it is not a run folder.
        ConfigError: If another version wrote it.
    """
    write_bytes(run.page_file, render_page(run).encode())
    return run.page_file


def render_page(run: RunFolder, settings: Mapping[str, Any] | None = None) -> str:
    """Return the page of a run as HTML.

    Args:
        run: The run.
        settings: Those to show, if the page is to be sent to somebody: the run's own name folders of this
            machine. The sample grids are then inside the page, as JPEG.

    Raises:
        RunFolderError: If it is not a run folder.
        ConfigError: If another version wrote it.
    """
    content = _collect(run, _linked if settings is None else _embedded)
    if settings is not None:
        content["settings"] = _as_texts(settings)
        content["status"]["message"] = content["status"]["message"].replace(
            str(run.path), content["name"]
        )
    data = json.dumps(content, ensure_ascii=True)
    # No text of a run can end the script element that holds it.
    data = data.replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace(_PLACEHOLDER, data)


def _collect(run: RunFolder, source_of: Callable[[Path], str]) -> dict[str, Any]:
    if not run.exists:
        raise RunFolderError(f"{run.path} is not a run folder: it has no {run.config_file.name}.")
    config, metrics, status = run.read_config(), run.read_metrics(), read_status(run)
    source, target = config["model"]["source_label"], config["model"]["target_label"]
    names = [f"{source} → {target}", f"{target} → {source}"]
    # In a run that begins switched there is nothing to mark.
    after = [int(line["step"]) for line in metrics if line.get("switched")]
    switched = after[0] if 0 < len(after) < len(metrics) else None
    grids = sorted(run.samples.glob("step-*.png"))
    return {
        "name": run.path.absolute().name,
        "directions": names,
        "status": asdict(status) | {"total_steps": status.total_steps or _total(config)},
        "switched": switched,
        "averaged": config["train"].get("ema_decay") or None,
        "charts": list(_charts(metrics, names)),
        "grids": [{"step": int(g.stem[5:]), "source": source_of(g)} for g in grids],
        "results": list(_results(run)),
        "settings": _as_texts(config),
        "machine": _as_texts(_info(run)),
    }


def _charts(metrics: Sequence[Mapping[str, float]], names: Sequence[str]) -> Iterator[Any]:
    for title, keys, factor, limits in _CHARTS:
        # JSON has no number for a loss that was not finite, and a curve has no place for it.
        found = [
            [(line["step"], line[key]) for line in metrics if isfinite(line.get(key, nan))]
            for key in keys
        ]
        if not any(value for points in found for _, value in points):
            continue  # not measured in this run, or a loss that it does not have
        labels = names if len(keys) > 1 else [title]
        series = [
            {"name": name, "points": [[s, v * factor] for s, v in _averaged(points)]}
            for name, points in zip(labels, found, strict=True)
        ]
        yield {"title": title, "limits": limits, "series": series}


def _averaged(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield means of neighbouring points; each at its last step, so that the curve ends there."""
    size = -(-len(points) // _MAX_POINTS) or 1
    for end in range(len(points), 0, -size):
        group = points[max(0, end - size) : end]
        yield group[-1][0], sum(value for _, value in group) / len(group)


def _results(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield the tables of each evaluation, and of the last validation."""
    for title, file in (
        ("Evaluation of the weights of lowest KID", run.evaluation("best") / _REPORT),
        ("Evaluation of the last weights", run.evaluation("last") / _REPORT),
        ("Last validation", run.path / RESULTS_FILE),
    ):
        results = _read_results(file)
        # An evaluation of the last weights replaces the results of the last validation.
        if results and (file.name == _REPORT or results[0].split == "validation"):
            protocol = f"{results[0].dataset}, split {results[0].split}; {results[0].protocol}"
            yield {"title": title, "protocol": protocol, "rows": [result_cells(r) for r in results]}


def _read_results(file: Path) -> list[MetricResult]:
    """Read results; none where they are missing or damaged, which is no reason to show no page."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        entries = content["measurements"] if isinstance(content, dict) else content
        return [MetricResult(**entry) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _linked(grid: Path) -> str:
    return f"{grid.parent.name}/{grid.name}"


def _embedded(grid: Path) -> str:
    with Image.open(grid) as image:
        image.thumbnail((_EMBEDDED_SIZE, _EMBEDDED_SIZE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _total(config: Mapping[str, Any]) -> int | None:
    steps: int | None = config["train"].get("max_steps")
    return steps


def _info(run: RunFolder) -> dict[str, Any]:
    try:
        return dict(json.loads(run.info_file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in flatten(values).items()
    }
