"""Pictures out of zips, parquet shards and webdataset shards: each the right one, or a reason."""

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from agit_hub.data import parquet
from agit_hub.data.domains import Domain
from agit_hub.data.errors import DataError
from agit_hub.data.files import FilesDomain, members
from agit_hub.data.parquet import ParquetDomain, row_groups
from agit_hub.data.samples import RunPositions, UnpairedSamples, collate, load
from agit_hub.data.stores import FolderStore
from agit_hub.data.webdataset import WebDataset, read_index

SIZE = 16


def _picture(number: int) -> bytes:
    """A picture that is its number all over."""
    file = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (number, 255 - number, number // 2)).save(file, "PNG")
    return file.getvalue()


def _number(picture: Image.Image) -> int:
    assert picture.mode == "RGB" and picture.size == (SIZE, SIZE)
    number = int(np.asarray(picture)[0, 0, 0])
    assert np.array_equal(np.unique(np.asarray(picture)[..., 1]), [255 - number])
    return number


def _numbers(domain: Domain) -> list[list[int]]:
    """The pictures of each block."""
    return [
        [_number(domain.picture(block, row)) for row in range(domain.block_length(block))]
        for block in range(domain.blocks)
    ]


def _zip(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)


def _tar(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as opened:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


def _parquet(
    path: Path, numbers: Sequence[int | None], rows: int = 3, **columns: list[Any]
) -> None:
    """A shard of pictures as the datasets library writes them; of None a row without a picture."""
    images = [
        {"bytes": None if number is None else _picture(number), "path": None} for number in numbers
    ]
    table = pa.table({"image": images, **columns})
    pq.write_table(table, path, row_group_size=rows)


def _parquet_domain(root: Path, label: tuple[str, object] | None = None) -> ParquetDomain:
    store = FolderStore(root)
    return ParquetDomain(store, row_groups(store, store.files, "image", label), "image")


def _files_domain(root: Path) -> FilesDomain:
    store = FolderStore(root)
    return FilesDomain(store, members(store, store.files))


def _web_domain(
    root: Path, column: str = "png", label: tuple[str, str] | None = None
) -> WebDataset:
    store = FolderStore(root)
    return WebDataset(store, store.files, column, label)


# Each writes ten pictures, 10 to 19, in three blocks, and returns their domain.


def _ten_in_zips(root: Path) -> Domain:
    _zip(root / "a.zip", {f"{k}.png": _picture(k) for k in (10, 11, 12)})
    _zip(root / "b" / "b.zip", {f"deep/{k}.png": _picture(k) for k in (13, 14, 15)})
    for k in (16, 17, 18, 19):
        (root / f"c{k}.png").write_bytes(_picture(k))
    return _files_domain(root)


def _ten_in_parquet(root: Path) -> Domain:
    _parquet(root / "0.parquet", [10, 11, 12, 13, 14, 15])
    _parquet(root / "1.parquet", [16, 17, 18, 19], rows=4)
    return _parquet_domain(root)


def _ten_in_tars(root: Path) -> Domain:
    for shard, numbers in enumerate(((10, 11, 12), (13, 14, 15), (16, 17, 18, 19))):
        _tar(root / f"{shard}.tar", {f"{k}.png": _picture(k) for k in numbers})
    return _web_domain(root)


BLOCKS = [[10, 11, 12], [13, 14, 15], [16, 17, 18, 19]]
kinds = pytest.mark.parametrize("write", [_ten_in_zips, _ten_in_parquet, _ten_in_tars])


# What all of them have in common.


@kinds
def test_every_picture_is_the_right_one_in_any_order(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    assert domain.blocks == 3 and _numbers(domain) == BLOCKS
    assert domain.length == 10
    assert [domain.block_length(block) for block in range(3)] == [3, 3, 4]
    assert len(domain.shards) == 3
    fresh = write(tmp_path)
    for block, row in ((2, 3), (0, 0), (1, 2), (2, 0), (0, 2), (1, 0)):
        fresh.prepare(block)
        assert _number(fresh.picture(block, row)) == BLOCKS[block][row]


@kinds
def test_a_pickled_domain_gives_the_same_pictures_and_carries_none(
    write: Any, tmp_path: Path
) -> None:
    domain = write(tmp_path)
    fresh = len(pickle.dumps(domain))
    assert _numbers(domain) == BLOCKS
    used = pickle.dumps(domain)
    assert len(used) < fresh + 100  # a webdataset knows its lengths by now
    assert b"PNG" not in used and b"IDAT" not in used
    assert _numbers(pickle.loads(used)) == BLOCKS
    assert _numbers(domain) == BLOCKS


def _stream(samples: UnpairedSamples, workers: int) -> list[object]:
    batches = islice(load(samples, RunPositions(4, 0, 1, 0), workers), 6)
    return [(b.source.tolist(), b.target.tolist(), b.unreadable) for b in batches]


@kinds
def test_workers_give_the_same_pictures(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    samples = UnpairedSamples(domain, domain, SIZE, seed=1)
    forked = _stream(samples, 2)  # the files are not opened yet
    alone = _stream(samples, 0)
    assert forked == alone
    assert _stream(samples, 2) == alone  # the files were opened before the workers were forked
    sources = [samples[position].source for position in range(10)]
    assert sorted(int(source[0, 0, 0]) for source in sources) == list(range(10, 20))


def test_workers_that_share_nothing_give_the_same_pictures(tmp_path: Path) -> None:
    for folder in ("parquet", "zips"):
        (tmp_path / folder).mkdir()
    domains = _ten_in_parquet(tmp_path / "parquet"), _ten_in_zips(tmp_path / "zips")
    samples = UnpairedSamples(*domains, SIZE)
    alone = collate([samples[position] for position in range(8)])
    spawned = DataLoader(
        samples,
        batch_sampler=[[0, 1, 2, 3], [4, 5, 6, 7]],
        num_workers=2,
        collate_fn=collate,
        multiprocessing_context="spawn",
    )
    first, second = spawned
    assert first.source.tolist() + second.source.tolist() == alone.source.tolist()
    assert first.target.tolist() + second.target.tolist() == alone.target.tolist()


@pytest.mark.parametrize("kind", ["zip", "parquet"])
def test_processes_forked_midway_do_not_disturb_each_other(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What follows a picture is not looked at, but makes reading it take long enough to be disturbed.
    noise = np.random.default_rng(0).bytes(200_000)
    pictures = [_picture(number) + noise for number in range(8)]
    domain: Domain
    if kind == "zip":
        _zip(tmp_path / "a.zip", {f"{number}.png": data for number, data in enumerate(pictures)})
        domain = _files_domain(tmp_path)
    else:
        monkeypatch.setattr(parquet, "_WINDOW_ROWS", 1)
        pq.write_table(pa.table({"image": pictures}), tmp_path / "a.parquet", row_group_size=1)
        domain = _parquet_domain(tmp_path)
    assert _number(domain.picture(0, 0)) == 0
    children = [_fork_and_read(domain) for _ in range(2)]
    assert _reads_rightly(domain)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def _reads_rightly(domain: Domain) -> bool:
    return all([*chain(*_numbers(domain))] == list(range(8)) for _ in range(10))


def _fork_and_read(domain: Domain) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if _reads_rightly(domain) else 1)
        finally:
            os._exit(2)
    return child


@kinds
def test_what_describes_a_picture_describes_no_other(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    described = [
        domain.describe(block, row)
        for block, numbers in enumerate(BLOCKS)
        for row in range(len(numbers))
    ]
    assert len(set(described)) == 10 and all(text.startswith(str(tmp_path)) for text in described)


# Zips.


def test_a_picture_in_a_zip_is_described_by_zip_and_member(tmp_path: Path) -> None:
    domain = _ten_in_zips(tmp_path)
    assert domain.describe(1, 0) == str(tmp_path / "b" / "b.zip" / "deep" / "13.png")
    assert domain.describe(2, 3) == str(tmp_path / "c19.png")


def test_a_zip_is_a_block_and_so_are_loose_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_picture(1))
    (tmp_path / "b.png").write_bytes(_picture(2))
    _zip(tmp_path / "c.zip", {"z.png": _picture(4), "a.png": _picture(3), "read.me": b"horses"})
    _zip(tmp_path / "d.zip", {"read.me": b"no pictures"})
    (tmp_path / "e.png").write_bytes(_picture(5))
    domain = _files_domain(tmp_path)
    assert _numbers(domain) == [[1, 2], [3, 4], [5]] and domain.length == 5
    assert len(set(domain.shards)) == 3


def test_a_damaged_member_of_a_zip_is_passed_over_and_named(tmp_path: Path) -> None:
    _zip(tmp_path / "a.zip", {"0.png": _picture(20), "1.png": _picture(21), "2.png": b"no"})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        start = opened.infolist()[0].header_offset
    data[start + 40 : start + 60] = bytes(20)
    (tmp_path / "a.zip").write_bytes(data)
    domain = _files_domain(tmp_path)
    samples = UnpairedSamples(domain, domain, SIZE, shuffle=False, flip=False)
    drawn = [samples[position] for position in range(3)]
    assert [int(sample.source[0, 0, 0]) for sample in drawn] == [21, 21, 21]
    for sample, member in ((drawn[0], "0.png"), (drawn[2], "2.png")):
        assert sample.unreadable[0].startswith(str(tmp_path / "a.zip" / member))
    assert drawn[1].unreadable == []


@pytest.mark.parametrize("keep", [0, 100, -30])
def test_a_damaged_zip_is_refused_by_name(keep: int, tmp_path: Path) -> None:
    _zip(tmp_path / "a.zip", {f"{k}.png": _picture(k) for k in range(5)})
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:keep])
    store = FolderStore(tmp_path)
    with pytest.raises(DataError, match="not a complete zip") as refusal:
        members(store, store.files)
    assert str(tmp_path / "a.zip") in str(refusal.value)


# Parquet.


def test_a_block_is_a_row_group(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", list(range(8)))
    _parquet(tmp_path / "b.parquet", list(range(8, 12)))
    _parquet(tmp_path / "c.parquet", [])
    domain = _parquet_domain(tmp_path)
    assert _numbers(domain) == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9, 10], [11]]
    assert domain.length == 12 and list(domain.shards) == [0, 0, 0, 1, 1]
    assert domain.describe(2, 1) == f"{tmp_path / 'a.parquet'}, row group 2, row 1"
    assert domain.describe(4, 0) == f"{tmp_path / 'b.parquet'}, row group 1, row 0"


def test_pictures_may_be_plain_bytes_or_lie_beside_other_columns(tmp_path: Path) -> None:
    columns = {"label": [0, 1], "image": [_picture(3), _picture(4)], "other": [b"x", b"y"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert _numbers(_parquet_domain(tmp_path)) == [[3, 4]]


def test_a_label_chooses_rows_and_leaves_out_row_groups_without_any(tmp_path: Path) -> None:
    # Row groups of three: the second has no zebra.
    labels = [1, 0, 1, 0, 0, 0, 0, None, 1]
    words = [None if label is None else ("horse", "zebra")[label] for label in labels]
    _parquet(tmp_path / "a.parquet", list(range(9)), label=labels, word=words)
    _parquet(tmp_path / "b.parquet", [9, 10], label=[0, 1], word=["horse", "zebra"])
    for label in (("label", 1), ("word", "zebra")):
        domain = _parquet_domain(tmp_path, label)
        assert _numbers(domain) == [[0, 2], [8], [10]] and domain.length == 4
        assert domain.describe(0, 1) == f"{tmp_path / 'a.parquet'}, row group 0, row 2"
        assert domain.describe(1, 0) == f"{tmp_path / 'a.parquet'}, row group 2, row 2"
    others = _parquet_domain(tmp_path, ("label", 0))
    assert _numbers(others) == [[1], [3, 4, 5], [6], [9]]


@pytest.mark.parametrize("plain", [False, True])
def test_a_row_without_a_picture_is_passed_over_and_named(plain: bool, tmp_path: Path) -> None:
    numbers = [30, None, 32, 33]
    if plain:
        values = [None if number is None else _picture(number) for number in numbers]
        pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet", row_group_size=3)
    else:
        _parquet(tmp_path / "a.parquet", numbers)
    domain = _parquet_domain(tmp_path)
    with pytest.raises(ValueError, match="no picture"):
        domain.picture(0, 1)
    samples = UnpairedSamples(domain, domain, SIZE, shuffle=False)
    drawn = [samples[position] for position in range(4)]
    assert [int(sample.source[0, 0, 0]) for sample in drawn] == [30, 32, 32, 33]
    assert [len(sample.unreadable) for sample in drawn] == [0, 2, 0, 0]  # of both domains
    assert f"{tmp_path / 'a.parquet'}, row group 0, row 1" in drawn[1].unreadable[0]


def test_a_row_that_is_null_itself_or_damaged_is_passed_over(tmp_path: Path) -> None:
    images = [None, {"bytes": b"", "path": "a.png"}, {"bytes": b"no"}, {"bytes": _picture(40)}]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    domain = _parquet_domain(tmp_path)
    samples = UnpairedSamples(domain, domain, SIZE, shuffle=False)
    drawn = samples[0]
    assert int(drawn.source[0, 0, 0]) == 40
    assert [f"row {row} (" in drawn.unreadable[row] for row in range(3)] == [True] * 3


# A row of the shards below, decompressed.
_ROW_BYTES = 2**20


def _large_shards(root: Path) -> None:
    """Six row groups, each of one picture of a megabyte, that compress to next to nothing."""
    for shard in range(2):
        pictures = [bytes([shard * 3 + k]) * _ROW_BYTES for k in range(3)]
        pq.write_table(pa.table({"image": pictures}), root / f"{shard}.parquet", row_group_size=1)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_no_more_than_a_window_is_held(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _large_shards(tmp_path)
    monkeypatch.setattr(parquet, "_WINDOW_BYTES", window * _ROW_BYTES + _ROW_BYTES // 2)
    monkeypatch.setattr(parquet, "decode", lambda data, side: data[0])
    domain = _parquet_domain(tmp_path)
    assert domain.window == window
    before = pa.total_allocated_bytes()
    for block in (*range(6), 3, 0, 5):
        assert domain.picture(block, 0) == block
        held = pa.total_allocated_bytes() - before
        assert held < (window + 0.5) * _ROW_BYTES
    assert held > (window - 0.5) * _ROW_BYTES
    assert len(pickle.dumps(domain)) < _ROW_BYTES // 10


def test_a_window_is_decompressed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _ten_in_parquet(tmp_path)
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 6)
    domain = _parquet_domain(tmp_path)
    assert domain.window == 2  # of 10 rows in 3 row groups
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, *args: Any, **options: Any) -> pa.Table:
        read.append(group)
        return original(self, group, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    for row in (0, 2, 1):
        assert [_number(domain.picture(block, row)) for block in (0, 1)] == [10 + row, 13 + row]
    assert read == [0, 1]
    # The one that was needed longest ago gives way.
    domain.picture(0, 0)
    domain.picture(2, 0)
    domain.picture(0, 0)
    assert read == [0, 1, 0]
    domain.picture(1, 0)
    assert read == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("rows_each", "row_bytes", "window"),
    [(500, 1, 2), (501, 1, 1), (5000, 1, 1), (50, 1, 20), (10, 200, 4), (100, 90, 1), (200, 90, 1)],
)
def test_a_window_is_bound_by_its_rows_and_by_its_bytes(
    rows_each: int, row_bytes: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 1000)
    monkeypatch.setattr(parquet, "_WINDOW_BYTES", 9000)
    groups = [
        parquet.RowGroup("a.parquet", group, None, rows_each, rows_each * row_bytes)
        for group in range(50)
    ]
    assert ParquetDomain(FolderStore(Path(__file__).parent), groups, "image").window == window


def test_the_size_of_a_row_group_is_that_of_its_pictures(tmp_path: Path) -> None:
    _large_shards(tmp_path)
    for shard in tmp_path.iterdir():
        table = pq.read_table(shard)
        more = table.append_column("image_mask", table.column("image"))
        pq.write_table(more, shard, row_group_size=1)
    store = FolderStore(tmp_path)
    groups = row_groups(store, store.files, "image", None)
    assert len(groups) == 6
    assert all(_ROW_BYTES <= group.size < 1.1 * _ROW_BYTES for group in groups)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"not a table", id="short"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data[:-1], id="all-but-one"),
        pytest.param(lambda data: data[:-60] + b"\xff" * 52 + data[-8:], id="footer"),
    ],
)
def test_a_damaged_parquet_file_is_refused_by_name(damage: Any, tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", [1, 2])
    _parquet(tmp_path / "b.parquet", [3, 4])
    (tmp_path / "b.parquet").write_bytes(damage((tmp_path / "b.parquet").read_bytes()))
    with pytest.raises(DataError, match="not a complete parquet file") as refusal:
        _parquet_domain(tmp_path)
    assert str(tmp_path / "b.parquet") in str(refusal.value)


def test_a_damaged_row_group_is_passed_over_and_named(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", [50, 51, 52, 53])
    column = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    (tmp_path / "a.parquet").write_bytes(data)
    domain = _parquet_domain(tmp_path)
    samples = UnpairedSamples(domain, domain, SIZE, shuffle=False)
    drawn = samples[0]
    assert int(drawn.source[0, 0, 0]) == 53
    assert f"{tmp_path / 'a.parquet'}, row group 0, row 0" in drawn.unreadable[0]


# Webdataset.


def test_a_tar_is_counted_when_it_is_needed(tmp_path: Path) -> None:
    domain = _ten_in_tars(tmp_path)
    samples = UnpairedSamples(domain, domain, SIZE)
    assert domain.blocks == 3 and domain.length is None and samples.epoch is None
    assert len(set(domain.shards)) == 3
    assert domain.block_length(2) == 4 and domain.length is None
    assert domain.block_length(0) == 3 and domain.length is None
    assert domain.block_length(0) == 3 and domain.length is None
    assert domain.block_length(1) == 3 and domain.length == 10 and samples.epoch == 10


def test_a_later_tar_need_not_be_there_yet(tmp_path: Path) -> None:
    domain = _ten_in_tars(tmp_path)
    samples = UnpairedSamples(domain, domain, SIZE, shuffle=False)
    for later in ("1.tar", "2.tar"):
        (tmp_path / later).unlink()
    assert [int(samples[k].source[0, 0, 0]) for k in (0, 1, 2)] == [10, 11, 12]


def test_a_picture_in_a_tar_is_described_by_tar_and_member(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"deep/x.png": _picture(1), "deep/y.left.png": _picture(2)})
    assert _web_domain(tmp_path).describe(0, 0) == str(tmp_path / "a.tar" / "deep" / "x.png")
    left = _web_domain(tmp_path, "left.png")
    assert _numbers(left) == [[2]]
    assert left.describe(0, 0) == str(tmp_path / "a.tar" / "deep" / "y.left.png")


def test_a_sample_is_the_files_of_one_name(tmp_path: Path) -> None:
    files = {
        "x/1.png": _picture(1),
        "y/1.png": _picture(2),
        "x/1.cls": b"a",
        "y/1.CLS": b"b",
        "x/.png": _picture(3),
        "x/noending": b"",
        "x/._1.png": b"a Mac's own",
        "v1.0/2.left.PNG": _picture(4),
    }
    _tar(tmp_path / "a.tar", files)
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
        files[f"{number}.png"] = _picture(number)
        files[f"{number}.cls"] = cls
        files[f"{number}.json"] = json.dumps(fact).encode()
    _tar(root / "a.tar", files)
    _tar(root / "b.tar", {"3.png": _picture(3), "4.cls": b"1", "5.png": _picture(5), "5.cls": b"1"})


@pytest.mark.parametrize(
    ("label", "numbers"),
    [
        (None, [[0, 1, 2], [3, 5]]),
        (("cls", "0"), [[0], []]),
        (("cls", "1"), [[1, 2], [5]]),
        (("json.kind", "zebra"), [[1], []]),
        (("json.age", "3"), [[0, 1], []]),
    ],
)
def test_a_label_chooses_samples(
    label: tuple[str, str] | None, numbers: list[list[int]], tmp_path: Path
) -> None:
    _labelled(tmp_path)
    domain = _web_domain(tmp_path, label=label)
    assert _numbers(domain) == numbers and domain.length == sum(map(len, numbers))


@pytest.mark.parametrize(
    ("column", "label", "wanted"),
    [("jpg", None, "jpg"), ("png", ("cls", "7"), "cls = 7"), ("png", ("txt", "a"), "txt = a")],
)
def test_tars_of_other_things_are_refused(
    column: str, label: tuple[str, str] | None, wanted: str, tmp_path: Path
) -> None:
    _labelled(tmp_path)
    domain = _web_domain(tmp_path, column, label)
    samples = UnpairedSamples(domain, domain, SIZE)
    with pytest.raises(DataError, match="no pictures") as refusal:
        samples[0]
    assert str(tmp_path) in str(refusal.value) and wanted in str(refusal.value)


def test_a_damaged_picture_in_a_tar_is_passed_over_and_named(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"0.png": b"no picture", "1.png": _picture(61)})
    domain = _web_domain(tmp_path)
    samples = UnpairedSamples(domain, domain, SIZE, shuffle=False)
    drawn = samples[0]
    assert int(drawn.source[0, 0, 0]) == 61
    assert drawn.unreadable[0].startswith(str(tmp_path / "a.tar" / "0.png"))


