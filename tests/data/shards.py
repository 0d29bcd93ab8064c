"""Write images to zips, parquet and webdataset shards, and open them as domains."""

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from agit_hub.data.dataset import InfiniteBatchSampler, UnpairedDataset, make_loader
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.files import FilesDomain, Item
from agit_hub.data.domains.parquet import ParquetDomain, RowGroup, row_groups
from agit_hub.data.domains.webdataset import WebDataset
from agit_hub.data.inventory import Inventory
from agit_hub.data.store import FolderStore

SIZE = 16


def png(number: int) -> bytes:
    """Encode an image whose every pixel holds its number."""
    file = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (number, 255 - number, number // 2)).save(file, "PNG")
    return file.getvalue()


def number_of(image: Image.Image) -> int:
    assert image.mode == "RGB" and image.size == (SIZE, SIZE)
    number = int(np.asarray(image)[0, 0, 0])
    assert np.array_equal(np.unique(np.asarray(image)[..., 1]), [255 - number])
    return number


def numbers(domain: Domain) -> list[list[int]]:
    """Return the numbers of the images in each block."""
    return [
        [number_of(domain.image(block, row)) for row in range(domain.block_length(block))]
        for block in range(domain.blocks)
    ]


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as opened:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


def write_parquet(
    path: Path, numbers: Sequence[int | None], rows: int = 3, **columns: list[Any]
) -> None:
    """Write a shard in the format of the datasets library; None gives a row without an image."""
    images = [
        {"bytes": None if number is None else png(number), "path": None} for number in numbers
    ]
    table = pa.table({"image": images, **columns})
    pq.write_table(table, path, row_group_size=rows)


def parquet_domain(root: Path, label: tuple[str, object] | None = None) -> ParquetDomain:
    store = FolderStore(root)
    return ParquetDomain(store, all_row_groups(store, label), "image")


def all_row_groups(store: FolderStore, label: tuple[str, object] | None = None) -> list[RowGroup]:
    inventory = Inventory(store)
    return [
        group
        for file in store.files
        for group in row_groups(store, file, inventory.footer(file), "image", label)
    ]


def files_domain(root: Path) -> FilesDomain:
    """Open loose images and zips of any number together."""
    store = FolderStore(root)
    items: list[Item] = []
    for file in store.files:
        if file.endswith(".zip"):
            with zipfile.ZipFile(root / file) as opened:
                names = sorted(opened.namelist())
            items += [Item(file, name) for name in names if name.endswith(".png")]
        elif file.endswith(".png"):
            items.append(Item(file))
    return FilesDomain(store, items)


def web_domain(root: Path, column: str = "png", label: tuple[str, str] | None = None) -> WebDataset:
    store = FolderStore(root)
    return WebDataset(store, store.files, column, label)


# Each function writes ten images, 10 to 19, in three blocks and returns their domain.


def ten_in_zips(root: Path) -> Domain:
    write_zip(root / "a.zip", {f"{k}.png": png(k) for k in (10, 11, 12)})
    write_zip(root / "b" / "b.zip", {f"deep/{k}.png": png(k) for k in (13, 14, 15)})
    for k in (16, 17, 18, 19):
        (root / f"c{k}.png").write_bytes(png(k))
    return files_domain(root)


def ten_in_parquet(root: Path) -> Domain:
    write_parquet(root / "0.parquet", [10, 11, 12, 13, 14, 15])
    write_parquet(root / "1.parquet", [16, 17, 18, 19], rows=4)
    return parquet_domain(root)


def ten_in_tars(root: Path) -> Domain:
    for shard, numbers in enumerate(((10, 11, 12), (13, 14, 15), (16, 17, 18, 19))):
        write_tar(root / f"{shard}.tar", {f"{k}.png": png(k) for k in numbers})
    return web_domain(root)


BLOCKS = [[10, 11, 12], [13, 14, 15], [16, 17, 18, 19]]
kinds = pytest.mark.parametrize("write", [ten_in_zips, ten_in_parquet, ten_in_tars])


def stream(samples: UnpairedDataset, workers: int) -> list[object]:
    batches = islice(make_loader(samples, InfiniteBatchSampler(4, 0, 1, 0), workers), 6)
    return [(b.source.tolist(), b.target.tolist(), b.unreadable) for b in batches]
