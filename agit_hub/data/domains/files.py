"""Images in files: loose, or in zips."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from PIL import Image

from agit_hub.data.domains.base import ProcessCache
from agit_hub.data.images import decode_image, image_extensions, to_rgb
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

_OPEN_ZIPS = 32


class Item(NamedTuple):
    """An image file, an image in a zip, or a shard of images."""

    file: str
    """The file of the store."""
    member: str | None = None
    """Path inside the file, if it is a zip."""

    @property
    def path(self) -> str:
        """The file, followed by the path inside it."""
        return self.file if self.member is None else f"{self.file}/{self.member}"


def find_images(store: FileStore) -> list[Item]:
    """Return the image files of a store and the images inside its zips.

    Raises:
        DataError: If a zip is damaged.
    """
    extensions = image_extensions()
    found = []
    for file in store.files:
        if file.lower().endswith(".zip"):
            members = sorted(_list_zip(store, file))
            found += [Item(file, member) for member in members if _is_image(member, extensions)]
        elif _is_image(file, extensions):
            found.append(Item(file))
    return found


def _is_image(path: str, extensions: set[str]) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.split("/"))
    return not hidden and os.path.splitext(path)[1].lower() in extensions  # noqa: PTH122 - in a zip


def _list_zip(store: FileStore, file: str) -> list[str]:
    try:
        with store.open(file) as opened, zipfile.ZipFile(opened) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{store.describe(file)} is not a complete zip: {error}.") from error


@dataclass(eq=False)
class FilesDomain:
    """Image files of a store. The loose files form blocks, and each zip is a block."""

    store: FileStore
    images: Sequence[Item]
    """The images, those of a zip consecutively."""
    remote: bool = False
    """Read ranges of the files without fetching them."""
    shorter_side: int | None = None
    """Pixels that are needed in the end; see `to_rgb`."""
    window = 1

    def __post_init__(self) -> None:
        in_zip = groupby(self.images, lambda item: item.member and item.file)
        self._blocks = [list(block) for _, block in in_zip]
        self._zips: ProcessCache[str, zipfile.ZipFile] = ProcessCache(_OPEN_ZIPS)
        self.blocks = len(self._blocks)
        self.shards: Sequence[int] = range(self.blocks)
        self.length = len(self.images)

    def block_length(self, block: int) -> int:
        """Return the number of images in a block."""
        return len(self._blocks[block])

    def prepare(self, block: int) -> None:
        """Fetch a zip in the background."""
        file, member = self._blocks[block][0]
        if member is not None and not self.remote:
            self.store.fetch_ahead(file)

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as upright RGB."""
        file, member = self._blocks[block][row]
        if member is not None:
            data = self._zips.get(file, self._open_zip).read(member)
            return decode_image(data, self.shorter_side)
        if self.remote:
            with self.store.open(file) as opened:
                return decode_image(opened.read(), self.shorter_side)
        with Image.open(self.store.fetch(file)) as image:
            return to_rgb(image, self.shorter_side)

    def describe(self, block: int, row: int) -> str:
        """Return the path of an image."""
        return self.store.describe(self._blocks[block][row].path)

    def _open_zip(self, file: str) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.store.open(file, fetch=not self.remote))
