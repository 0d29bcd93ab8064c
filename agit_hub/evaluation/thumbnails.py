"""Thumbnails of an evaluation, in one temporary file: thousands of images take no memory."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, overload

from PIL import Image


@dataclass(frozen=True)
class StoredImages(Sequence[Image.Image]):
    """RGB images of one size in a file, read when asked for."""

    file: IO[bytes]
    offset: int
    length: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        """Read an image, or several."""
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(self.length))]
        number = range(self.length)[index]
        bytes_each = 3 * self.size[0] * self.size[1]
        self.file.seek(self.offset + number * bytes_each)
        return Image.frombytes("RGB", self.size, self.file.read(bytes_each))


class ThumbnailFile:
    """A temporary file, deleted with the last of the images in it.

    Args:
        size: Width and height to which images are resized.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its last reader

    def add(self, images: Iterable[Image.Image]) -> StoredImages:
        """Store thumbnails of RGB images."""
        found = [image.resize(self._size, Image.Resampling.BICUBIC) for image in images]
        offset = self._file.seek(0, 2)
        for image in found:
            self._file.write(image.tobytes())
        return StoredImages(self._file, offset, len(found), self._size)
