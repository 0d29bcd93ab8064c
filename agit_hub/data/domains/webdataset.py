"""Pictures in webdataset shards: tars in which files of one name and several endings are a sample."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from PIL import Image

from agit_hub.data.domains.files import decode
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError


class Entry(NamedTuple):
    """A file in a tar."""

    path: str
    offset: int
    size: int


Sample = dict[str, Entry]
"""A sample's files by their endings: `jpg`, `cls`, `json`, ..."""


@lru_cache(maxsize=2)
def read_index(store: FileStore, file: str) -> list[Sample]:
    """The samples of a shard, which is fetched for it.

    Raises:
        DataError: If it is no complete tar.
    """
    samples: dict[str, Sample] = {}
    try:
        with tarfile.open(store.fetch(file), mode="r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                if member.isfile() and stem and ending:
                    entry = Entry(member.name, member.offset_data, member.size)
                    samples.setdefault(f"{folder}/{stem}", {})[ending.lower()] = entry
            _check_end(tar)
    except tarfile.TarError as error:
        raise DataError(f"{store.describe(file)} is not a complete tar: {error}.") from error
    return list(samples.values())


def _check_end(tar: tarfile.TarFile) -> None:
    # Any header but the first that is cut or damaged passes for the end, which is blocks of zeros.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("a header in the middle is damaged")


def read_entry(store: FileStore, file: str, entry: Entry) -> bytes:
    """A file's bytes, out of the shard on disk."""
    with store.fetch(file).open("rb") as opened:
        opened.seek(entry.offset)
        return opened.read(entry.size)


def read_label(store: FileStore, file: str, sample: Sample, column: str) -> str | None:
    """A sample's label as text: of `cls` the file's, of `json.KEY` a value in it.

    Raises:
        DataError: If the file is no JSON object.
    """
    ending, _, key = column.partition(".")
    if ending not in sample:
        return None
    text = read_entry(store, file, sample[ending]).decode("utf-8", errors="replace").strip()
    if not key:
        return text
    try:
        value = json.loads(text)[key]
    except KeyError:
        return None
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{store.describe(file)}/{sample[ending].path} is no JSON object: {error}."
        ) from error
    return None if value is None else str(value)


class WebDataset:
    """Pictures of webdataset shards. A block is a shard, counted when first fetched.

    Args:
        store: Where the shards lie.
        files: The shards.
        column: The ending of the pictures, such as `jpg`.
        label: A column and the value that it must have.
        shorter_side: Pixels that are needed in the end.
    """

    window = 1

    def __init__(
        self,
        store: FileStore,
        files: Sequence[str],
        column: str,
        label: tuple[str, str] | None,
        shorter_side: int | None = None,
    ) -> None:
        self._shorter_side = shorter_side
        self._store = store
        self._files = files
        self._column = column
        self._label = label
        self.blocks = len(files)
        self.shards: Sequence[int] = range(self.blocks)
        self._lengths: dict[int, int] = {}

    @property
    def length(self) -> int | None:
        """Pictures in all; None until every shard has been counted."""
        return sum(self._lengths.values()) if len(self._lengths) == self.blocks else None

    def block_length(self, block: int) -> int:
        """Pictures in a shard, which is fetched to count them."""
        if block not in self._lengths:
            self._lengths[block] = len(self._pictures(block))
            if self.length == 0:
                raise DataError(f"{self._store.name} holds no pictures {self._wanted()}.")
        return self._lengths[block]

    def prepare(self, block: int) -> None:
        """Fetch a shard in the background."""
        self._store.fetch_ahead(self._files[block])

    def image(self, block: int, row: int) -> Image.Image:
        """The picture as RGB, upright."""
        entry = self._pictures(block)[row]
        data = read_entry(self._store, self._files[block], entry)
        return decode(data, self._shorter_side)

    def describe(self, block: int, row: int) -> str:
        """The shard and the file in it."""
        return f"{self._store.describe(self._files[block])}/{self._pictures(block)[row].path}"

    def _wanted(self) -> str:
        return f"({self._column}{'' if self._label is None else ', {} = {}'.format(*self._label)})"

    def _pictures(self, block: int) -> list[Entry]:
        return _pictures(self._store, self._files[block], self._column, self._label)


@lru_cache(maxsize=8)
def _pictures(
    store: FileStore, file: str, column: str, label: tuple[str, str] | None
) -> list[Entry]:
    return list(_find(store, file, column, label))


def _find(
    store: FileStore, file: str, column: str, label: tuple[str, str] | None
) -> Iterator[Entry]:
    for sample in read_index(store, file):
        if column not in sample:
            continue
        if label is None or read_label(store, file, sample, label[0]) == label[1]:
            yield sample[column]
