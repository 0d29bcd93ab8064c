"""The interface of an image domain, and what its implementations share."""

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from PIL import Image

from agit_hub.data.images import Range, decode_image
from agit_hub.data.masks import decode_mask

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Location(NamedTuple):
    """Where an image is in its domain."""

    block: int
    row: int


class Domain(Protocol):
    """Images of one kind, in blocks of rows.

    A block is what is decompressed at once; a shard, of one or more blocks, is what is fetched at once.
    """

    blocks: int
    """Number of blocks."""
    window: int
    """Number of blocks that are shuffled together."""
    shards: Sequence[int]
    """The shard of each block, numbered from 0."""

    @property
    def length(self) -> int | None:
        """Number of images; None while some blocks have not been counted."""
        ...

    def block_length(self, block: int) -> int:
        """Return the number of images in a block, fetching it if necessary."""
        ...

    def prepare(self, block: int) -> None:
        """Prefetch a block whose images are needed soon."""
        ...

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as RGB.

        Raises:
            DatasetError: If it is unavailable.
            Exception: Of almost any type, if its data are damaged.
        """
        ...

    has_masks: bool
    """Whether some of the images may have a mask."""

    def mask(self, block: int, row: int) -> Image.Image | None:
        """Return the mask of an image as greys, white on objects; None if it has none.

        Raises:
            DatasetError: If it is unavailable.
            Exception: Of almost any type, if its data are damaged.
        """
        ...

    def describe(self, block: int, row: int) -> str:
        """Return where an image comes from, for messages."""
        ...


def locations(domain: "Domain | EncodedDomain") -> Iterator[Location]:
    """Yield the location of every image of a domain."""
    for block in range(domain.blocks):
        for row in range(domain.block_length(block)):
            yield Location(block, row)


class EmptyRowError(ValueError):
    """A row of a table holds no image."""


class EncodedDomain(ABC):
    """A domain of encoded image files, which are decoded when they are needed."""

    blocks: int
    window: int
    shards: Sequence[int]
    shorter_side: int | None = None
    """Pixels that are needed in the end; see `to_rgb`."""
    value_range: Range | None = None
    """Values that become black and white in images of more than 8 bits; None for their type's range."""

    has_masks: bool = False

    @abstractmethod
    def block_length(self, block: int) -> int:
        """Return the number of images in a block."""

    @abstractmethod
    def describe(self, block: int, row: int) -> str:
        """Return where an image comes from, for messages."""

    @abstractmethod
    def encoded(self, block: int, row: int) -> Path | bytes:
        """Return an image file: its path, or its content.

        Raises:
            DatasetError: If it is unavailable.
            EmptyRowError: If there is none at this row.
        """

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as upright RGB."""
        return decode_image(self.encoded(block, row), self.shorter_side, self.value_range)

    def encoded_mask(self, block: int, row: int) -> Path | bytes | None:
        """Return the mask file of an image: its path, or its content; None if it has none."""
        return None

    def mask(self, block: int, row: int) -> Image.Image | None:
        """Return the mask of an image as greys; None if it has none."""
        data = self.encoded_mask(block, row)
        return None if data is None else decode_mask(data)


class DomainWrapper:
    """A domain that behaves like the one it wraps, except for what a subclass changes."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.blocks: int = domain.blocks
        self.window: int = domain.window
        self.shards: Sequence[int] = domain.shards
        self.has_masks: bool = domain.has_masks

    @property
    def length(self) -> int | None:
        """Number of images; None while some blocks have not been counted."""
        return self._domain.length

    def block_length(self, block: int) -> int:
        """Return the number of images in a block."""
        return self._domain.block_length(block)

    def prepare(self, block: int) -> None:
        """Prefetch a block."""
        self._domain.prepare(block)

    def describe(self, block: int, row: int) -> str:
        """Return where an image comes from."""
        return self._domain.describe(block, row)


class ProcessCache(Generic[Key, Value]):
    """Least recently used values, computed by each process for itself.

    A forked process starts with an empty cache, because it would share file positions with its parent;
    so does a pickled copy. Threads wait for a value that another thread is computing.

    Args:
        size: Largest number of values.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._clear()

    def _clear(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, compute: Callable[[Key], Value]) -> Value:
        """Return the value of a key, computing it if it is not cached."""
        if self._process != os.getpid():
            self._clear()
        with self._lock:
            if key not in self._values:
                while len(self._values) >= self._size:
                    self._values.popitem(last=False)
                self._values[key] = compute(key)
            self._values.move_to_end(key)
            return self._values[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._size,)
