"""Images in parquet shards. A block is a row group, the unit of decompression."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from agit_hub.data.domains.base import ProcessCache
from agit_hub.data.images import decode_image
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

# A window of row groups is shuffled together and held decompressed by each process.
_WINDOW_ROWS = 512
_WINDOW_BYTES = 32 * 2**20
_OPEN_SHARDS = 4

Rows = npt.NDArray[np.int32]


class RowGroup(NamedTuple):
    """The rows of a row group that belong to a domain."""

    file: str
    group: int
    rows: Rows | None
    """Row numbers; None for all rows."""
    length: int
    size: int
    """Bytes of the image column."""


def open_parquet(store: FileStore, file: str, fetch: bool = False) -> pq.ParquetFile:
    """Open a shard.

    Raises:
        DataError: If it is damaged.
    """
    try:
        return pq.ParquetFile(store.open(file, fetch=fetch), pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # from the disk, not the file
            raise
        raise DataError(
            f"{store.describe(file)} is not a complete parquet file: {error}"
        ) from error


def read_footer(store: FileStore, file: str) -> pq.FileMetaData:
    """Return the footer of a shard, without fetching the shard."""
    with open_parquet(store, file) as opened:
        return opened.metadata


def row_groups(
    store: FileStore,
    file: str,
    footer: pq.FileMetaData,
    column: str,
    label: tuple[str, object] | None = None,
) -> list[RowGroup]:
    """Return the row groups of a shard that hold rows of a domain.

    Args:
        store: The shards.
        file: The shard.
        footer: Its footer.
        column: The image column.
        label: A column, which is read, and the value that it must have.
    """
    rows = None if label is None else _matching_rows(store, file, *label)
    groups = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        chunks = (group.column(index) for index in range(group.num_columns))
        size = sum(
            c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column
        )
        chosen = None if rows is None else rows[number]
        length = group.num_rows if chosen is None else len(chosen)
        if length:
            groups.append(RowGroup(file, number, chosen, length, size))
    return groups


def _matching_rows(store: FileStore, file: str, column: str, value: object) -> list[Rows]:
    """Return the numbers of the rows with a label, for each row group of a shard."""
    rows = []
    with open_parquet(store, file) as opened:
        for group in range(opened.num_row_groups):
            labels = opened.read_row_group(group, [column], use_threads=False).column(0)
            matches = [label == value for label in labels.to_pylist()]
            rows.append(np.flatnonzero(matches).astype(np.int32))
    return rows


@dataclass(eq=False)
class ParquetDomain:
    """Images in a column of parquet shards."""

    store: FileStore
    groups: Sequence[RowGroup]
    column: str
    remote: bool = False
    """Read row groups from the store each time without fetching the shards."""
    shorter_side: int | None = None
    """Pixels that are needed in the end; see `to_rgb`."""

    def __post_init__(self) -> None:
        self.blocks = len(self.groups)
        files = list(dict.fromkeys(group.file for group in self.groups))
        self.shards: Sequence[int] = [files.index(group.file) for group in self.groups]
        self.length = sum(group.length for group in self.groups)
        rows = max(self.length // self.blocks, 1)
        size = max(sum(group.size for group in self.groups) // self.blocks, 1)
        self.window = max(min(_WINDOW_ROWS // rows, _WINDOW_BYTES // size), 1)
        self._opened: ProcessCache[str, pq.ParquetFile] = ProcessCache(_OPEN_SHARDS)
        self._decompressed: ProcessCache[int, pa.ChunkedArray] = ProcessCache(self.window)

    def block_length(self, block: int) -> int:
        """Return the number of images in a block."""
        return self.groups[block].length

    def prepare(self, block: int) -> None:
        """Fetch the shard of a block in the background."""
        if not self.remote:
            self.store.fetch_ahead(self.groups[block].file)

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as upright RGB."""
        values = self._decompressed.get(block, self._decompress)
        value = values[self._row(block, row)].as_py()
        data = value["bytes"] if isinstance(value, dict) else value
        if not data:
            raise ValueError("the row holds no image")
        return decode_image(data, self.shorter_side)

    def describe(self, block: int, row: int) -> str:
        """Return the shard, row group and row of an image."""
        group = self.groups[block]
        shard = self.store.describe(group.file)
        return f"{shard}, row group {group.group}, row {self._row(block, row)}"

    def _row(self, block: int, row: int) -> int:
        rows = self.groups[block].rows
        return row if rows is None else int(rows[row])

    def _open(self, file: str) -> pq.ParquetFile:
        return open_parquet(self.store, file, fetch=not self.remote)

    def _decompress(self, block: int) -> pa.ChunkedArray:
        pa.default_memory_pool().release_unused()  # or memory grows with the dataset
        group = self.groups[block]
        opened = self._opened.get(group.file, self._open)
        return opened.read_row_group(group.group, [self.column], use_threads=False).column(0)
