"""FilesDomain: images in zips."""

import zipfile
from pathlib import Path

import pytest

from agit_hub.data.dataset import UnpairedDataset
from agit_hub.data.inventory import Inventory
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError
from tests.data.shards import SIZE, files_domain, numbers, png, ten_in_zips, write_zip


def test_files_domain_describe_gives_zip_and_member(tmp_path: Path) -> None:
    domain = ten_in_zips(tmp_path)
    assert domain.describe(1, 0) == str(tmp_path / "b" / "b.zip" / "deep" / "13.png")
    assert domain.describe(2, 3) == str(tmp_path / "c19.png")


def test_files_domain_zips_and_loose_images_are_blocks(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(2))
    write_zip(tmp_path / "c.zip", {"z.png": png(4), "a.png": png(3), "read.me": b"horses"})
    write_zip(tmp_path / "d.zip", {"read.me": b"no images"})
    (tmp_path / "e.png").write_bytes(png(5))
    domain = files_domain(tmp_path)
    assert numbers(domain) == [[1, 2], [3, 4], [5]] and domain.length == 5
    assert len(set(domain.shards)) == 3


def test_files_domain_damaged_zip_member_is_skipped_and_named(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"0.png": png(20), "1.png": png(21), "2.png": b"no"})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        start = opened.infolist()[0].header_offset
    data[start + 40 : start + 60] = bytes(20)
    (tmp_path / "a.zip").write_bytes(data)
    domain = files_domain(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE, shuffle=False, flip=False)
    drawn = [samples[position] for position in range(3)]
    assert [int(sample.source[0, 0, 0]) for sample in drawn] == [21, 21, 21]
    for sample, member in ((drawn[0], "0.png"), (drawn[2], "2.png")):
        assert sample.unreadable[0].startswith(str(tmp_path / "a.zip" / member))
    assert drawn[1].unreadable == []


@pytest.mark.parametrize("keep", [0, 100, -30])
def test_inventory_damaged_zip_raises_with_its_name(keep: int, tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {f"{k}.png": png(k) for k in range(5)})
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:keep])
    store = FolderStore(tmp_path)
    with pytest.raises(DataError, match="not a complete zip") as raised:
        Inventory(store)
    assert str(tmp_path / "a.zip") in str(raised.value)
