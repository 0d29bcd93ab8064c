"""Images in webdataset shards: tars in which files of one name and several extensions form a sample."""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from agit_hub.data.domains.base import ProcessCache
from agit_hub.data.images import decode_image
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

_INDEXED_SHARDS = 8


class Entry(NamedTuple):
    """A file in a tar."""

    path: str
    offset: int
    size: int


Sample = dict[str, Entry]
"""The files of a sample by extension: `jpg`, `cls`, `json`, ..."""


def read_index(store: FileStore, file: str) -> list[Sample]:
    """Fetch a shard and return its samples.

    Raises:
        DataError: If it is not a complete tar.
    """
    samples: dict[str, Sample] = {}
    try:
        with tarfile.open(store.fetch(file), mode="r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if member.isfile() and stem and extension:
                    entry = Entry(member.name, member.offset_data, member.size)
                    samples.setdefault(f"{folder}/{stem}", {})[extension.lower()] = entry
            _check_end(tar)
    except tarfile.TarError as error:
        raise DataError(f"{store.describe(file)} is not a complete tar: {error}.") from error
    return list(samples.values())


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile takes any damaged header but the first for the end, which is blocks of zeros.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("a header in the middle is damaged")


def read_entry(store: FileStore, file: str, entry: Entry) -> bytes:
    """Return the bytes of a file in a shard."""
    with store.open(file, fetch=True) as opened:
        opened.seek(entry.offset)
        return opened.read(entry.size)


def read_label(store: FileStore, file: str, sample: Sample, column: str) -> str | None:
    """Return the label of a sample: for `cls` the text of that file, for `json.KEY` a value in it.

    Raises:
        DataError: If the file is not a JSON object.
    """
    extension, _, key = column.partition(".")
    if extension not in sample:
        return None
    text = read_entry(store, file, sample[extension]).decode("utf-8", errors="replace").strip()
    if not key:
        return text
    try:
        value = json.loads(text)[key]
    except KeyError:
        return None
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{store.describe(file)}/{sample[extension].path} is not a JSON object: {error}."
        ) from error
    return None if value is None else str(value)


@dataclass(eq=False)
class WebDataset:
    """Images of webdataset shards. A block is a shard, counted when it is first fetched."""

    store: FileStore
    files: Sequence[str]
    """The shards."""
    column: str
    """The extension of the images, such as `jpg`."""
    label: tuple[str, str] | None
    """A column and the value that it must have."""
    shorter_side: int | None = None
    """Pixels that are needed in the end; see `to_rgb`."""
    window = 1

    def __post_init__(self) -> None:
        self.blocks = len(self.files)
        self.shards: Sequence[int] = range(self.blocks)
        self._lengths: dict[int, int] = {}
        self._entries: ProcessCache[int, list[Entry]] = ProcessCache(_INDEXED_SHARDS)

    @property
    def length(self) -> int | None:
        """Number of images; None until every shard has been counted."""
        return sum(self._lengths.values()) if len(self._lengths) == self.blocks else None

    def block_length(self, block: int) -> int:
        """Return the number of images in a shard, which is fetched to count them."""
        if block not in self._lengths:
            self._lengths[block] = len(self._entries.get(block, self._find_entries))
            if self.length == 0:
                label = "" if self.label is None else ", {} = {}".format(*self.label)
                raise DataError(f"{self.store.title} holds no images ({self.column}{label}).")
        return self._lengths[block]

    def prepare(self, block: int) -> None:
        """Fetch a shard in the background."""
        self.store.fetch_ahead(self.files[block])

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as upright RGB."""
        entry = self._entries.get(block, self._find_entries)[row]
        data = read_entry(self.store, self.files[block], entry)
        return decode_image(data, self.shorter_side)

    def describe(self, block: int, row: int) -> str:
        """Return the shard and the file in it."""
        entry = self._entries.get(block, self._find_entries)[row]
        return f"{self.store.describe(self.files[block])}/{entry.path}"

    def _find_entries(self, block: int) -> list[Entry]:
        file = self.files[block]
        return [
            sample[self.column]
            for sample in read_index(self.store, file)
            if self.column in sample
            and (
                self.label is None
                or read_label(self.store, file, sample, self.label[0]) == self.label[1]
            )
        ]
