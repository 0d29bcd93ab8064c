"""Datasets for a local Hub, and a training process whose client uses it."""

import io
import multiprocessing
import runpy
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.online import connect
from tests.training.conftest import SCRIPT, SIZE

REPO = "user/animals"
SHARDS, ROWS, GROUP = 4, 6, 3
ENDLESS = {"train.decay_from": 1.0}
ON_HUB = {"data.source.path": REPO, "data.target.path": REPO}

Files = dict[str, bytes]
Metrics = Callable[[Path], list[dict[str, float]]]
States = Callable[[Path], dict[str, Any]]


def image_files(count: int, seed: int) -> list[bytes]:
    """Return image files that differ between seeds."""
    random = np.random.default_rng(seed)
    pixels = (random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(count))
    return [encoded(each) for each in pixels]


def encoded(pixels: np.ndarray) -> bytes:
    """Return a PNG of an array."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def shard(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Return a parquet file with row groups of three; bytes are images."""
    cells = {
        name: [{"bytes": v, "path": None} if isinstance(v, bytes) else v for v in values]
        for name, values in columns.items()
    }
    file = io.BytesIO()
    pq.write_table(pa.table(cells), file, row_group_size=GROUP)
    return file.getvalue()


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return file.getvalue()


def two_configs(seed: int = 0) -> Files:
    """Return a folder of shards for each domain."""
    return {
        f"{name}/train-{number:05d}-of-{SHARDS:05d}.parquet": shard(
            {"image": image_files(ROWS, seed + 100 * side + number)}
        )
        for side, name in enumerate(("horse", "zebra"))
        for number in range(SHARDS)
    }


def tars(seed: int = 0) -> Files:
    """Return webdataset shards whose classes are the domains."""
    files = {}
    for number in range(2):
        members: Files = {}
        for row, data in enumerate(image_files(6, seed + number)):
            members |= {f"{row}.png": data, f"{row}.cls": b"%d" % (row % 2)}
        files[f"train-{number}.tar"] = tar(members)
    return files


def in_folder(folder: Path, files: Files) -> dict[str, str]:
    """Write the files to disk, and return settings that name them."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {"data.source.path": str(folder), "data.target.path": str(folder)}


def train_online(url: str, home: str, hurried: bool, arguments: Sequence[str]) -> None:
    """Run `train_accelerate.py` in a process whose client uses a local hub."""
    # The default start method; workers started in another way would import the client again.
    multiprocessing.set_start_method("fork", force=True)
    connect(pytest.MonkeyPatch(), url, Path(home), hurried=hurried)
    sys.argv = [SCRIPT.name, *arguments]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.stdout.flush()
