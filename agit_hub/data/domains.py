"""A domain is a collection of pictures in blocks: files, shards, or the built-in shapes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.errors import UNREADABLE, DataError
from agit_hub.data.files import FilesDomain
from agit_hub.data.order import Blocks
from agit_hub.data.parquet import ParquetDomain, row_groups
from agit_hub.data.reading import Reading, choose, choose_pair, raw_label
from agit_hub.data.stores import FolderStore, HubStore, Store
from agit_hub.data.webdataset import WebDataset

# `shapes` draws at this seed for training; evaluation draws at another, so that it sees no scene twice.
SHAPES_TRAINING_SEED = 0
SHAPES_LENGTH = 2000
_SHAPES_CACHE_BYTES = 64 * 2**20
# What begins otherwise, or goes deeper, is a folder's path.
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


class Domain(Blocks, Protocol):
    """Pictures of one kind, numbered from 0 in each block."""

    def picture(self, block: int, row: int) -> Image.Image:
        """The picture as RGB.

        Raises:
            PicturesError: If it cannot be had.
            Exception: Of almost any kind, if its data are damaged.
        """
        ...

    def describe(self, block: int, row: int) -> str:
        """Where the picture comes from, for messages."""
        ...


class Opened(NamedTuple):
    """A domain, and what was found out on the way to it."""

    domain: Domain
    config: DomainConfig
    """With everything that was left to be found filled in: the commit, the column, ..."""
    summary: str
    """For the person: where the pictures come from, and how they are read."""


class ShapesDomain:
    """The built-in pictures of one label, drawn when first asked for.

    Args:
        label: `plain` or `striped`.
        size: Side in pixels at which they are drawn.

    Raises:
        DataError: If the label is neither.
    """

    blocks = 1
    window = 1
    shards: Sequence[int] = (0,)
    length = SHAPES_LENGTH

    def __init__(self, label: str | None, size: int) -> None:
        if label not in shapes.LABELS:
            given = "none is given" if label is None else f"{label!r} is given"
            raise DataError(f"shapes needs a name, {' or '.join(shapes.LABELS)}, and {given}.")
        self._label = label
        self._size = size
        self._keep = 3 * size * size * SHAPES_LENGTH <= _SHAPES_CACHE_BYTES
        self._drawn: dict[int, Image.Image] = {}

    def block_length(self, block: int) -> int:
        """Pictures in the only block."""
        return SHAPES_LENGTH

    def prepare(self, block: int) -> None:
        """Nothing lies elsewhere."""

    def picture(self, block: int, row: int) -> Image.Image:
        """The picture, RGB, `size` by `size`."""
        if row in self._drawn:
            return self._drawn[row]
        picture, _ = shapes.draw(self._label, row, self._size, SHAPES_TRAINING_SEED)
        if self._keep:
            self._drawn[row] = picture
        return picture

    def describe(self, block: int, row: int) -> str:
        """Which drawing it is."""
        return f"shapes {self._label} {row}"


def open_domains(
    source: DomainConfig, target: DomainConfig, size: int | None, patience: float
) -> tuple[Opened, Opened]:
    """Find the pictures of both domains.

    Args:
        source: Where to look. Both may name one place that holds two domains.
        target: Likewise.
        size: Shorter side in pixels that is needed, None for all there are; built-in pictures are
            drawn at it, or at their own 64.
        patience: Seconds that a call to the Hub may take with all its retries.

    Raises:
        DataError: If there is nothing usable, or several readings are.
        FetchError: If the network stays bad.
    """
    store_s = _open_store(source, patience)
    same = (source.path, source.revision) == (target.path, target.revision)
    store_t = store_s if same else _open_store(target, patience)
    if store_s is not None and store_s is store_t:
        reading_s, reading_t = choose_pair(store_s, source, target)
        return _open(store_s, reading_s, source, size), _open(store_s, reading_t, target, size)
    opened_s, opened_t = (
        _open_shapes(config, size)
        if store is None
        else _open(store, choose(store, config, f"data.{side}"), config, size)
        for store, config, side in ((store_s, source, "source"), (store_t, target, "target"))
    )
    return opened_s, opened_t


def _open_store(config: DomainConfig, patience: float) -> Store | None:
    """Where the files lie; None for the built-in shapes."""
    path = Path(config.path).expanduser()
    if path.exists() or not _HUB_NAME.fullmatch(config.path):
        return FolderStore(path)
    if config.path == "shapes":
        return None
    try:
        return HubStore(config.path, config.revision, patience)
    except DataError as error:
        raise DataError(f"The folder {path} does not exist here, and of {error}") from error


def _open_shapes(config: DomainConfig, size: int | None) -> Opened:
    domain = ShapesDomain(config.name, size or shapes.SIZE)
    return Opened(domain, config, f"the built-in shapes, {config.name}")


def _open(store: Store, reading: Reading, config: DomainConfig, size: int | None) -> Opened:
    files = list(dict.fromkeys(item.file for item in reading.items))
    if not config.streaming:
        store.fetch_all(files)
    domain = _domain(store, reading, files, config.cache, size)
    settled = replace(config, revision=store.revision, **reading.settings())
    at = f" at {store.revision[:8]}" if store.revision else ""
    return Opened(domain, settled, f"{store.name}{at} ({reading})")


def _domain(
    store: Store, reading: Reading, files: list[str], cache: bool, size: int | None
) -> Domain:
    if reading.kind == "files":
        pictures = [item.member for item in reading.items if item.member is not None]
        domain = FilesDomain(store, pictures, cache, size)
        if not store.fetches:
            _check_readable(store, domain)
        return domain
    assert reading.column is not None
    label = raw_label(store, reading)
    if reading.kind == "parquet":
        groups = row_groups(store, files, reading.column, label)
        if not groups:
            raise DataError(f"{store.name} holds no pictures ({reading}).")
        return ParquetDomain(store, groups, reading.column, cache, size)
    if not cache:
        raise DataError(
            f"{store.name} is made of tars, which must be fetched to be read: leave cache true."
        )
    return WebDataset(store, files, reading.column, label, size)


def _check_readable(store: Store, domain: FilesDomain) -> None:
    """A folder of which nothing can be read is refused before a training begins."""
    for block in range(domain.blocks):
        for row in range(domain.block_length(block)):
            try:
                domain.picture(block, row)
            except UNREADABLE:
                continue
            return
    raise DataError(
        f"None of the {domain.length} picture files in {store.name} can be read: are they complete?"
    )
