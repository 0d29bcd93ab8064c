"""Images in tables: parquet and Arrow shards. A block is a row group, the unit of decompression."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agit_hub.data.domains.base import EmptyRowError, EncodedDomain, ProcessCache
from agit_hub.data.domains.columns import LIST, Rows, has_content, parent_rows, reach, steps_to
from agit_hub.data.listing import extension_of
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

# A window of row groups is shuffled together and held decompressed by each process.
_WINDOW_ROWS = 512
_WINDOW_BYTES = 32 * 2**20
_OPEN_SHARDS = 4


class RowGroup(NamedTuple):
    """The images of a row group that belong to a domain."""

    file: str
    group: int
    rows: Rows | None
    """Numbers of the images in the row group; None for all. Without lists, image n is that of row n."""
    length: int
    size: int
    """Bytes of the image column."""


class ArrowFile:
    """An Arrow file, such as `save_to_disk` of the datasets library writes, read like a parquet file.

    Args:
        path: A local file, which is mapped into memory.

    Raises:
        pyarrow.ArrowInvalid: If it is damaged.
    """

    def __init__(self, path: Path) -> None:
        mapped = pa.memory_map(str(path))
        try:
            reader = pa.ipc.open_file(mapped)
            batches = [reader.get_batch(n) for n in range(reader.num_record_batches)]
        except pa.ArrowInvalid:
            mapped.seek(0)
            reader = pa.ipc.open_stream(mapped)
            batches = list(reader)
        self.schema_arrow = reader.schema
        self.batches: list[pa.RecordBatch] = batches
        self.num_row_groups = len(batches)

    def read_row_group(self, group: int, columns: list[str], use_threads: bool) -> pa.Table:
        """Return columns of a record batch; a field of a struct comes with the whole struct."""
        tops = {steps_to(self.schema_arrow, column)[0] for column in columns}
        return pa.Table.from_batches([self.batches[group]]).select(sorted(map(str, tops)))

    def __enter__(self) -> "ArrowFile":
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: the mapping ends with the last array on it."""


class Footer(NamedTuple):
    """What is known of a shard without its data."""

    schema: pa.Schema
    rows: list[int]
    """Rows of each row group."""
    sizes: list[dict[str, int]]
    """Bytes of each column of each row group, decompressed, by its path in the file."""
    nulls: list[dict[str, int]]
    """Number of missing values of the same columns, if it is known."""


