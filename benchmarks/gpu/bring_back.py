"""Copies a run's results to OUT: metrics, the averaged weights in parts, and a publishable gallery."""

import io
import json
import tarfile
from pathlib import Path

from agit_hub.atomic import write_bytes
from agit_hub.errors import ModelLoadError
from agit_hub.hub.gallery import write_gallery
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.runs import RunFolder

_PART = 14 * 10**6
_PARTS = 2
_MOST_LINES = 2000


def bring_back(run: Path, out: Path, device: str, shown: Path | None) -> None:
    """Write `train.json`, `weights.0`, `weights.1` and a gallery, each file atomically.

    Args:
        run: The run folder.
        out: Their folder.
        device: Translates the samples.
        shown: Folders of publishable photographs of each label; no gallery without it.
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
        print(f"No gallery this time: {error}")
        return
    write_gallery(pipe, shown, out)


def _packed(model: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(model, "model")
    return buffer.getvalue()
