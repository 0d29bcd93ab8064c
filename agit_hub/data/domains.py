"""A domain is a numbered collection of pictures: a folder, or the built-in shapes."""

from pathlib import Path
from typing import Protocol

from PIL import Image

from agit_hub.data import shapes
from agit_hub.data.pictures import to_rgb

# Decoding a damaged or hostile file raises almost anything in Pillow's many plugins.
UNREADABLE = Exception

# `shapes` draws at this seed for training; evaluation draws at another, so that it sees no scene twice.
SHAPES_TRAINING_SEED = 0
SHAPES_LENGTH = 2000
_SHAPES_CACHE_BYTES = 64 * 2**20


class DataError(ValueError):
    """Pictures that cannot be used; its message says which and what to do."""


class Domain(Protocol):
    """Pictures of one kind, numbered from 0."""

    def __len__(self) -> int: ...

    def picture(self, index: int) -> Image.Image:
        """The picture as RGB.

        Raises:
            Exception: Of almost any kind, if its data are damaged.
        """
        ...

    def describe(self, index: int) -> str:
        """Where the picture comes from, for messages."""
        ...


class FolderDomain:
    """Every picture in a folder and its subfolders, in the order of their paths.

    Args:
        path: The folder. Hidden files and files of types that Pillow does not open are left out, and so
            are hidden folders.

    Raises:
        DataError: If there is no such folder, or no readable picture in it.
    """

    def __init__(self, path: str | Path) -> None:
        self._root = Path(path).expanduser()
        if not self._root.exists():
            raise DataError(f"The folder {self._root} does not exist.")
        if not self._root.is_dir():
            raise DataError(f"{self._root} is a file; a folder of pictures is needed.")
        endings = {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        self._files = sorted(
            file.relative_to(self._root)
            for file in self._root.rglob("*")
            if file.suffix.lower() in endings and file.is_file()
        )
        self._files = [file for file in self._files if not _is_hidden(file)]
        if not self._files:
            raise DataError(f"The folder {self._root} holds no pictures (.jpg, .png, .webp, ...).")
        if not any(self._is_readable(index) for index in range(len(self))):
            raise DataError(
                f"None of the {len(self)} picture files in {self._root} can be read: "
                "are they complete?"
            )

    def __len__(self) -> int:
        return len(self._files)

    def picture(self, index: int) -> Image.Image:
        """The picture as RGB, upright."""
        with Image.open(self._root / self._files[index]) as opened:
            return to_rgb(opened)

    def describe(self, index: int) -> str:
        """The file's path."""
        return str(self._root / self._files[index])

    def _is_readable(self, index: int) -> bool:
        try:
            self.picture(index)
        except UNREADABLE:
            return False
        return True


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


class ShapesDomain:
    """The built-in pictures of one label, drawn when first asked for.

    Args:
        label: `plain` or `striped`.
        size: Side in pixels at which they are drawn.

    Raises:
        DataError: If the label is neither.
    """

    def __init__(self, label: str | None, size: int) -> None:
        if label not in shapes.LABELS:
            given = "none is given" if label is None else f"{label!r} is given"
            raise DataError(f"shapes needs a name, {' or '.join(shapes.LABELS)}, and {given}.")
        self._label = label
        self._size = size
        self._keep = 3 * size * size * SHAPES_LENGTH <= _SHAPES_CACHE_BYTES
        self._drawn: dict[int, Image.Image] = {}

    def __len__(self) -> int:
        return SHAPES_LENGTH

    def picture(self, index: int) -> Image.Image:
        """The picture, RGB, `size` by `size`."""
        if index in self._drawn:
            return self._drawn[index]
        picture, _ = shapes.draw(self._label, index, self._size, SHAPES_TRAINING_SEED)
        if self._keep:
            self._drawn[index] = picture
        return picture

    def describe(self, index: int) -> str:
        """Which drawing it is."""
        return f"shapes {self._label} {index}"


def open_domain(path: str, name: str | None, size: int) -> Domain:
    """Find the pictures that `path` means: an existing folder wins over the built-in `shapes`.

    Args:
        path: A folder, or `shapes`.
        name: For `shapes`, which of its two domains.
        size: Side in pixels at which built-in pictures are drawn.

    Raises:
        DataError: If there is nothing usable.
    """
    if path == "shapes" and not Path(path).is_dir():
        return ShapesDomain(name, size)
    return FolderDomain(path)
