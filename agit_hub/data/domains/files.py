"""Images in files: loose, or in zips and tars."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from agit_hub.data.domains.archives import Entry, list_tar, read_entry
from agit_hub.data.domains.base import EncodedDomain, ProcessCache
from agit_hub.data.listing import is_tar
from agit_hub.data.store import FileStore

_OPEN_ARCHIVES = 32

Archive = zipfile.ZipFile | dict[str, Entry]


class Item(NamedTuple):
    """An image file, an image in a zip or tar, or a shard of images."""

    file: str
    """The file of the store."""
    member: str | None = None
    """Path inside the file, if it is an archive."""

    @property
    def path(self) -> str:
        """The file, followed by the path inside it."""
        return self.file if self.member is None else f"{self.file}/{self.member}"


@dataclass(eq=False)
class FilesDomain(EncodedDomain):
    """Image files of a store. The loose files form blocks, and each archive is a block."""

    store: FileStore
    images: Sequence[Item]
    """The images, those of an archive consecutively."""
    remote: bool = False
    """Read ranges of the files without fetching them."""
    shorter_side: int | None = None
    masks: Mapping[Item, Path | Item] = field(default_factory=dict)
    """The masks of some images: files of their own, or of the store."""
    window = 1

    def __post_init__(self) -> None:
        in_archive = groupby(self.images, lambda item: item.member and item.file)
        self._blocks = [list(block) for _, block in in_archive]
        self._archives: ProcessCache[str, Archive] = ProcessCache(_OPEN_ARCHIVES)
        self.blocks = len(self._blocks)
        self.shards: Sequence[int] = range(self.blocks)
        self.length = len(self.images)

    def block_length(self, block: int) -> int:
        """Return the number of images in a block."""
        return len(self._blocks[block])

    def prepare(self, block: int) -> None:
        """Fetch an archive in the background."""
        file, member = self._blocks[block][0]
        if member is not None and not self.remote:
            self.store.fetch_ahead(file)

    def encoded(self, block: int, row: int) -> Path | bytes:
        """Return the path of a loose image, or the bytes of one in an archive."""
        return self.read(self._blocks[block][row])

    def encoded_mask(self, block: int, row: int) -> Path | bytes | None:
        """Return the path of an image's mask, or its bytes."""
        found = self.masks.get(self._blocks[block][row])
        return self.read(found) if isinstance(found, Item) else found

    def read(self, item: Item) -> Path | bytes:
        """Return the path of a loose file, or the bytes of one in an archive."""
        file, member = item
        if member is not None:
            archive = self._archives.get(file, self._open)
            if isinstance(archive, zipfile.ZipFile):
                return archive.read(member)
            return read_entry(self.store, file, archive[member])
        if self.remote:
            with self.store.open(file) as opened:
                return opened.read()
        return self.store.fetch(file)

    def describe(self, block: int, row: int) -> str:
        """Return the path of an image."""
        return self.store.describe(self._blocks[block][row].path)

    def _open(self, file: str) -> Archive:
        if is_tar(file):
            return {entry.path: entry for entry in list_tar(self.store, file)}
        return zipfile.ZipFile(self.store.open(file, fetch=not self.remote))


def read_item(store: FileStore, item: Item) -> bytes:
    """Return the content of a file, or of a file in an archive."""
    if item.member is None:
        with store.open(item.file, fetch=True) as opened:
            return opened.read()
    if is_tar(item.file):
        entries = {entry.path: entry for entry in list_tar(store, item.file)}
        return read_entry(store, item.file, entries[item.member])
    with store.open(item.file) as opened, zipfile.ZipFile(opened) as archive:
        return archive.read(item.member)
