"""load_domains: folders and the built-in shapes."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from agit_hub.data import inventory, shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.domains.parquet import read_footer
from agit_hub.data.domains.shapes import ShapesDomain
from agit_hub.data.load import load_domains
from agit_hub.data.store import FolderStore
from agit_hub.errors import ConfigError, DataError
from agit_hub.evaluation.datasets import SHAPES_SEED
from tests.data.layouts import (
    png,
    two_image_columns,
    write_folder,
    write_parquet,
    write_tar,
    write_zip,
)

# A QOI image of 8 x 8 without pixels: Pillow's decoder reads past the end of the data.
CUT_QOI = b"qoif" + (8).to_bytes(4, "big") * 2 + b"\x03\x00"


def _save(path: Path, red: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (red, 0, 0)).save(path)
    return path


def _open(path: Path | str, name: str | None = None, size: int = 16) -> Domain:
    """Load the single domain at a path, with a built-in one as target."""
    other = DomainConfig("shapes", "plain" if name == "striped" else "striped")
    return load_domains(DomainConfig(str(path), name), other, size, 0)[0].domain


def _reds(domain: Domain) -> list[int]:
    assert domain.length is not None
    return [domain.image(0, row).getpixel((0, 0))[0] for row in range(domain.length)]  # type: ignore[index]


def test_load_domains_folder_holds_images_of_subfolders_in_path_order(tmp_path: Path) -> None:
    # Saved in a different order than that of their names.
    _save(tmp_path / "c.png", 4)
    _save(tmp_path / "b" / "z.bmp", 3)
    _save(tmp_path / "b" / "deep" / "er" / "x.webp")
    _save(tmp_path / "a.PNG", 1)
    _save(tmp_path / ".hidden.png")
    _save(tmp_path / "._c.png")
    (tmp_path / "labels.txt").write_text("a.PNG horse")
    (tmp_path / "notes").write_text("no ending")
    (tmp_path / "model.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "folder.png").mkdir()
    domain = _open(tmp_path)
    assert domain.length == 4
    names = [str(Path(domain.describe(0, k)).relative_to(tmp_path)) for k in range(4)]
    assert names == ["a.PNG", "b/deep/er/x.webp", "b/z.bmp", "c.png"]
    assert _reds(domain) == [1, 0, 3, 4]
    assert domain.image(0, 0).mode == "RGB" and domain.image(0, 0).size == (20, 16)


@pytest.mark.parametrize("hidden", [".thumbnails", ".ipynb_checkpoints/deep"])
def test_load_domains_hidden_folder_is_ignored(hidden: str, tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "horses"  # the folder itself may be inside a hidden one
    _save(root / "a.png", 1)
    _save(root / hidden / "a.png", 2)
    assert _reds(_open(root)) == [1]


def test_load_domains_folder_images_are_upright_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("LA", (20, 16), (0, 0)).save(tmp_path / "a.png", exif=exif)
    image = _open(tmp_path).image(0, 0)
    assert image.mode == "RGB" and image.size == (16, 20)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_load_domains_tilde_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _save(tmp_path / "cats" / "a.png")
    assert _open("~/cats").length == 1


def test_load_domains_unusable_folder_raises_with_its_name(tmp_path: Path) -> None:
    _save(tmp_path / "one.png")
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "empty" / "read.me").write_text("nothing here")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"not an image")
    (tmp_path / "broken" / "b.jpg").write_bytes(b"-")
    for name, match in (
        ("nowhere", "does not exist"),
        ("one.png", "is a file"),
        ("empty", "no images"),
        ("broken", "None of the 2 .* can be read"),
    ):
        with pytest.raises(DataError, match=match) as raised:
            _open(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)


def test_load_domains_damaged_images_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not an image")
    (tmp_path / "c.qoi").write_bytes(b"not an image")
    (tmp_path / "d.jpg").touch()
    _save(tmp_path / "b.png", 9)
    loaded, _ = load_domains(DomainConfig(str(tmp_path)), DomainConfig("shapes", "plain"), 16, 0)
    assert _reds(loaded.domain) == [9]
    notes = "\n".join(loaded.notes)
    assert "2 damaged or mislabelled images skipped" in notes and "a.png" in notes
    assert "1 empty file skipped (d.jpg)" in notes and len(loaded.skipped) == 3


def test_load_domains_image_cut_short_of_rare_format_is_tolerated(tmp_path: Path) -> None:
    (tmp_path / "a.qoi").write_bytes(CUT_QOI)
    _save(tmp_path / "b.png")
    assert _open(tmp_path).length == 2


@pytest.mark.parametrize("label", shapes.LABELS)
def test_shapes_domain_draws_at_the_requested_size(label: str) -> None:
    domain = _open("shapes", label, 24)
    assert isinstance(domain, ShapesDomain) and domain.length >= 1000
    for index in (0, domain.length - 1, 0):
        drawn, _ = shapes.draw(label, index, 24, seed=0)
        assert domain.image(0, index).tobytes() == drawn.tobytes()
    assert label in domain.describe(0, 7) and "7" in domain.describe(0, 7)
    # Evaluation draws other scenes than training.
    unseen, _ = shapes.draw(label, 0, 24, SHAPES_SEED)
    assert np.any(np.asarray(unseen) != np.asarray(domain.image(0, 0)))


@pytest.mark.parametrize(("name", "match"), [(None, "name.*None"), ("spotted", "name.*'spotted'")])
def test_load_domains_shapes_with_bad_name_raises(name: str | None, match: str) -> None:
    with pytest.raises(DataError, match=match) as raised:
        _open("shapes", name)
    assert "plain" in str(raised.value) and "striped" in str(raised.value)


def test_load_domains_folder_named_shapes_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(_open("shapes", "plain"), ShapesDomain)
    _save(tmp_path / "shapes" / "a.png", 5)
    _save(tmp_path / "other" / "a.png", 6)
    domain = load_domains(DomainConfig("shapes"), DomainConfig("other"), 16, 0)[0].domain
    assert isinstance(domain, FilesDomain) and _reds(domain) == [5]


@pytest.mark.parametrize("storage", ["cache", "", False])
def test_domain_config_unknown_storage_raises(storage: str) -> None:
    with pytest.raises(ConfigError, match=r"storage is .*'stream', 'download', 'remote'"):
        DomainConfig("folder", storage=storage)  # type: ignore[arg-type]


def test_domain_config_label_value_without_column_raises() -> None:
    with pytest.raises(ConfigError, match=r"label_value is 'horse'.*label_column"):
        DomainConfig("folder", label_value="horse")


def test_load_domains_remote_storage_of_tars_raises(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", a__png=png(), a__cls=b"0")
    config = DomainConfig(str(tmp_path), storage="remote")
    with pytest.raises(DataError, match=r"storage is remote.*storage stream or download"):
        load_domains(config, DomainConfig("shapes", "plain"), 16, 0)


@pytest.mark.parametrize("storage", ["stream", "download", "remote"])
def test_load_domains_any_storage_gives_the_same_images(
    storage: Literal["stream", "download", "remote"], tmp_path: Path
) -> None:
    write_parquet(tmp_path / "rows" / "a.parquet", image=[png(7), png(8)])
    write_zip(tmp_path / "zips" / "a.zip", "1.png")
    write_folder(tmp_path / "files", "1.png")
    for path, reds in (
        (tmp_path / "rows", [7, 8]),
        (tmp_path / "zips", [0]),
        (tmp_path / "files", [0]),
    ):
        config = DomainConfig(str(path), storage=storage)
        loaded, _ = load_domains(config, DomainConfig("shapes", "plain"), 16, 0)
        assert _reds(loaded.domain) == reds


def test_inventory_reads_each_footer_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_image_columns(tmp_path)
    read: list[str] = []

    def counted(store: FolderStore, file: str) -> pq.FileMetaData:
        read.append(file)
        return read_footer(store, file)

    monkeypatch.setattr(inventory, "read_footer", counted)
    load_domains(DomainConfig(str(tmp_path)), DomainConfig(str(tmp_path)), 16, 0)
    assert read == ["data/train-00000-of-00001.parquet"]
