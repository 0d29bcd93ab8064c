"""A domain is a collection of pictures in blocks: files, shards, or the built-in shapes."""

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.domains.parquet import ParquetDomain, row_groups
from agit_hub.data.domains.shapes import ShapesDomain
from agit_hub.data.domains.webdataset import WebDataset
from agit_hub.data.images import UNREADABLE
from agit_hub.data.resolve import DatasetView, choose, raw_label, resolve_pair
from agit_hub.data.store import FileStore, FolderStore, HubStore
from agit_hub.errors import DataError

# What begins otherwise, or goes deeper, is a folder's path.
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


class LoadedDomain(NamedTuple):
    """A domain, and what was found out on the way to it."""

    domain: Domain
    config: DomainConfig
    """With everything that was left to be found filled in: the commit, the column, ..."""
    summary: str
    """For the person: where the pictures come from, and how they are read."""


def load_domains(
    source: DomainConfig, target: DomainConfig, size: int | None, patience: float
) -> tuple[LoadedDomain, LoadedDomain]:
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
        reading_s, reading_t = resolve_pair(store_s, source, target)
        return _open(store_s, reading_s, source, size), _open(store_s, reading_t, target, size)
    opened_s, opened_t = (
        _open_shapes(config, size)
        if store is None
        else _open(store, choose(store, config, f"data.{side}"), config, size)
        for store, config, side in ((store_s, source, "source"), (store_t, target, "target"))
    )
    return opened_s, opened_t


def _open_store(config: DomainConfig, patience: float) -> FileStore | None:
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


def _open_shapes(config: DomainConfig, size: int | None) -> LoadedDomain:
    domain = ShapesDomain(config.name, size or shapes.SIZE)
    return LoadedDomain(domain, config, f"the built-in shapes, {config.name}")


def _open(
    store: FileStore, reading: DatasetView, config: DomainConfig, size: int | None
) -> LoadedDomain:
    files = list(dict.fromkeys(item.file for item in reading.items))
    if not config.streaming:
        store.fetch_all(files)
    domain = _domain(store, reading, files, config.cache, size)
    settled = replace(config, revision=store.revision, **reading.settings())
    at = f" at {store.revision[:8]}" if store.revision else ""
    return LoadedDomain(domain, settled, f"{store.name}{at} ({reading})")


def _domain(
    store: FileStore, reading: DatasetView, files: list[str], cache: bool, size: int | None
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


def _check_readable(store: FileStore, domain: FilesDomain) -> None:
    """A folder of which nothing can be read is refused before a training begins."""
    for block in range(domain.blocks):
        for row in range(domain.block_length(block)):
            try:
                domain.image(block, row)
            except UNREADABLE:
                continue
            return
    raise DataError(
        f"None of the {domain.length} picture files in {store.name} can be read: are they complete?"
    )
