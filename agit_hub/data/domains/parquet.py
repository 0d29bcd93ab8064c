"""Pictures in parquet shards. A block is a row group: what is decompressed at once."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from agit_hub.data.domains.files import decode, open_file
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

# What is shuffled together, and so what a process holds decompressed.
_WINDOW_ROWS = 512
_WINDOW_BYTES = 32 * 2**20
_CONNECTIONS = 2


class RowGroup(NamedTuple):
    """The rows of one row group that belong to a domain."""

    file: str
    group: int
    rows: npt.NDArray[np.int32] | None
    """Their numbers; None for all."""
    length: int
    size: int
    """Bytes of its picture column."""


def open_parquet(store: FileStore, file: str, cache: bool) -> pq.ParquetFile:
    """A shard, for its footer or its rows.

    Raises:
        DataError: If it is damaged.
    """
    try:
        return pq.ParquetFile(open_file(store, file, cache), pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the file's
            raise
        raise DataError(
            f"{store.describe(file)} is not a complete parquet file: {error}"
        ) from error


def row_groups(
    store: FileStore, files: Sequence[str], column: str, label: tuple[str, object] | None
) -> list[RowGroup]:
    """The row groups of shards, read off their footers; of rows with a label, off that column.

    Args:
        store: Where the shards lie.
        files: The shards.
        column: The pictures'.
        label: A column, and the value that it must have.
    """

    def read(file: str) -> list[RowGroup]:
        # Where it lies: a footer is a few kilobytes of a file that may have gigabytes.
        with open_parquet(store, file, cache=False) as opened:
            return _row_groups(opened, file, column, label)

    with ThreadPoolExecutor(_CONNECTIONS if store.fetches else 1) as pool:
        return [group for groups in pool.map(read, files) for group in groups]


def _row_groups(
    opened: pq.ParquetFile, file: str, column: str, label: tuple[str, object] | None
) -> list[RowGroup]:
    found = []
    for group in range(opened.metadata.num_row_groups):
        facts = opened.metadata.row_group(group)
        chunks = (facts.column(number) for number in range(facts.num_columns))
        size = sum(
            c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column
        )
        rows: npt.NDArray[np.int32] | None = None
        if label is not None:
            labels = opened.read_row_group(group, [label[0]], use_threads=False).column(0)
            matches = [value == label[1] for value in labels.to_pylist()]
            rows = np.flatnonzero(matches).astype(np.int32)
        length = facts.num_rows if rows is None else len(rows)
        if length:
            found.append(RowGroup(file, group, rows, length, size))
    return found


class ParquetDomain:
    """Pictures of a column of parquet shards.

    A process holds the row groups of a window decompressed, whatever the dataset's size.

    Args:
        store: Where the shards lie.
        groups: Their row groups.
        column: The pictures'.
        cache: False reads row groups where they lie, each time.
        shorter_side: Pixels that are needed in the end.
    """

    def __init__(
        self,
        store: FileStore,
        groups: Sequence[RowGroup],
        column: str,
        cache: bool = True,
        shorter_side: int | None = None,
    ) -> None:
        self._shorter_side = shorter_side
        self._store = store
        self._groups = groups
        self._column = column
        self._cache = cache
        self.blocks = len(groups)
        files = list(dict.fromkeys(group.file for group in groups))
        self.shards: Sequence[int] = [files.index(group.file) for group in groups]
        self.length = sum(group.length for group in groups)
        rows = max(self.length // self.blocks, 1)
        size = max(sum(group.size for group in groups) // self.blocks, 1)
        self.window = max(min(_WINDOW_ROWS // rows, _WINDOW_BYTES // size), 1)
        self._held: OrderedDict[int, pa.Array] = OrderedDict()

    def block_length(self, block: int) -> int:
        """Pictures in it."""
        return self._groups[block].length

    def prepare(self, block: int) -> None:
        """Fetch its shard in the background."""
        if self._cache:
            self._store.fetch_ahead(self._groups[block].file)

    def image(self, block: int, row: int) -> Image.Image:
        """The picture as RGB, upright."""
        group = self._groups[block]
        number = row if group.rows is None else int(group.rows[row])
        value = self._pictures(block)[number].as_py()
        data = value["bytes"] if isinstance(value, dict) else value
        if not data:
            raise ValueError("the row holds no picture")
        return decode(data, self._shorter_side)

    def describe(self, block: int, row: int) -> str:
        """The shard, the row group and the row."""
        group = self._groups[block]
        number = row if group.rows is None else int(group.rows[row])
        return f"{self._store.describe(group.file)}, row group {group.group}, row {number}"

    def _pictures(self, block: int) -> pa.ChunkedArray:
        if block in self._held:
            self._held.move_to_end(block)
            return self._held[block]
        while len(self._held) >= self.window:
            self._held.popitem(last=False)
            pa.default_memory_pool().release_unused()  # or memory grows with the dataset
        group = self._groups[block]
        opened = _opened(self._store, group.file, self._cache, os.getpid())
        table = opened.read_row_group(group.group, [self._column], use_threads=False)
        self._held[block] = table.column(0)
        return self._held[block]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_held": OrderedDict()}


@lru_cache(maxsize=4)
def _opened(store: FileStore, file: str, cache: bool, process: int) -> pq.ParquetFile:
    # Each process opens its own: a forked child shares its parent's place in a file.
    return open_parquet(store, file, cache)