def open_shard(store: FileStore, file: str, fetch: bool = False) -> "pq.ParquetFile | ArrowFile":
    """Open a shard; an Arrow file is always fetched.

    Raises:
        DataError: If it is damaged.
    """
    kind = "Arrow" if extension_of(file) == ".arrow" else "parquet"
    try:
        if kind == "Arrow":
            return ArrowFile(store.fetch(file))
        return pq.ParquetFile(store.open(file, fetch=fetch), pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # from the disk, not the file
            raise
        raise DataError(f"{store.describe(file)} is not a complete {kind} file: {error}") from error


def read_footer(store: FileStore, file: str) -> Footer:
    """Return the footer of a shard, without fetching a parquet shard."""
    with open_shard(store, file) as opened:
        if isinstance(opened, ArrowFile):
            batches = opened.batches
            sizes = [{n: batch.column(n).nbytes for n in batch.schema.names} for batch in batches]
            rows = [batch.num_rows for batch in batches]
            return Footer(opened.schema_arrow, rows, sizes, [{} for _ in batches])
        found = opened.metadata
        groups = [found.row_group(number) for number in range(found.num_row_groups)]
        chunks = [[group.column(n) for n in range(group.num_columns)] for group in groups]
        return Footer(
            opened.schema_arrow,
            [group.num_rows for group in groups],
            [{c.path_in_schema: c.total_uncompressed_size for c in each} for each in chunks],
            [
                {
                    c.path_in_schema: c.statistics.null_count
                    for c in each
                    if c.is_stats_set and c.statistics.has_null_count
                }
                for each in chunks
            ],
        )


def row_groups(
    store: FileStore,
    file: str,
    footer: Footer,
    column: str,
    label: tuple[str, object] | None = None,
) -> list[RowGroup]:
    """Return the row groups of a shard that hold images of a domain.

    Args:
        store: The shards.
        file: The shard.
        footer: Its footer.
        column: The image column.
        label: A column, which is read, and the value that it must have.
    """
    steps = steps_to(footer.schema, column)
    rows = None if label is None else _matching_rows(store, file, footer, *label)
    parents = _parents(store, file, footer, steps) if LIST in steps else None
    groups = []
    for number, length in enumerate(footer.rows):
        chosen = None if rows is None else rows[number]
        if parents is not None:
            length = len(parents[number])
            if chosen is not None:
                chosen = np.flatnonzero(np.isin(parents[number], chosen)).astype(np.int32)
        length = length if chosen is None else len(chosen)
        if length:
            size = sum(footer.sizes[number][path] for path in _paths(footer, steps))
            groups.append(RowGroup(file, number, chosen, length, size))
    return groups


def read_values(store: FileStore, file: str, footer: Footer, column: str) -> list[list[Any]]:
    """Return the values of a column of a shard, for each row group."""
    steps = steps_to(footer.schema, column)
    with open_shard(store, file) as opened:
        return [
            reach(opened.read_row_group(group, [column], use_threads=False), steps).to_pylist()
            for group in range(opened.num_row_groups)
        ]


def count_missing(footer: Footer, column: str) -> int:
    """Return the number of rows of a shard that are known to hold no image."""
    paths = [column, f"{column}.bytes"]
    return sum(nulls.get(path, 0) for nulls in footer.nulls for path in paths)


def _matching_rows(
    store: FileStore, file: str, footer: Footer, column: str, value: object
) -> list[Rows]:
    """Return the numbers of the rows with a label, for each row group of a shard."""
    return [
        np.flatnonzero([label == value for label in labels]).astype(np.int32)
        for labels in read_values(store, file, footer, column)
    ]


def _parents(store: FileStore, file: str, footer: Footer, steps: list[str | None]) -> list[Rows]:
    """Return the row of each image in lists, for each row group.

    Where the images have paths, only those are read.
    """
    paths = _paths(footer, steps)
    columns = [path for path in paths if path.endswith(".path")][:1] or [str(steps[0])]
    with open_shard(store, file) as opened:
        if isinstance(opened, ArrowFile):
            columns = [str(steps[0])]
        return [
            parent_rows(opened.read_row_group(group, columns, use_threads=False), steps)
            for group in range(opened.num_row_groups)
        ]


def _paths(footer: Footer, steps: list[str | None]) -> list[str]:
    """Return the columns of a file that are below the way to an image column."""
    # The path of a list's elements has further parts, which depend on the writer.
    before = steps[: steps.index(LIST)] if LIST in steps else steps
    prefix = ".".join(map(str, before))
    known = footer.sizes[0] if footer.sizes else {}
    found = [path for path in known if path == prefix or path.startswith(f"{prefix}.")]
    return found or [path for path in known if path == steps[0]]


@dataclass(eq=False)
class ParquetDomain(EncodedDomain):
    """Images in a column of parquet or Arrow shards."""

    store: FileStore
    groups: Sequence[RowGroup]
    column: str
    remote: bool = False
    """Read row groups from the store each time without fetching the shards."""
    shorter_side: int | None = None
    mask_column: str | None = None
    """Holds the masks of some images, in their rows."""

    def __post_init__(self) -> None:
        self.blocks = len(self.groups)
        files = list(dict.fromkeys(group.file for group in self.groups))
        self.shards: Sequence[int] = [files.index(group.file) for group in self.groups]
        self.length = sum(group.length for group in self.groups)
        rows = max(self.length // self.blocks, 1)
        size = max(sum(group.size for group in self.groups) // self.blocks, 1)
        self.window = max(min(_WINDOW_ROWS // rows, _WINDOW_BYTES // size), 1)
        self._opened: ProcessCache[str, pq.ParquetFile | ArrowFile] = ProcessCache(_OPEN_SHARDS)
        self._decompressed: ProcessCache[int, pa.ChunkedArray] = ProcessCache(self.window)
        self._masks: ProcessCache[int, pa.ChunkedArray] = ProcessCache(self.window)

    def block_length(self, block: int) -> int:
        """Return the number of images in a block."""
        return self.groups[block].length

    def prepare(self, block: int) -> None:
        """Fetch the shard of a block in the background."""
        if not self.remote:
            self.store.fetch_ahead(self.groups[block].file)

    def encoded(self, block: int, row: int) -> Path | bytes:
        """Return the bytes of an image, or the file that its row names."""
        values = self._decompressed.get(block, partial(self._decompress, self.column))
        found = self._content(block, values[self._row(block, row)].as_py())
        if found is None:
            raise EmptyRowError("the row holds no image")
        return found

    def encoded_mask(self, block: int, row: int) -> Path | bytes | None:
        """Return the bytes of an image's mask, or the file that its row names."""
        if self.mask_column is None:
            return None
        values = self._masks.get(block, partial(self._decompress, self.mask_column))
        return self._content(block, values[self._row(block, row)].as_py())

    def count_masks(self) -> int:
        """Count the images that have a mask, from the whole column."""
        assert self.mask_column is not None
        count = 0
        for block, group in enumerate(self.groups):
            valid = has_content(self._decompress(self.mask_column, block)).to_numpy()
            count += int((valid if group.rows is None else valid[group.rows]).sum())
        return count

    def _content(self, block: int, value: Any) -> Path | bytes | None:
        data: bytes | None = value["bytes"] if isinstance(value, dict) else value
        if data:
            return data
        path = value.get("path") if isinstance(value, dict) else None
        file = path and self.store.find(path, self.groups[block].file)
        return self.store.fetch(file) if file else None

    def describe(self, block: int, row: int) -> str:
        """Return the shard, the row group and the row in it."""
        group = self.groups[block]
        file = self.store.describe(group.file)
        return f"{file}, row group {group.group}, row {self._row(block, row)}"

    def _row(self, block: int, row: int) -> int:
        rows = self.groups[block].rows
        return row if rows is None else int(rows[row])

    def _decompress(self, column: str, block: int) -> pa.ChunkedArray:
        pa.default_memory_pool().release_unused()  # or memory grows with the dataset
        file, group, *_ = self.groups[block]
        opened = self._opened.get(file, self._open)
        steps = steps_to(opened.schema_arrow, column)
        column = str(steps[0]) if LIST in steps else column
        return reach(opened.read_row_group(group, [column], use_threads=False), steps)

    def _open(self, file: str) -> "pq.ParquetFile | ArrowFile":
        return open_shard(self.store, file, fetch=not self.remote)
