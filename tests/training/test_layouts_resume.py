"""Runs on Arrow files and nested columns: a resumed one equals an uninterrupted one bit for bit."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import Equal, Train
from tests.training.hub_datasets import (
    ENDLESS,
    GROUP,
    ON_HUB,
    REPO,
    Files,
    image_files,
    in_folder,
)

pytestmark = pytest.mark.slow

Image = dict[str, Any]
COUNT = 8


def _images(seed: int) -> list[Image]:
    return [{"bytes": data, "path": None} for data in image_files(COUNT, seed)]


def _parquet(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=GROUP)
    return file.getvalue()


def _lists(images: list[Image]) -> list[list[Image] | None]:
    """Return rows of no, one or several images, across the borders of row groups."""
    return [images[:3], [], images[3:4], None, images[4:6], images[6:]]


def _saved(folder: Path, saved: datasets.Dataset | datasets.DatasetDict) -> Files:
    """Return the files that `save_to_disk` writes."""
    shards = {"num_shards": 2} if isinstance(saved, datasets.Dataset) else {}
    saved.save_to_disk(folder, **shards)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def arrow_of_labels(folder: Path) -> Files:
    labels = datasets.ClassLabel(names=["horse", "zebra"])
    features = datasets.Features({"image": datasets.Image(), "label": labels})
    rows = {"image": _images(0) + _images(1), "label": [0, 1] * COUNT}
    return _saved(folder, datasets.Dataset.from_dict(rows, features=features))


def arrow_of_splits(folder: Path) -> Files:
    features = datasets.Features({"a": datasets.Image(), "b": datasets.Image()})
    part = datasets.Dataset.from_dict({"a": _images(0), "b": _images(1)}, features=features)
    return _saved(folder, datasets.DatasetDict({"train": part, "test": part.select([0])}))


def arrow_of_lists(folder: Path) -> Files:
    features = datasets.Features({n: datasets.Sequence(datasets.Image()) for n in ("a", "b")})
    rows = {"a": _lists(_images(0)), "b": _lists(_images(1))}
    return _saved(folder, datasets.Dataset.from_dict(rows, features=features))


def arrow_of_structs(folder: Path) -> Files:
    features = datasets.Features({"pair": {n: datasets.Image() for n in ("source", "target")}})
    pairs = zip(_images(0), _images(1), strict=True)
    rows = {"pair": [{"source": source, "target": target} for source, target in pairs]}
    return _saved(folder, datasets.Dataset.from_dict(rows, features=features))


def arrow_stream(folder: Path) -> Files:
    """The format of a cache of the datasets library, in record batches of three."""
    file = io.BytesIO()
    table = pa.table({"a": _images(0), "b": _images(1)})
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=GROUP)
    return {"data.arrow": file.getvalue()}


def structs(folder: Path) -> Files:
    pairs = zip(_images(0), _images(1), strict=True)
    rows = [{"source": source, "target": target} for source, target in pairs]
    return {"0.parquet": _parquet({"pair": rows})}


def lists(folder: Path) -> Files:
    return {"0.parquet": _parquet({"a": _lists(_images(0)), "b": _lists(_images(1))})}


def labelled_lists(folder: Path) -> Files:
    rows = _lists(_images(0)) + _lists(_images(1))
    return {"0.parquet": _parquet({"views": rows, "kind": ["x", "y"] * 6})}


def lists_in_structs(folder: Path) -> Files:
    columns = {
        name: [
            {"views": [{"png": image["bytes"]} for image in row or []]} for row in _lists(images)
        ]
        for name, images in (("a", _images(0)), ("b", _images(1)))
    }
    return {"0.parquet": _parquet(columns)}


LAYOUTS = [
    *(arrow_of_labels, arrow_of_splits, arrow_of_lists, arrow_of_structs, arrow_stream),
    *(structs, lists, labelled_lists, lists_in_structs),
]
OPTIONS: dict[Any, dict[str, Any]] = {
    labelled_lists: {f"data.{side}.label_column": "kind" for side in ("source", "target")}
}
# Across the border of two epochs, of eight images at most.
STEPS = ENDLESS | {"train.max_steps": 11}


@pytest.mark.parametrize(
    ("write", "workers"),
    [*((write, 0) for write in LAYOUTS), (arrow_of_labels, 2), (labelled_lists, 2)],
)
@pytest.mark.usefixtures("one_by_one")
def test_resumed_run_on_layout_equals_an_uninterrupted_one(
    write: Callable[[Path], Files],
    workers: int,
    tmp_path: Path,
    train: Train,
    assert_equal_runs: Equal,
    interrupt_when: Callable[..., Any],
) -> None:
    settings = in_folder(tmp_path / "data", write(tmp_path / "made")) | OPTIONS.get(write, {})
    settings |= STEPS | {"data.num_workers": workers}
    with interrupt_when("step 5/"):
        train(tmp_path / "parts", settings)
    assert not (tmp_path / "parts" / "checkpoints" / "step-00000011").exists()
    train(tmp_path / "parts", settings, resume=True)
    train(tmp_path / "whole", settings | {"data.num_workers": 0})
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("write", LAYOUTS)
def test_resumed_run_on_layout_of_the_hub_equals_one_from_a_folder(
    write: Callable[[Path], Files],
    tmp_path: Path,
    hub: Hub,
    train: Train,
    assert_equal_runs: Equal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")
    files = write(tmp_path / "made")
    hub.commit(REPO, files)
    settings = STEPS | OPTIONS.get(write, {})
    train(tmp_path / "parts", settings | ON_HUB | {"train.max_steps": 5})
    train(tmp_path / "parts", settings | ON_HUB, resume=True)
    train(tmp_path / "whole", settings | in_folder(tmp_path / "data", files))
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")
