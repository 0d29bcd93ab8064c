"""Load the two domains of a run from their configurations."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.base import Domain, locations
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.domains.parquet import ParquetDomain, row_groups
from agit_hub.data.domains.shapes import ShapesDomain
from agit_hub.data.domains.subset import Subset
from agit_hub.data.domains.webdataset import WebDataset
from agit_hub.data.images import UNREADABLE
from agit_hub.data.inventory import Inventory
from agit_hub.data.resolve import DatasetView, resolve_domain, resolve_pair, stored_label
from agit_hub.data.store import FileStore, FolderStore, HubStore
from agit_hub.errors import DataError

# Any other path is a folder.
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_CONNECTIONS = 2


class LoadedDomain(NamedTuple):
    """A domain and how it was found."""

    domain: Domain
    config: DomainConfig
    """With the inferred options filled in: the commit, the column, ..."""
    summary: str
    """For the log: where the images come from, and how they are read."""

    def subset(self, every: int | None, held_out: bool) -> "LoadedDomain":
        """Return the images held out of training, one of `every` in each block, or all others."""
        if every is None:
            return self
        return self._replace(domain=Subset(self.domain, every, held_out))


def load_domains(
    source: DomainConfig, target: DomainConfig, size: int | None, hub_timeout: float
) -> tuple[LoadedDomain, LoadedDomain]:
    """Load both domains.

    Args:
        source: The source domain. Both may name one dataset that holds two domains.
        target: The target domain.
        size: Shorter side in pixels that is needed, None for full size; the built-in images are drawn
            at this size, or at 64.
        hub_timeout: Seconds that a call to the Hub may take with all retries.

    Raises:
        DataError: If a dataset is unusable, or several views of it match.
        FetchError: If the network keeps failing.
    """
    store_s = _open_store(source, hub_timeout)
    same = (source.path, source.revision) == (target.path, target.revision)
    if store_s is not None and same:
        inventory = Inventory(store_s)
        view_s, view_t = resolve_pair(inventory, source, target)
        return _load(inventory, view_s, source, size), _load(inventory, view_t, target, size)
    store_t = _open_store(target, hub_timeout)
    return (
        _load_one(store_s, source, "data.source", size),
        _load_one(store_t, target, "data.target", size),
    )


def _open_store(config: DomainConfig, hub_timeout: float) -> FileStore | None:
    """Open the store that a path names; None for the built-in shapes."""
    path = Path(config.path).expanduser()
    if path.exists() or not _HUB_NAME.fullmatch(config.path):
        return FolderStore(path)
    if config.path == "shapes":
        return None
    try:
        return HubStore(config.path, config.revision, hub_timeout)
    except DataError as error:
        raise DataError(f"{path} is not a local folder, and as a dataset: {error}") from error


def _load_one(
    store: FileStore | None, config: DomainConfig, side: str, size: int | None
) -> LoadedDomain:
    if store is None:
        domain = ShapesDomain(config.name, size or shapes.SIZE)
        return LoadedDomain(domain, config, f"the built-in shapes, {config.name}")
    inventory = Inventory(store)
    return _load(inventory, resolve_domain(inventory, config, side), config, size)


def _load(
    inventory: Inventory, view: DatasetView, config: DomainConfig, size: int | None
) -> LoadedDomain:
    store = inventory.store
    if config.storage == "download":
        store.fetch_all(view.files)
    domain = _make_domain(inventory, view, config.storage == "remote", size)
    resolved = replace(config, revision=store.revision, **view.settings())
    at = f" at {store.revision[:8]}" if store.revision else ""
    return LoadedDomain(domain, resolved, f"{store.name}{at} ({view})")


def _make_domain(inventory: Inventory, view: DatasetView, remote: bool, size: int | None) -> Domain:
    store = inventory.store
    if inventory.kind == "files":
        domain = FilesDomain(store, view.items, remote, size)
        if not store.fetches:
            _check_readable(store, domain)
        return domain
    assert view.column is not None
    label = stored_label(inventory, view)
    if inventory.kind == "webdataset":
        if remote:
            raise DataError(
                f"{store.title} consists of tars, which must be fetched, but storage is remote: use "
                "storage stream or download."
            )
        return WebDataset(store, view.files, view.column, label, size)
    column = view.column
    with ThreadPoolExecutor(_CONNECTIONS if store.fetches else 1) as pool:
        shards = pool.map(
            lambda file: row_groups(store, file, inventory.footer(file), column, label), view.files
        )
        groups = [group for shard in shards for group in shard]
    if not groups:
        raise DataError(f"{store.title} holds no images ({view}).")
    return ParquetDomain(store, groups, view.column, remote, size)


def _check_readable(store: FileStore, domain: FilesDomain) -> None:
    """Refuse a folder without a readable image before a training begins."""
    for location in locations(domain):
        with suppress(UNREADABLE):
            domain.image(*location)
            return
    raise DataError(
        f"None of the {domain.length} image files in {store.name} can be read: are they complete?"
    )
