"""Datasets of two domains in every supported layout, and helpers that resolve them."""

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
import pytest
from PIL import Image

from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.files import Item
from agit_hub.data.inventory import Inventory
from agit_hub.data.resolve import resolve_domain, resolve_pair
from agit_hub.data.store import FolderStore
from agit_hub.data.views import DatasetView

Options = Mapping[str, Any]
Settings = dict[str, Any]

HORSE, ZEBRA = "horse", "zebra"
NOTHING: Mapping[str, Any] = MappingProxyType({})


def png(number: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_parquet(
    path: Path, labels: Mapping[str, Sequence[str]] = NOTHING, **columns: list[Any]
) -> None:
    """Write a shard with the datasets library; columns of bytes become images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = datasets.Dataset.from_dict(columns)
    for name, values in columns.items():
        if isinstance(values[0], bytes):
            dataset = dataset.cast_column(name, datasets.Image())
    for name, names in labels.items():
        dataset = dataset.cast_column(name, datasets.ClassLabel(names=list(names)))
    dataset.to_parquet(path)


def write_tar(path: Path, **files: bytes) -> None:
    """Write a shard of files whose names have `__` for each dot."""
    with tarfile.open(path, "w") as opened:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


def write_folder(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(png())


def write_zip(path: Path, *files: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as opened:
        for file in files:
            opened.writestr(file, png())


def empty_files(root: Path, files: Iterable[str], configs: object = None) -> FolderStore:
    """Return a folder of files of one byte; `a.zip/b` is a member of a zip."""
    for file in files:
        archive, is_zip, member = file.partition(".zip/")
        path = root / (archive + ".zip" if is_zip else file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_zip:
            with zipfile.ZipFile(path, "a") as opened:
                opened.writestr(member, b"-")
        elif file.endswith(".tar"):
            write_tar(path, a__jpg=b"-", a__cls=b"0")
        else:
            path.write_bytes(b"-")
    store = FolderStore(root)
    if configs is not None:
        store.card = {"configs": configs}
    return store


# Each layout writes a dataset; the expected settings of its source and target are below.


def two_image_columns(root: Path) -> None:
    images = [png(), png()]
    write_parquet(
        root / "data" / "train-00000-of-00001.parquet",
        imageA=images,
        imageB=images,
        text=["a", "b"],
    )


def config_folders(root: Path) -> None:
    for name in (ZEBRA, HORSE):
        write_parquet(root / name / "train-00000-of-00001.parquet", image=[png()])
        write_parquet(root / name / "test-00000-of-00001.parquet", image=[png()])


def class_labels(root: Path) -> None:
    write_parquet(
        root / "data" / "train-00000-of-00001.parquet",
        {"label": [ZEBRA, HORSE], "place": ["field", "zoo", "road"]},
        image=[png(number) for number in range(4)],
        label=[0, 1, 1, 0],
        place=[2, 1, 0, 0],
    )


def domain_folders(root: Path) -> None:
    write_folder(root, "trainB/1.png", "trainA/1.png", "trainA/2.png", "testA/3.png", "testB/3.png")


def plain_folders(root: Path) -> None:
    write_folder(root, "zebra/1.png", "horse/1.png", "horse/deep/2.png")


def zips(root: Path) -> None:
    write_zip(root / "zebra.zip", "1.png")
    write_zip(root / "horse.zip", "1.png", "deep/2.png")


def zip_of_folders(root: Path) -> None:
    write_zip(root / "all.zip", "set/trainB/1.png", "set/trainA/1.png", "set/testA/1.png")


def webdataset_labels(root: Path) -> None:
    write_tar(root / "0.tar", a__jpg=png(), a__cls=b"1\n", b__jpg=png(), b__cls=b"0")


def webdataset_endings(root: Path) -> None:
    files = {"a__right__jpg": png(), "a__left__jpg": png(), "a__txt": b"a field"}
    write_tar(root / "train-0.tar", **files)


LAYOUTS = {
    "image columns": (
        two_image_columns,
        {"split": "train", "column": "imageA"},
        {"split": "train", "column": "imageB"},
    ),
    "configs": (
        config_folders,
        {"name": HORSE, "split": "train", "column": "image"},
        {"name": ZEBRA, "split": "train", "column": "image"},
    ),
    "named labels": (
        class_labels,
        {"split": "train", "column": "image", "label_column": "label", "label_value": ZEBRA},
        {"split": "train", "column": "image", "label_column": "label", "label_value": HORSE},
    ),
    "folders A and B": (
        domain_folders,
        {"split": "train", "data_dir": "trainA"},
        {"split": "train", "data_dir": "trainB"},
    ),
    "two folders": (
        plain_folders,
        {"split": "train", "data_dir": HORSE},
        {"split": "train", "data_dir": ZEBRA},
    ),
    "two zips": (
        zips,
        {"split": "train", "data_dir": "horse.zip"},
        {"split": "train", "data_dir": "zebra.zip"},
    ),
    "folders in a zip": (
        zip_of_folders,
        {"split": "train", "data_dir": "all.zip/set/trainA"},
        {"split": "train", "data_dir": "all.zip/set/trainB"},
    ),
    "cls in a webdataset": (
        webdataset_labels,
        {"split": "train", "column": "jpg", "label_column": "cls", "label_value": "0"},
        {"split": "train", "column": "jpg", "label_column": "cls", "label_value": "1"},
    ),
    "endings in a webdataset": (
        webdataset_endings,
        {"split": "train", "column": "left.jpg"},
        {"split": "train", "column": "right.jpg"},
    ),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def config_of(root: Path, options: Options) -> DomainConfig:
    return DomainConfig(str(root), **options)


def pair(
    root: Path, source: Options = NOTHING, target: Options = NOTHING
) -> tuple[DatasetView, DatasetView]:
    return resolve_pair(
        Inventory(FolderStore(root)), config_of(root, source), config_of(root, target)
    )


def pair_settings(
    root: Path, source: Options = NOTHING, target: Options = NOTHING
) -> tuple[Settings, Settings]:
    first, second = pair(root, source, target)
    return first.settings(), second.settings()


def resolve_one(root: Path, **options: Any) -> DatasetView:
    return resolve_domain(Inventory(FolderStore(root)), config_of(root, options), "data.source")


def paths_of(items: Iterable[Item]) -> list[str]:
    return [item.path for item in items]


def files_of(view: DatasetView) -> list[str]:
    return paths_of(view.items)
