"""ParquetDomain: windows, labels, memory and damaged files."""

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agit_hub.data.dataset import UnpairedDataset
from agit_hub.data.domains import base, parquet
from agit_hub.data.domains.parquet import ParquetDomain
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError
from tests.data.shards import (
    SIZE,
    all_row_groups,
    number_of,
    numbers,
    parquet_domain,
    png,
    ten_in_parquet,
    write_parquet,
)


def test_parquet_domain_block_is_a_row_group(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", list(range(8)))
    write_parquet(tmp_path / "b.parquet", list(range(8, 12)))
    write_parquet(tmp_path / "c.parquet", [])
    domain = parquet_domain(tmp_path)
    assert numbers(domain) == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9, 10], [11]]
    assert domain.length == 12 and list(domain.shards) == [0, 0, 0, 1, 1]
    assert domain.describe(2, 1) == f"{tmp_path / 'a.parquet'}, row group 2, row 1"
    assert domain.describe(4, 0) == f"{tmp_path / 'b.parquet'}, row group 1, row 0"


def test_parquet_domain_plain_bytes_column_is_read(tmp_path: Path) -> None:
    columns = {"label": [0, 1], "image": [png(3), png(4)], "other": [b"x", b"y"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert numbers(parquet_domain(tmp_path)) == [[3, 4]]


def test_parquet_domain_label_selects_rows_and_drops_empty_row_groups(tmp_path: Path) -> None:
    # Row groups of three rows: the second has no zebra.
    labels = [1, 0, 1, 0, 0, 0, 0, None, 1]
    words = [None if label is None else ("horse", "zebra")[label] for label in labels]
    write_parquet(tmp_path / "a.parquet", list(range(9)), label=labels, word=words)
    write_parquet(tmp_path / "b.parquet", [9, 10], label=[0, 1], word=["horse", "zebra"])
    for label in (("label", 1), ("word", "zebra")):
        domain = parquet_domain(tmp_path, label)
        assert numbers(domain) == [[0, 2], [8], [10]] and domain.length == 4
        assert domain.describe(0, 1) == f"{tmp_path / 'a.parquet'}, row group 0, row 2"
        assert domain.describe(1, 0) == f"{tmp_path / 'a.parquet'}, row group 2, row 2"
    others = parquet_domain(tmp_path, ("label", 0))
    assert numbers(others) == [[1], [3, 4, 5], [6], [9]]


@pytest.mark.parametrize("plain", [False, True])
def test_parquet_domain_row_without_image_is_skipped_and_named(plain: bool, tmp_path: Path) -> None:
    held = [30, None, 32, 33]
    if plain:
        values = [None if number is None else png(number) for number in held]
        pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet", row_group_size=3)
    else:
        write_parquet(tmp_path / "a.parquet", held)
    domain = parquet_domain(tmp_path)
    with pytest.raises(ValueError, match="no image"):
        domain.image(0, 1)
    samples = UnpairedDataset(domain, domain, SIZE, shuffle=False)
    drawn = [samples[position] for position in range(4)]
    assert [int(sample.source[0, 0, 0]) for sample in drawn] == [30, 32, 32, 33]
    assert [len(sample.unreadable) for sample in drawn] == [0, 2, 0, 0]  # of both domains
    assert f"{tmp_path / 'a.parquet'}, row group 0, row 1" in drawn[1].unreadable[0]


def test_parquet_domain_null_or_damaged_row_is_skipped_and_named(tmp_path: Path) -> None:
    images = [None, {"bytes": b"", "path": "a.png"}, {"bytes": b"no"}, {"bytes": png(40)}]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    domain = parquet_domain(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE, shuffle=False)
    drawn = samples[0]
    assert int(drawn.source[0, 0, 0]) == 40
    assert [f"row {row} (" in drawn.unreadable[row] for row in range(3)] == [True] * 3


# Size of a row of the shards below, decompressed.
_ROW_BYTES = 2**20


def _large_shards(root: Path) -> None:
    """Write six row groups, each of one highly compressible image of a megabyte."""
    for shard in range(2):
        images = [bytes([shard * 3 + k]) * _ROW_BYTES for k in range(3)]
        pq.write_table(pa.table({"image": images}), root / f"{shard}.parquet", row_group_size=1)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_parquet_domain_holds_at_most_a_window(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _large_shards(tmp_path)
    monkeypatch.setattr(parquet, "_WINDOW_BYTES", window * _ROW_BYTES + _ROW_BYTES // 2)
    monkeypatch.setattr(base, "decode_image", lambda data, *how: data[0])
    domain = parquet_domain(tmp_path)
    assert domain.window == window
    before = pa.total_allocated_bytes()
    for block in (*range(6), 3, 0, 5):
        assert domain.image(block, 0) == block
        held = pa.total_allocated_bytes() - before
        assert held < (window + 0.5) * _ROW_BYTES
    assert held > (window - 0.5) * _ROW_BYTES
    assert len(pickle.dumps(domain)) < _ROW_BYTES // 10


def test_parquet_domain_window_is_decompressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten_in_parquet(tmp_path)
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 6)
    domain = parquet_domain(tmp_path)
    assert domain.window == 2  # of 10 rows in 3 row groups
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, *args: Any, **options: Any) -> pa.Table:
        read.append(group)
        return original(self, group, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    for row in (0, 2, 1):
        assert [number_of(domain.image(block, row)) for block in (0, 1)] == [10 + row, 13 + row]
    assert read == [0, 1]
    # The least recently used row group is evicted.
    domain.image(0, 0)
    domain.image(2, 0)
    domain.image(0, 0)
    assert read == [0, 1, 0]
    domain.image(1, 0)
    assert read == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("rows_each", "row_bytes", "window"),
    [(500, 1, 2), (501, 1, 1), (5000, 1, 1), (50, 1, 20), (10, 200, 4), (100, 90, 1), (200, 90, 1)],
)
def test_parquet_domain_window_is_limited_by_rows_and_bytes(
    rows_each: int, row_bytes: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 1000)
    monkeypatch.setattr(parquet, "_WINDOW_BYTES", 9000)
    groups = [
        parquet.RowGroup("a.parquet", group, None, rows_each, rows_each * row_bytes)
        for group in range(50)
    ]
    assert ParquetDomain(FolderStore(Path(__file__).parent), groups, "image").window == window


def test_row_groups_size_counts_the_image_column_only(tmp_path: Path) -> None:
    _large_shards(tmp_path)
    for shard in tmp_path.iterdir():
        table = pq.read_table(shard)
        more = table.append_column("image_mask", table.column("image"))
        pq.write_table(more, shard, row_group_size=1)
    store = FolderStore(tmp_path)
    groups = all_row_groups(store)
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
def test_open_parquet_damaged_file_raises_with_its_name(damage: Any, tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [1, 2])
    write_parquet(tmp_path / "b.parquet", [3, 4])
    (tmp_path / "b.parquet").write_bytes(damage((tmp_path / "b.parquet").read_bytes()))
    with pytest.raises(DataError, match="not a complete parquet file") as raised:
        parquet_domain(tmp_path)
    assert str(tmp_path / "b.parquet") in str(raised.value)


def test_parquet_domain_damaged_row_group_is_skipped_and_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [50, 51, 52, 53])
    column = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    (tmp_path / "a.parquet").write_bytes(data)
    domain = parquet_domain(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE, shuffle=False)
    drawn = samples[0]
    assert int(drawn.source[0, 0, 0]) == 53
    assert f"{tmp_path / 'a.parquet'}, row group 0, row 0" in drawn.unreadable[0]
