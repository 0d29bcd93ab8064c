"""Copies a run's results to OUT: metrics, the averaged weights in parts, and publishable samples."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from agit_hub.errors import ModelLoadError
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.visualization import side_by_side, stacked

_PART = 14 * 10**6
_PARTS = 2
_MOST_LINES = 2000
_SAMPLE = 384


def metrics(run: Path) -> list[dict[str, Any]]:
    """Read a run's `metrics.jsonl`."""
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def bring_back(run: Path, out: Path, device: str, shown: Path | None) -> None:
    """Write `train.json`, `weights.0`, `weights.1` and `samples.png`, each atomically.

    Args:
        run: The run folder.
        out: Their folder.
        device: Translates the samples.
        shown: Folders `source` and `target` of publishable photographs; no samples without it.
    """
    lines = metrics(run)
    found = {
        "facts": json.loads((run / "run.json").read_text("utf-8")),
        "config": (run / "config.yaml").read_text("utf-8"),
        "metrics": [*lines[:: max(1, len(lines) // _MOST_LINES)], *lines[-1:]],
    }
    _write(out / "train.json", json.dumps(found).encode())
    if not (run / "model").is_dir():
        return
    packed = _packed(run / "model")
    if len(packed) > _PARTS * _PART:
        print(f"The weights are {len(packed) / 1e6:.0f} MB: the end is cut off.")
    for number in range(_PARTS):
        _write(out / f"weights.{number}", packed[number * _PART : (number + 1) * _PART])
    if shown is None or not shown.is_dir():
        return
    try:
        pipe = AGITPipeline(AGITModel.from_pretrained(run / "model").to(device))
    except ModelLoadError as error:  # it is being replaced right now
        print(f"No samples this time: {error}")
        return
    buffer = io.BytesIO()
    stacked(list(_rows(pipe, shown))).save(buffer, "PNG")
    _write(out / "samples.png", buffer.getvalue())


def _rows(pipe: AGITPipeline, shown: Path) -> Iterator[Image.Image]:
    """Yield input, attention and translation of each photograph side by side."""
    for side, to in zip(("source", "target"), reversed(pipe.model.config.labels), strict=True):
        for path in sorted((shown / side).iterdir()):
            with Image.open(path) as image:
                image.thumbnail((_SAMPLE, _SAMPLE))
                output = pipe(image.convert("RGB"), to)
            yield side_by_side([output.inputs[0], output.overlay(), output.images[0]])


def _packed(model: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(model, "model")
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(data)
    draft.replace(path)
