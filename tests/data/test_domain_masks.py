"""Masks of a domain's images, of a folder or a column: found, counted, and cropped with their image."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from agit_hub.data.config import DomainConfig
from agit_hub.data.dataset import UnpairedDataset, collate
from agit_hub.data.domains.base import Domain, locations
from agit_hub.data.domains.in_memory import InMemoryDomain
from agit_hub.data.domains.subset import Subset
from agit_hub.data.load import LoadedDomain, Loading, load_domain, load_domains
from agit_hub.errors import DataError
from testing.hub_server import Hub
from tests.data.shards import png, write_parquet, write_tar
from tests.online import connect

SIZE = 16


def _save(path: Path, pixels: npt.NDArray[np.uint8] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((SIZE, SIZE, 3), 9, np.uint8) if pixels is None else pixels
    Image.fromarray(pixels).save(path)
    return path


def _mask_file(path: Path, value: int = 255, size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def _load(path: Path | str, masks: Path | str, **options: Any) -> LoadedDomain:
    config = DomainConfig(path=str(path), masks=str(masks), **options)
    return load_domain(config, Loading(None, 5))


def _values(domain: Domain) -> list[int | None]:
    """Return the value of each image's mask, which is even; None for an image without one."""
    masks = [domain.mask(*at) for at in locations(domain)]
    return [None if mask is None else int(np.asarray(mask)[0, 0]) for mask in masks]


def test_masks_of_a_folder_belong_to_images_of_their_names(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/3.png"):
        _save(tmp_path / "photos" / name)
    _mask_file(tmp_path / "masks" / "a" / "1.png", 100)
    _mask_file(tmp_path / "masks" / "b" / "1.bmp", 200)
    _mask_file(tmp_path / "masks" / "3.png", 255)
    loaded = _load(tmp_path / "photos", tmp_path / "masks")
    assert str(loaded.masks) == "3 of 4" and loaded.domain.has_masks
    assert _values(loaded.domain) == [100, None, 200, 255]
    assert _values(Subset(loaded.domain, 2, held_out=False)) == [100, 200]
    assert _values(InMemoryDomain(loaded.domain)) == [100, None, 200, 255]
    plain = load_domain(DomainConfig(path=str(tmp_path / "photos")), Loading(None, 5))
    assert plain.masks is None and not plain.domain.has_masks


def test_masks_among_the_images_are_no_images(tmp_path: Path) -> None:
    _save(tmp_path / "photos" / "1.png")
    _mask_file(tmp_path / "photos" / "masks" / "1.png")
    loaded = _load(tmp_path / "photos", tmp_path / "photos" / "masks")
    assert loaded.domain.length == 1 and str(loaded.masks) == "1 of 1"


def test_unusable_masks_are_counted_by_reason(tmp_path: Path) -> None:
    for name in "abcd":
        _save(tmp_path / "photos" / f"{name}.png")
    _mask_file(tmp_path / "masks" / "a.png", size=(32, 32))
    (tmp_path / "masks" / "b.png").write_text("no mask")
    _mask_file(tmp_path / "masks" / "c.png", size=(16, 20))
    whole = _mask_file(tmp_path / "masks" / "d.png").read_bytes()
    (tmp_path / "masks" / "d.png").write_bytes(whole[:-20])
    loaded = _load(tmp_path / "photos", tmp_path / "masks")
    assert str(loaded.masks) == "1 of 4"
    notes = "\n".join(loaded.notes)
    assert "2 damaged masks skipped" in notes and "1 mask of another aspect ratio" in notes


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ("empty", r"data\.source\.masks is .*empty, and none of the 2 images"),
        ("nowhere", r"masks is 'nowhere': there is no such folder, and .*no such column"),
        ("photos", r"holds no images"),
    ],
)
def test_masks_of_no_image_are_refused(tmp_path: Path, masks: str, message: str) -> None:
    for number in "12":
        _save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "empty").mkdir()
    place = tmp_path / masks
    with pytest.raises(DataError, match=message):
        _load(tmp_path / "photos", place if place.exists() else masks)


def test_masks_of_shapes_and_folders_for_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="built-in shapes take no masks"):
        _load("shapes", tmp_path, name="plain")
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "a.parquet", [1])
    with pytest.raises(DataError, match=r"is the folder .*: name a column of masks"):
        _load(tmp_path / "data", _mask_file(tmp_path / "masks" / "1.png").parent)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_masks_of_a_metadata_column_are_no_images(tmp_path: Path, kind: str) -> None:
    rows = []
    for number in range(5):
        _save(tmp_path / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "mask": ""})
    rows[3]["mask"] = f"masks/{_mask_file(tmp_path / 'masks' / 'x.png', 200).name}"
    lines = [json.dumps(row) for row in rows]
    if kind == "csv":
        lines = ["file_name,mask", *(f"{row['file_name']},{row['mask']}" for row in rows)]
    (tmp_path / f"metadata.{kind}").write_text("\n".join(lines))
    loaded = _load(tmp_path, "mask")
    assert str(loaded.masks) == "1 of 5"
    assert _values(loaded.domain) == [None, None, None, 200, None]


def _struct(*values: int | None) -> list[dict[str, Any] | None]:
    """Masks of even greys; of None half are null, and half hold null."""
    return [
        (None if number % 2 else {"bytes": None, "path": None})
        if value is None
        else {"bytes": png(value), "path": None}
        for number, value in enumerate(values)
    ]


# Of `png(0)`, which is pure green, and of `png(200)`, (200, 55, 100).
GREY = {0: 150, 200: 103}


