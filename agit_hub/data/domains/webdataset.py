"""Images in webdataset shards: tars in which files of one name and several extensions form a sample."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from agit_hub.data.domains.archives import Entry, list_tar, read_entry
from agit_hub.data.domains.base import EncodedDomain, ProcessCache
from agit_hub.data.listing import is_hidden
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

_INDEXED_SHARDS = 8
# Between extensions of one column: samples that hold a PNG where others hold a JPEG.
OR = ";"

Sample = dict[str, Entry]
"""The files of a sample by extension: `jpg`, `cls`, `json`, ..."""


def read_index(store: FileStore, file: str) -> list[Sample]:
    """Fetch a shard and return its samples.

    Raises:
        DataError: If it is not a complete tar.
    """
    samples: dict[str, Sample] = {}
    for entry in list_tar(store, file):
        folder, _, base = entry.path.rpartition("/")
        stem, _, extension = base.partition(".")
        if stem and extension and not is_hidden(folder):
            samples.setdefault(f"{folder}/{stem}", {})[extension.lower()] = entry
    return list(samples.values())


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


def json_keys(store: FileStore, file: str, sample: Sample) -> list[str]:
    """Return the keys in the JSON file of a sample whose values are no lists or objects."""
    try:
        values = json.loads(read_entry(store, file, sample["json"]))
    except ValueError:
        return []
    if not isinstance(values, dict):
        return []
    return [str(key) for key, value in values.items() if not isinstance(value, list | dict)]


@dataclass(eq=False)
class WebDataset(EncodedDomain):
    """Images of webdataset shards. A block is a shard, counted when it is first fetched."""

    store: FileStore
    files: Sequence[str]
    """The shards."""
    column: str
    """The extension of the images, such as `jpg`; or several, `jpg;png`."""
    label: tuple[str, str] | None
    """A column and the value that it must have."""
    shorter_side: int | None = None
    mask_column: str | None = None
    """The extension of masks that some samples have, such as `mask.png`."""
    window = 1

    def __post_init__(self) -> None:
        self.blocks = len(self.files)
        self.shards: Sequence[int] = range(self.blocks)
        self._lengths: dict[int, int] = {}
        self._entries: ProcessCache[int, list[tuple[Entry, Sample]]] = ProcessCache(_INDEXED_SHARDS)

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

    def count(self) -> None:
        """Count the images of every shard now."""
        for block in range(self.blocks):
            self.block_length(block)

    def prepare(self, block: int) -> None:
        """Fetch a shard in the background."""
        self.store.fetch_ahead(self.files[block])

    def encoded(self, block: int, row: int) -> bytes:
        """Return the bytes of an image."""
        entry, _ = self._entries.get(block, self._find_entries)[row]
        return read_entry(self.store, self.files[block], entry)

    def encoded_mask(self, block: int, row: int) -> bytes | None:
        """Return the bytes of an image's mask."""
        _, sample = self._entries.get(block, self._find_entries)[row]
        mask = sample.get(self.mask_column) if self.mask_column else None
        return None if mask is None else read_entry(self.store, self.files[block], mask)

    def count_masks(self) -> int:
        """Count the images that have a mask, in every shard."""
        found = (self._entries.get(block, self._find_entries) for block in range(self.blocks))
        return sum(self.mask_column in sample for entries in found for _, sample in entries)

    def describe(self, block: int, row: int) -> str:
        """Return the shard and the file in it."""
        entry, _ = self._entries.get(block, self._find_entries)[row]
        return f"{self.store.describe(self.files[block])}/{entry.path}"

    def _find_entries(self, block: int) -> list[tuple[Entry, Sample]]:
        file, extensions = self.files[block], self.column.split(OR)
        return [
            (sample[extension], sample)
            for sample in read_index(self.store, file)
            for extension in extensions
            if extension in sample
            and (
                self.label is None
                or read_label(self.store, file, sample, self.label[0]) == self.label[1]
            )
        ]
