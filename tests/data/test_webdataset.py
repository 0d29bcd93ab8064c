"""WebDataset: counting, labels and damaged tars."""

import json
from pathlib import Path
from typing import Any

import pytest

from agit_hub.data.dataset import UnpairedDataset
from agit_hub.data.domains.webdataset import read_index
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError
from tests.data.shards import SIZE, numbers, png, stream, ten_in_tars, web_domain, write_tar


def test_webdataset_tar_is_counted_when_needed(tmp_path: Path) -> None:
    domain = ten_in_tars(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE)
    assert domain.blocks == 3 and domain.length is None and samples.epoch is None
    assert len(set(domain.shards)) == 3
    assert domain.block_length(2) == 4 and domain.length is None
    assert domain.block_length(0) == 3 and domain.length is None
    assert domain.block_length(0) == 3 and domain.length is None
    assert domain.block_length(1) == 3 and domain.length == 10 and samples.epoch == 10


def test_webdataset_later_tar_may_be_missing(tmp_path: Path) -> None:
    domain = ten_in_tars(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE, shuffle=False)
    for later in ("1.tar", "2.tar"):
        (tmp_path / later).unlink()
    assert [int(samples[k].source[0, 0, 0]) for k in (0, 1, 2)] == [10, 11, 12]


def test_webdataset_describe_gives_tar_and_member(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"deep/x.png": png(1), "deep/y.left.png": png(2)})
    assert web_domain(tmp_path).describe(0, 0) == str(tmp_path / "a.tar" / "deep" / "x.png")
    left = web_domain(tmp_path, "left.png")
    assert numbers(left) == [[2]]
    assert left.describe(0, 0) == str(tmp_path / "a.tar" / "deep" / "y.left.png")


def test_read_index_groups_files_of_one_name(tmp_path: Path) -> None:
    files = {
        "x/1.png": png(1),
        "y/1.png": png(2),
        "x/1.cls": b"a",
        "y/1.CLS": b"b",
        "x/.png": png(3),
        "x/noending": b"",
        "x/._1.png": b"a Mac's own",
        "v1.0/2.left.PNG": png(4),
    }
    write_tar(tmp_path / "a.tar", files)
    samples = read_index(FolderStore(tmp_path), "a.tar")
    assert [{ending: entry.path for ending, entry in sample.items()} for sample in samples] == [
        {"png": "x/1.png", "cls": "x/1.cls"},
        {"png": "y/1.png", "cls": "y/1.CLS"},
        {"left.png": "v1.0/2.left.PNG"},
    ]


def _labelled(root: Path) -> None:
    facts = [{"kind": "horse", "age": 3}, {"kind": "zebra", "age": 3}, {"age": 4}]
    files: dict[str, bytes] = {}
    for number, (cls, fact) in enumerate(zip((b"0", b"1\n", b"1"), facts, strict=True)):
        files[f"{number}.png"] = png(number)
        files[f"{number}.cls"] = cls
        files[f"{number}.json"] = json.dumps(fact).encode()
    write_tar(root / "a.tar", files)
    write_tar(root / "b.tar", {"3.png": png(3), "4.cls": b"1", "5.png": png(5), "5.cls": b"1"})


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        (None, [[0, 1, 2], [3, 5]]),
        (("cls", "0"), [[0], []]),
        (("cls", "1"), [[1, 2], [5]]),
        (("json.kind", "zebra"), [[1], []]),
        (("json.age", "3"), [[0, 1], []]),
    ],
)
def test_webdataset_label_selects_samples(
    label: tuple[str, str] | None, wanted: list[list[int]], tmp_path: Path
) -> None:
    _labelled(tmp_path)
    domain = web_domain(tmp_path, label=label)
    assert numbers(domain) == wanted and domain.length == sum(map(len, wanted))


@pytest.mark.parametrize(
    ("column", "label", "wanted"),
    [("jpg", None, "jpg"), ("png", ("cls", "7"), "cls = 7"), ("png", ("txt", "a"), "txt = a")],
)
def test_webdataset_without_matching_samples_raises(
    column: str, label: tuple[str, str] | None, wanted: str, tmp_path: Path
) -> None:
    _labelled(tmp_path)
    domain = web_domain(tmp_path, column, label)
    samples = UnpairedDataset(domain, domain, SIZE)
    with pytest.raises(DataError, match="no images") as raised:
        samples[0]
    assert str(tmp_path) in str(raised.value) and wanted in str(raised.value)


def test_webdataset_damaged_image_is_skipped_and_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.png": b"no image", "1.png": png(61)})
    domain = web_domain(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE, shuffle=False)
    drawn = samples[0]
    assert int(drawn.source[0, 0, 0]) == 61
    assert drawn.unreadable[0].startswith(str(tmp_path / "a.tar" / "0.png"))


# A member is a header block of 512 bytes, followed by its data in blocks of 512 bytes.


def _overwritten(data: bytes, start: int, length: int) -> bytes:
    return data[:start] + b"\x07" * length + data[start + length :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"not a tar" * 200, id="text"),
        pytest.param(lambda data: data[:100], id="in-the-first-header"),
        pytest.param(lambda data: data[:514], id="in-the-first-file"),
        pytest.param(lambda data: data[:1538], id="in-the-second-file"),
        pytest.param(lambda data: _overwritten(data, 0, 300), id="first-header-overwritten"),
        pytest.param(lambda data: data[:1100], id="in-the-second-header"),
        pytest.param(lambda data: _overwritten(data, 1024, 300), id="header-overwritten"),
    ],
)
def test_webdataset_damaged_tar_raises_with_its_name(damage: Any, tmp_path: Path) -> None:
    files = {f"{k}.png": png(k) for k in range(3)}
    assert all(len(data) <= 512 for data in files.values())
    write_tar(tmp_path / "a.tar", files)
    (tmp_path / "a.tar").write_bytes(damage((tmp_path / "a.tar").read_bytes()))
    domain = web_domain(tmp_path)
    with pytest.raises(DataError, match="not a complete tar") as raised:
        domain.block_length(0)
    assert str(tmp_path / "a.tar") in str(raised.value)


def test_webdataset_damaged_tar_in_a_worker_raises_with_its_name(tmp_path: Path) -> None:
    domain = ten_in_tars(tmp_path)
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[:700])
    samples = UnpairedDataset(domain, domain, SIZE, shuffle=False)
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"1\.tar is not a complete tar"):
            stream(samples, workers)


@pytest.mark.parametrize("text", [b"{broken", b"[1, 2]"])
def test_webdataset_damaged_label_raises_with_the_tar(text: bytes, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.png": png(0), "0.json": text})
    domain = web_domain(tmp_path, label=("json.kind", "horse"))
    with pytest.raises(DataError, match=r"a\.tar"):
        domain.block_length(0)