def _shards(folder: Path) -> None:
    folder.mkdir()
    masks = _struct(0, None, 200, None, None)
    write_parquet(folder / "a.parquet", [1, 2, 3, 4, 5], mask=masks, label=[0, 1, 0, 1, 0])


EXPECTED = [GREY[0], None, GREY[200], None, None]


def test_masks_of_a_table_column_are_those_of_the_rows(tmp_path: Path) -> None:
    _shards(tmp_path / "data")
    loaded = _load(tmp_path / "data", "mask")
    assert loaded.config.column == "image" and str(loaded.masks) == "2 of 5"
    assert _values(loaded.domain) == EXPECTED
    zeros = _load(tmp_path / "data", "mask", label_column="label", label_value=0)
    assert str(zeros.masks) == "2 of 3"
    assert _values(zeros.domain) == [GREY[0], GREY[200], None]
    with pytest.raises(DataError, match=r"masks is 'label'.*columns of images are: mask"):
        _load(tmp_path / "data", "label", column="image")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def test_masks_on_the_hub_are_counted_from_footers(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")
    _shards(tmp_path / "data")
    hub.commit("user/masked", {"a.parquet": (tmp_path / "data" / "a.parquet").read_bytes()})
    loaded = _load("user/masked", "mask")
    assert str(loaded.masks) == "2 of 5" and _values(loaded.domain) == EXPECTED
    zeros = _load("user/masked", "mask", label_column="label", label_value=0, storage="remote")
    assert str(zeros.masks) == "an uncounted number of 3"
    assert _values(zeros.domain) == [GREY[0], GREY[200], None]


def test_masks_of_shards_are_files_of_their_samples(tmp_path: Path) -> None:
    files = {"1.png": png(1), "1.mask.png": png(200), "2.png": png(2)}
    write_tar(tmp_path / "a.tar", files)
    loaded = _load(tmp_path, "mask.png")
    assert loaded.config.column == "png" and str(loaded.masks) == "1 of 2"
    assert _values(loaded.domain) == [GREY[200], None]


def _photos(folder: Path) -> None:
    """Save images of which the red channel is 0 or 255, and masks that equal it."""
    random = np.random.default_rng(0)
    for number in range(4):
        coarse = random.integers(0, 2, (10, 12, 1), dtype=np.uint8) * 255
        red = coarse.repeat(4, axis=0).repeat(4, axis=1)
        _save(folder / "photos" / f"{number}.png", np.concatenate([red, 0 * red, 0 * red], axis=-1))
        if number != 2:
            (folder / "masks").mkdir(exist_ok=True)
            # At half the size of the photograph.
            half = Image.fromarray(red[::2, ::2, 0])
            half.save(folder / "masks" / f"{number}.png")


def _samples(folder: Path, **changes: Any) -> UnpairedDataset:
    masks = str(folder / "masks")
    source = _load(folder / "photos", masks).domain
    target = load_domain(DomainConfig(path=str(folder / "photos")), Loading(None, 5)).domain
    return UnpairedDataset(source, target, 32, crop_margin=1.2, zoom=1.5, **changes)


def _red(pixels: Tensor) -> Tensor:
    return pixels[:1].float() / 255


def test_sample_mask_is_cropped_and_mirrored_with_its_image(tmp_path: Path) -> None:
    _photos(tmp_path)
    samples = _samples(tmp_path)
    masked = 0
    for position in range(40):
        sample = samples[position]
        mask = sample.source_mask
        assert mask is not None and mask.shape == (1, 32, 32) and mask.dtype == torch.float32
        assert sample.target_mask is None
        if (mask < 0).all():
            continue
        masked += 1
        assert mask.min() >= 0 and mask.max() <= 1
        # They are resized by different filters; a mirrored or shifted mask is half wrong.
        assert (mask - _red(sample.source)).abs().mean() < 0.1
    assert masked == 30  # three of four images
    batch = collate([samples[position] for position in range(3)])
    assert batch.source_mask is not None and batch.source_mask.shape == (3, 1, 32, 32)
    assert batch.target_mask is None


def test_sample_images_do_not_depend_on_masks(tmp_path: Path) -> None:
    _photos(tmp_path)
    masked = _samples(tmp_path)
    plain = UnpairedDataset(masked.target, masked.target, 32, crop_margin=1.2, zoom=1.5)
    for position in range(8):
        assert torch.equal(masked[position].source, plain[position].source)


def test_sample_mask_that_cannot_be_read_is_none_and_named(tmp_path: Path) -> None:
    _photos(tmp_path)
    samples = _samples(tmp_path, shuffle=False)
    (tmp_path / "masks" / "0.png").write_bytes(b"damaged since")
    _mask_file(tmp_path / "masks" / "1.png", size=(9, 31))
    for position, message in ((0, "0.png (cannot"), (1, "1.png (9 x 31 pixels, another aspect")):
        sample = samples[position]
        assert sample.source_mask is not None and (sample.source_mask == -1).all()
        (name,) = sample.unreadable
        assert name.startswith("the mask of ") and message in name


def test_masks_of_both_domains_in_one_store_are_set_aside(tmp_path: Path) -> None:
    columns = {
        "other": [{"bytes": png(7), "path": None}] * 2,
        "mask_a": _struct(200, None),
        "mask_b": _struct(None, 200),
    }
    write_parquet(tmp_path / "a.parquet", [1, 2], **columns)
    first, second = load_domains(
        DomainConfig(path=str(tmp_path), masks="mask_a"),
        DomainConfig(path=str(tmp_path), masks="mask_b"),
        None,
        5,
    )
    assert (first.config.column, second.config.column) == ("image", "other")
    assert _values(first.domain) == [GREY[200], None]
    assert _values(second.domain) == [None, GREY[200]]
