"""Pictures that are files: loose, or in zips."""

import io
import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import BinaryIO, NamedTuple

from PIL import Image

from agit_hub.data.images import to_rgb
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError


class Member(NamedTuple):
    """A picture's file."""

    archive: str | None
    """The zip in which it lies, if any."""
    path: str
    """In the zip, or in the store."""


def picture_endings() -> set[str]:
    """The file endings that Pillow opens: `.jpg`, `.png`, ..."""
    return {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def members(store: FileStore, files: Sequence[str]) -> list[Member]:
    """The pictures among files, and those inside the zips among them.

    Raises:
        DataError: If a zip is damaged.
    """
    endings = picture_endings()
    found = []
    for file in files:
        if file.lower().endswith(".zip"):
            inside = (Member(file, path) for path in sorted(_list_zip(store, file)))
            found += [member for member in inside if _is_picture(member.path, endings)]
        elif _is_picture(file, endings):
            found.append(Member(None, file))
    return found


def _is_picture(path: str, endings: set[str]) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.split("/"))
    return not hidden and os.path.splitext(path)[1].lower() in endings  # noqa: PTH122 - in a zip


def _list_zip(store: FileStore, file: str) -> list[str]:
    try:
        with store.open(file) as opened, zipfile.ZipFile(opened) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{store.describe(file)} is not a complete zip: {error}.") from error


class FilesDomain:
    """Picture files of a store. Loose ones are one block, and each zip is one.

    Args:
        store: Where they lie.
        pictures: They, those of a zip together.
        cache: False reads them where they lie.
        shorter_side: Pixels that are needed in the end.
    """

    window = 1

    def __init__(
        self,
        store: FileStore,
        pictures: Sequence[Member],
        cache: bool = True,
        shorter_side: int | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._shorter_side = shorter_side
        self._blocks = [list(block) for _, block in groupby(pictures, lambda m: m.archive)]
        self.blocks = len(self._blocks)
        self.shards: Sequence[int] = range(self.blocks)
        self.length = len(pictures)

    def block_length(self, block: int) -> int:
        """Pictures in it."""
        return len(self._blocks[block])

    def prepare(self, block: int) -> None:
        """Fetch a zip in the background."""
        archive = self._blocks[block][0].archive
        if archive is not None and self._cache:
            self._store.fetch_ahead(archive)

    def image(self, block: int, row: int) -> Image.Image:
        """The picture as RGB, upright."""
        archive, path = self._blocks[block][row]
        if archive is not None:
            opened = _open_zip(self._store, archive, self._cache, os.getpid())
            return decode(opened.read(path), self._shorter_side)
        if self._cache:
            with Image.open(self._store.fetch(path)) as picture:
                return to_rgb(picture, self._shorter_side)
        with self._store.open(path) as file:
            return decode(file.read(), self._shorter_side)

    def describe(self, block: int, row: int) -> str:
        """The file's path."""
        archive, path = self._blocks[block][row]
        return self._store.describe(path if archive is None else f"{archive}/{path}")


def decode(data: bytes, shorter_side: int | None = None) -> Image.Image:
    """A picture file's bytes as RGB, upright; see `to_rgb`.

    Raises:
        Exception: Of almost any kind, if they are damaged.
    """
    with Image.open(io.BytesIO(data)) as picture:
        return to_rgb(picture, shorter_side)


def open_file(store: FileStore, file: str, cache: bool) -> BinaryIO:
    """A file of a store for reading and seeking: its copy on disk, or where it lies."""
    return store.fetch(file).open("rb") if cache else store.open(file)


@lru_cache(maxsize=32)
def _open_zip(store: FileStore, file: str, cache: bool, process: int) -> zipfile.ZipFile:
    # Each process opens its own: a forked child shares its parent's place in a file.
    return zipfile.ZipFile(open_file(store, file, cache))
