"""Load the two domains of a run from their configurations."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agit_hub.data import shapes
from agit_hub.data.accounting import check_different, left_out
from agit_hub.data.config import DomainConfig
from agit_hub.data.domain_masks import MaskCount, attach_masks
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.domains.parquet import ParquetDomain, row_groups
from agit_hub.data.domains.shapes import ShapesDomain
from agit_hub.data.domains.subset import Subset
from agit_hub.data.domains.webdataset import WebDataset
from agit_hub.data.images import Range
from agit_hub.data.inventory import Inventory
from agit_hub.data.listing import Skipped
from agit_hub.data.look import StoredDomain, choose_range, empty_rows, look_at_first, look_at_folder
from agit_hub.data.ordering import Order
from agit_hub.data.resolve import resolve_domain, resolve_pair, stored_label
from agit_hub.data.store import FileStore, FolderStore, HubStore, suggest_path
from agit_hub.data.survey import Survey
from agit_hub.data.views import TRAINING_SPLITS, DatasetView
from agit_hub.errors import DataError, FetchError
from agit_hub.logging import get_logger

_log = get_logger("agit_hub.data")
# Any other path is a folder.
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_CONNECTIONS = 2
# Seconds to ask the Hub for a dataset whose name is more likely a mistyped folder.
_TYPO_TIMEOUT = 10
_MASK_KEYS = "data.source.masks", "data.target.masks"


class Loading(NamedTuple):
    """How domains are loaded."""

    size: int | None
    """Shorter side in pixels that is needed, None for full size; the built-in images are drawn at this
    size, or at 64."""
    hub_timeout: float
    """Seconds that a call to the Hub may take with all retries."""
    splits: Sequence[str] = TRAINING_SPLITS
    """Splits to prefer where none is set, the best first."""
    ranges: tuple[Range | None, Range | None] | None = None
    """Black and white of each domain's images of more than 8 bits, None for those of their type; no
    pair infers both."""
    order: Order | None = None
    """The order of the training that begins, whose first images of datasets on the Hub are looked at;
    None looks at none of them."""


class LoadedDomain(NamedTuple):
    """A domain and how it was found."""

    domain: Domain
    config: DomainConfig
    """With the inferred options filled in: the commit, the column, ..."""
    summary: str
    """For the log: where the images come from, and how they are read."""
    notes: tuple[str, ...] = ()
    """For the log: what is left out, frames that are not taken, the range of values."""
    value_range: Range | None = None
    """Black and white of its images of more than 8 bits; None for those of their type."""
    skipped: Skipped = Skipped()
    """What is left out of the store."""
    masks: MaskCount | None = None
    """How many images have a mask; None if the configuration names no masks."""
    survey: Survey | None = None
    """The headers of all images, or of a sample; None if a dataset on the Hub was not looked at."""
    inventory: Inventory | None = None
    """What the store holds; None for the built-in shapes."""

    def subset(self, every: int | None, held_out: bool) -> "LoadedDomain":
        """Return the images held out of training, one of `every` in each block, or all others."""
        if every is None:
            return self
        return self._replace(domain=Subset(self.domain, every, held_out))


class _Part(NamedTuple):
    """The images of one domain, before they are opened."""

    inventory: Inventory
    view: DatasetView
    config: DomainConfig


def load_domains(
    source: DomainConfig,
    target: DomainConfig,
    size: int | None,
    hub_timeout: float,
    splits: Sequence[str] = TRAINING_SPLITS,
    ranges: tuple[Range | None, Range | None] | None = None,
    order: Order | None = None,
) -> tuple[LoadedDomain, LoadedDomain]:
    """Load both domains. The arguments are those of `Loading`, after the two domains.

    Both may name one dataset that holds two domains.

    Raises:
        DataError: If a dataset is unusable, several views of it match, or both are the same images.
        FetchError: If the network keeps failing.
    """
    how = Loading(size, hub_timeout, splits, ranges, order)
    store_s, store_t = _open_store(source, how), _open_store(target, how)
    if store_s is None or store_t is None:
        if store_s is store_t and source.name == target.name:
            raise DataError(
                f"data.source and data.target are the same images, shapes {source.name}: set "
                "data.source.name plain and data.target.name striped."
            )
        return (
            _load_one(store_s, source, "data.source", how, 0),
            _load_one(store_t, target, "data.target", how, 1),
        )
    if _is_same(store_s, store_t):
        folders = [source.data_dir, target.data_dir]
        masks = [each.masks for each in (source, target) if each.masks]
        inventory = Inventory(store_s, [f for f in folders if f] if all(folders) else (), masks)
        views = resolve_pair(inventory, source, target, splits)
        part_s, part_t = _Part(inventory, views[0], source), _Part(inventory, views[1], target)
    else:
        part_s = _find_part(store_s, source, "data.source", how)
        part_t = _find_part(store_t, target, "data.target", how)
    shared = check_different(part_s[:2], part_t[:2])
    first, second = _load(part_s, how, 0), _load(part_t, how, 1)
    first, second = _with_notes((part_s, part_t), (first, second), shared)
    return first, second


def load_domain(config: DomainConfig, how: Loading) -> LoadedDomain:
    """Load a single domain.

    Raises:
        DataError: If the dataset is unusable, or several views of it match.
        FetchError: If the network keeps failing.
    """
    store = _open_store(config, how)
    if store is None:
        return _load_one(store, config, "data.source", how, 0)
    part = _find_part(store, config, "data.source", how)
    return _with_notes((part,), (_load(part, how, 0),), None)[0]


def _open_store(config: DomainConfig, how: Loading) -> FileStore | None:
    """Open the store that a path names; None for the built-in shapes."""
    path = Path(config.path).expanduser()
    if path.exists() or not _HUB_NAME.fullmatch(config.path):
        return FolderStore(path)
    if config.path == "shapes":
        return None
    missing = f"There is no folder {path.absolute()}"
    timeout = how.hub_timeout
    # Also of a bare word: datasets have the name of their owner before theirs.
    if path.parent.is_dir():
        timeout = min(timeout, _TYPO_TIMEOUT)
        _log.warning(
            "%s.%s Asking the Hub for a dataset of this name.", missing, suggest_path(path)
        )
    try:
        return HubStore(config.path, config.revision, timeout)
    except (DataError, FetchError) as error:
        nearest = suggest_path(path)
        raise type(error)(f"{missing}, and as a dataset on the Hub: {error}{nearest}") from error


def _is_same(first: FileStore, second: FileStore) -> bool:
    return first.fetches == second.fetches and first.key == second.key


def _find_part(store: FileStore, config: DomainConfig, side: str, how: Loading) -> _Part:
    masks = [config.masks] if config.masks else []
    inventory = Inventory(store, [config.data_dir] if config.data_dir else (), masks)
    return _Part(inventory, resolve_domain(inventory, config, side, how.splits), config)


def _load_one(
    store: FileStore | None, config: DomainConfig, side: str, how: Loading, number: int
) -> LoadedDomain:
    if store is None:
        if config.masks:
            raise DataError(f"{side}.masks is {config.masks}: the built-in shapes take no masks.")
        domain = ShapesDomain(config.name, how.size or shapes.SIZE)
        return LoadedDomain(domain, config, f"the built-in shapes, {config.name}")
    part = _find_part(store, config, side, how)
    return _with_notes((part,), (_load(part, how, number),), None)[0]


def _with_notes(
    parts: Sequence[_Part], loaded: Sequence[LoadedDomain], shared: str | None
) -> list[LoadedDomain]:
    """Add to each domain what is left out of its store; what two of one store leave out, once."""
    together = len({id(part.inventory) for part in parts}) == 1
    result = []
    for number, (part, each) in enumerate(zip(parts, loaded, strict=True)):
        skipped = Skipped()
        if not (together and number):
            views = [other.view for other in parts] if together else [part.view]
            skipped.update(left_out(part.inventory, views))
        skipped.update(each.skipped)
        name = part.inventory.store.name
        notes = [f"{name}: {sentence}" for sentence in skipped.sentences()]
        notes += [f"{name}: {note}" for note in each.notes]
        notes += [shared] if shared and number == 0 else []
        result.append(each._replace(notes=tuple(notes), skipped=skipped))
    return result


def _load(part: _Part, how: Loading, number: int) -> LoadedDomain:
    inventory, view, config = part
    store = inventory.store
    if config.storage == "download":
        store.fetch_all(view.files)
    domain = _make_domain(part, how.size)
    skipped = Skipped()
    found: Survey | None = None
    if not store.fetches:
        domain, found = look_at_folder(store, domain, skipped)
    elif how.order is not None:
        found = look_at_first(store, domain, how.order, number)
    chosen, about_range = choose_range(domain, found, how.ranges, number)
    domain.value_range = chosen
    notes = [*(found.notes(domain) if found else ()), *about_range]
    if isinstance(domain, ParquetDomain):
        footers = [inventory.footer(file) for file in view.files]
        notes += empty_rows(footers, domain, found)
    masks = config.masks and attach_masks(
        domain,
        inventory,
        config.masks,
        _MASK_KEYS[number],
        None if store.fetches else found,
        skipped,
    )
    resolved = replace(config, revision=store.revision, **view.settings())
    at = f" at {store.revision[:8]}" if store.revision else ""
    summary = f"{store.name}{at} ({view})"
    return LoadedDomain(
        domain,
        resolved,
        summary,
        tuple(notes),
        chosen,
        skipped,
        masks or None,
        found,
        inventory,
    )


def _make_domain(part: _Part, size: int | None) -> StoredDomain:
    inventory, view, config = part
    store, remote = inventory.store, config.storage == "remote"
    if inventory.kind == "files":
        return FilesDomain(store, view.items, remote, size)
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
