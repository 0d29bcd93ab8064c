"""Copies a run's results to OUT: metrics, the averaged weights in parts, and publishable samples."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from agit_hub.atomic import write_bytes
from agit_hub.errors import ModelLoadError
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.runs import RunFolder
from agit_hub.visualization import stacked

_PART = 14 * 10**6
_PARTS = 2
_MOST_LINES = 2000
_SAMPLE = 384


def bring_back(run: Path, out: Path, device: str, shown: Path | None) -> None:
    """Write `train.json`, `weights.0`, `weights.1` and `samples.png`, each atomically.

    Args:
        run: The run folder.
        out: Their folder.
        device: Translates the samples.
        shown: Folders `source` and `target` of publishable photographs; no samples without it.
    """
    folder = RunFolder(run)
    lines = folder.read_metrics()
    found = {
        "facts": json.loads(folder.info_file.read_text("utf-8")),
        "config": folder.config_file.read_text("utf-8"),
        "metrics": [*lines[:: max(1, len(lines) // _MOST_LINES)], *lines[-1:]],
    }
    write_bytes(out / "train.json", json.dumps(found).encode())
    if not folder.model.is_dir():
        return
    packed = _packed(folder.model)
    if len(packed) > _PARTS * _PART:
        print(f"The weights are {len(packed) / 1e6:.0f} MB: the end is cut off.")
    for number in range(_PARTS):
        write_bytes(out / f"weights.{number}", packed[number * _PART : (number + 1) * _PART])
    if shown is None or not shown.is_dir():
        return
    try:
        pipe = AGITPipeline(AGITModel.from_pretrained(folder.model, device=device))
    except ModelLoadError as error:  # it is being replaced right now
        print(f"No samples this time: {error}")
        return
    buffer = io.BytesIO()
    stacked(list(_rows(pipe, shown))).save(buffer, "PNG")
    write_bytes(out / "samples.png", buffer.getvalue())


def _rows(pipe: AGITPipeline, shown: Path) -> Iterator[Image.Image]:
    """Yield input, attention and translation of each photograph side by side."""
    for side, to in zip(("source", "target"), reversed(pipe.model.config.labels), strict=True):
        for path in sorted((shown / side).iterdir()):
            with Image.open(path) as image:
                image.thumbnail((_SAMPLE, _SAMPLE))
                yield pipe.predict(image.convert("RGB"), to).render().panel()


def _packed(model: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(model, "model")
    return buffer.getvalue()
