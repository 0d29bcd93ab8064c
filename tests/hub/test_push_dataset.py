"""push_pair: two folders become a dataset that load_domains reads without further options."""

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from agit_hub.data.config import DomainConfig
from agit_hub.data.load import load_domains
from agit_hub.errors import DataError
from agit_hub.hub.push_dataset import push_pair, write_shards
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