# A member is a block of 512 bytes that describes it, and its data in such blocks.


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
def test_a_damaged_tar_is_refused_by_name(damage: Any, tmp_path: Path) -> None:
    files = {f"{k}.png": _picture(k) for k in range(3)}
    assert all(len(data) <= 512 for data in files.values())
    _tar(tmp_path / "a.tar", files)
    (tmp_path / "a.tar").write_bytes(damage((tmp_path / "a.tar").read_bytes()))
    domain = _web_domain(tmp_path)
    with pytest.raises(DataError, match="not a complete tar") as refusal:
        domain.block_length(0)
    assert str(tmp_path / "a.tar") in str(refusal.value)


def test_a_damaged_tar_ends_a_run_with_its_name_out_of_a_worker_too(tmp_path: Path) -> None:
    domain = _ten_in_tars(tmp_path)
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[:700])
    samples = UnpairedSamples(domain, domain, SIZE, shuffle=False)
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"1\.tar is not a complete tar"):
            _stream(samples, workers)


@pytest.mark.parametrize("text", [b"{broken", b"[1, 2]"])
def test_a_damaged_label_is_refused_by_the_tars_name(text: bytes, tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"0.png": _picture(0), "0.json": text})
    domain = _web_domain(tmp_path, label=("json.kind", "horse"))
    with pytest.raises(DataError, match=r"a\.tar"):
        domain.block_length(0)
