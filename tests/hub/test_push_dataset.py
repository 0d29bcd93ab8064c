"""push_pair: two folders become a dataset that load_domains reads without further options."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfFileSystem
from PIL import ExifTags, Image

from agit_hub.data.config import DomainConfig
from agit_hub.data.images import to_rgb
from agit_hub.data.load import load_domains
from agit_hub.errors import DataError
from agit_hub.hub.image_location import without_location
from agit_hub.hub.push_dataset import push_pair, write_shards
from agit_hub.image_metadata import has_location
from testing.hub_server import Hub

REPO = "user/cats2dogs"


def _folder(root: Path, name: str, count: int, shade: int) -> Path:
    folder = root / name
    (folder / "deep").mkdir(parents=True)
    for number in range(count):
        place = folder / ("deep" if number % 2 else "") / f"{number}.png"
        Image.new("RGB", (16, 16), (shade, number, 0)).save(place)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        "cats": _folder(tmp_path, "cats", 5, shade=10),
        "dogs": _folder(tmp_path, "dogs", 3, shade=20),
    }


def _shades(repo: str) -> list[set[tuple[int, int]]]:
    found = []
    for opened in load_domains(DomainConfig(repo), DomainConfig(repo), 16, 20):
        domain = opened.domain
        shades = set()
        for block in range(domain.blocks):
            for row in range(domain.block_length(block)):
                red, green, _ = domain.image(block, row).getpixel((0, 0))  # type: ignore[misc]
                shades.add((red, green))
        found.append(shades)
    return found


def test_push_pair_every_image_is_in_its_domain(folders: dict[str, Path], hub: Hub) -> None:
    page = push_pair(folders, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
    assert page == f"{hub.url}/datasets/{REPO}"
    cats, dogs = _shades(REPO)
    assert cats == {(10, number) for number in range(5)}
    assert dogs == {(20, number) for number in range(3)}


def test_push_pair_keeps_the_bytes_of_the_files(
    folders: dict[str, Path], hub: Hub, tmp_path: Path
) -> None:
    push_pair(folders, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
    files = hub.files(REPO, kind="dataset")
    (tmp_path / "a.parquet").write_bytes(files["dogs/train-00000.parquet"])
    rows = pq.read_table(tmp_path / "a.parquet")["image"].to_pylist()
    assert [row["path"] for row in rows] == ["0.png", "2.png", "1.png"]
    assert rows[2]["bytes"] == (folders["dogs"] / "deep" / "1.png").read_bytes()


def test_push_pair_shard_bytes_limits_shards(folders: dict[str, Path], hub: Hub) -> None:
    size = (folders["cats"] / "0.png").stat().st_size
    push_pair(folders, REPO, "cc0-1.0", private=False, shard_bytes=2 * size + 10)
    names = sorted(name for name in hub.files(REPO, kind="dataset") if name.endswith(".parquet"))
    assert names == [
        *(f"cats/train-0000{number}.parquet" for number in range(3)),
        *(f"dogs/train-0000{number}.parquet" for number in range(2)),
    ]
    assert [len(shades) for shades in _shades(REPO)] == [5, 3]


def test_push_pair_again_removes_withdrawn_images(
    folders: dict[str, Path], tmp_path: Path, hub: Hub
) -> None:
    size = (folders["cats"] / "0.png").stat().st_size
    push_pair(folders, REPO, "cc0-1.0", private=False, shard_bytes=size)
    own = {"LICENSE": b"mine", "docs/how.md": b"so", ".gitattributes": b"*"}
    hub.commit(REPO, {**own, "old/a.png": b"x", "a.tar": b"x", "a\nb.zip": b"x"})
    fewer = {"cats": _folder(tmp_path / "new", "cats", 1, 30), "birds": folders["dogs"]}
    push_pair(fewer, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
    expected = {"README.md", "cats/train-00000.parquet", "birds/train-00000.parquet", *own}
    assert hub.files(REPO, kind="dataset").keys() == expected
    assert sum(r.path.endswith("/commit/main") for r in hub.requests) == 2
    HfFileSystem.clear_instance_cache()
    assert _shades(REPO) == [{(30, 0)}, {(20, 0), (20, 1), (20, 2)}]


def test_push_pair_repo_without_user_is_named_in_the_command(
    folders: dict[str, Path], hub: Hub
) -> None:
    push_pair(folders, "cats2dogs", "cc0-1.0", private=False, shard_bytes=10**6)
    card = hub.files(REPO, kind="dataset")["README.md"].decode()
    assert f"--data.source.path {REPO} --data.target.path {REPO}" in card


def test_push_pair_labels_of_any_characters_are_read_again(
    folders: dict[str, Path], hub: Hub
) -> None:
    labels = ["[a-z]* '\"`#|\u9a6c".replace("*", "").replace("|", ""), "..", "con & co"]
    for first, second in ((labels[0], labels[1]), (labels[1], labels[2])):
        pair = {first: folders["cats"], second: folders["dogs"]}
        push_pair(pair, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
        HfFileSystem.clear_instance_cache()
        for label, count in ((first, 5), (second, 3)):
            config = DomainConfig(REPO, name=label)
            opened, _ = load_domains(config, DomainConfig("shapes", "plain"), 16, 20)
            assert opened.domain.length == count


@pytest.mark.parametrize("label", ["a/b", "a\\b", "a?", "a\nb", " ", "x" * 101])
def test_push_pair_label_that_names_no_config_is_refused(
    label: str, folders: dict[str, Path], hub: Hub
) -> None:
    pair = {label: folders["cats"], "dogs": folders["dogs"]}
    with pytest.raises(DataError, match="et --source-label"):
        push_pair(pair, REPO, "mit", False, 1)
    assert hub.requests == []


def _photograph(path: Path, location: bool) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    if location:
        exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 31.0, 12.0)}
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(noise).save(path, exif=exif.tobytes())
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_without_location_keeps_every_pixel(suffix: str, tmp_path: Path) -> None:
    path = _photograph(tmp_path / f"a{suffix}", location=True)
    data, name = without_location(path.read_bytes(), path.name)
    with Image.open(io.BytesIO(data)) as found, Image.open(path) as before:
        assert not has_location(found)
        assert np.array_equal(*(np.asarray(to_rgb(image)) for image in (found, before)))
    assert Path(name).suffix in (suffix, ".png", ".tiff")
    plain = _photograph(tmp_path / f"b{suffix}", location=False).read_bytes()
    assert without_location(plain, "b") == (plain, "b")


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xe1\0\x30http://ns.adobe.com/xap/1.0/\0<exif:GPSLatitude>",
        b"\xff\xed\0\x14Photoshop 3.0\0\x1c\x02\x5a\0",  # a city in IPTC
        b"\xff\xfe\0\x10latitude: 52.",
    ],
)
def test_without_location_finds_every_kind_in_a_jpeg(segment: bytes, tmp_path: Path) -> None:
    whole = _photograph(tmp_path / "a.jpg", location=False).read_bytes()
    length = (len(segment) - 2).to_bytes(2, "big")
    segment = segment[:2] + length + segment[4:]
    for data in (whole[:2] + segment + whole[2:], whole + segment):  # and behind the image
        found, _ = without_location(data, "a.jpg")
        assert segment[4:] not in found
        pixels = [np.asarray(Image.open(io.BytesIO(each))) for each in (found, whole)]
        assert np.array_equal(*pixels)


def test_push_pair_location_is_published_only_if_asked_for(tmp_path: Path, hub: Hub) -> None:
    pair = {}
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        _photograph(tmp_path / name / "a.jpg", location=True)
        pair[name] = tmp_path / name
    for asked in (False, True):
        push_pair(pair, REPO, "mit", False, 10**6, keep_location=asked)
        table = hub.files(REPO, kind="dataset")["cats/train-00000.parquet"]
        (row,) = pq.read_table(io.BytesIO(table))["image"].to_pylist()
        assert has_location(Image.open(io.BytesIO(row["bytes"]))) is asked


def test_push_pair_keeps_splits(tmp_path: Path, hub: Hub) -> None:
    both = {}
    for name, shade in (("cats", 10), ("dogs", 20)):
        for split in ("train", "test"):
            _folder(tmp_path / name, split, 2 if split == "train" else 1, shade)
        both[name] = tmp_path / name
    push_pair(both, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
    assert [len(shades) for shades in _shades(REPO)] == [2, 2]
    test = DomainConfig(REPO, name="cats", split="test")
    opened, _ = load_domains(test, DomainConfig("shapes", "plain"), 16, 20)
    assert opened.domain.length == 1


def test_push_pair_damaged_image_is_skipped_and_logged(
    folders: dict[str, Path], hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    (folders["cats"] / "broken.png").write_bytes(b"no image")
    push_pair(folders, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
    assert "broken.png" in caplog.text
    assert len(_shades(REPO)[0]) == 5


def test_push_pair_card_has_counts_and_a_training_command(
    folders: dict[str, Path], hub: Hub
) -> None:
    push_pair(folders, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
    card = hub.files(REPO, kind="dataset")["README.md"].decode()
    assert "license: cc0-1.0" in card and f"--data.source.path {REPO}" in card
    assert "| cats | train | 5 | 1 |" in card and "| dogs | train | 3 | 1 |" in card


def test_push_pair_card_loads_the_dataset_in_python(
    folders: dict[str, Path], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
    # It is read when `datasets` is imported, by whichever test is the first.
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    push_pair(folders, REPO, "cc0-1.0", private=False, shard_bytes=10**6)
    card = hub.files(REPO, kind="dataset")["README.md"].decode()
    snippet = card.split("```python\n")[1].split("```")[0]
    HfFileSystem.clear_instance_cache()
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert len(names["images"]) == 5


def test_push_pair_unusable_folders_raise(
    folders: dict[str, Path], tmp_path: Path, hub: Hub
) -> None:
    with pytest.raises(DataError, match="same name"):
        push_pair({"cats": folders["cats"]}, REPO, "mit", private=False, shard_bytes=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no images"):
        push_pair(folders | {"dogs": empty}, REPO, "mit", False, 1)
    (empty / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="can be read"):
        push_pair({"cats": empty, "dogs": folders["dogs"]}, REPO, "mit", False, 1)
    assert hub.requests == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems restrict names")
def test_write_shards_takes_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "plain.png")
    (folder / "plain.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    (split,) = write_shards(tmp_path / "shards", "x", folder, 10**8, "x")
    table = pq.read_table(tmp_path / "shards" / split.shards[0])
    assert [row["path"] for row in table["image"].to_pylist()] == ["caf\ufffd.png"]


def test_write_shards_says_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _folder(tmp_path, "cats", 2, shade=10)
    (folder / "notes.txt").write_text("no image")
    (folder / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (split,) = write_shards(tmp_path / "out", "cats", folder, 10**6, "cats")
    assert split.images == 2
    assert "1 .txt file skipped: not an image (notes.txt)" in caplog.text
    assert "1 broken link skipped (lost.png)" in caplog.text
