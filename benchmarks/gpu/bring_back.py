"""Copies a run's results to OUT: metrics, the averaged weights, and a publishable gallery."""

import io
import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from agit_hub.atomic import write_bytes
from agit_hub.errors import ModelLoadError
from agit_hub.hub.gallery import write_gallery
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.runs import RunFolder

_MOST_LINES = 2000


def bring_back(run: Path, out: Path, device: str, shown: Path | None) -> None:
    """Write `train.json`, `weights.tar.gz` (in half precision) and a gallery, each file atomically.

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
    write_bytes(out / "weights.tar.gz", _packed(folder.model))
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
    with TemporaryDirectory() as halved:
        AGITModel.from_pretrained(model).half().save_pretrained(halved)
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
            tar.add(halved, "model")
    return buffer.getvalue()
