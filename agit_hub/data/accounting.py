"""Account for every image of a store: read for a domain, or left out, and why."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from agit_hub.data.domains.files import Item
from agit_hub.data.inventory import Inventory
from agit_hub.data.listing import Reason, Skipped, extension_of
from agit_hub.data.views import DatasetView
from agit_hub.errors import DataError


def left_out(inventory: Inventory, views: Sequence[DatasetView]) -> Skipped:
    """Return what none of some views reads: files that are no images, other splits, other labels, ..."""
    skipped = Skipped()
    skipped.update(inventory.skipped)
    used = {item for view in views for item in view.items}
    splits = {view.split for view in views}
    configs = {view.name for view in views}
    groups = inventory.groups(inventory.items)
    seen = set(used)
    for group in groups:
        for item in group.items:
            if item in seen:
                continue
            seen.add(item)
            if group.name not in configs:
                reason = f"in config {group.name}"
            elif group.split not in splits:
                reason = f"in split {group.split}"
            else:
                reason = _reason(views)
            skipped.add(_reason_for(inventory, item, reason), item.path)
    for item in inventory.items:
        if item not in seen:
            skipped.add(
                _reason_for(inventory, item, f"in no split but {_words(splits)}"), item.path
            )
    return skipped


def _reason(views: Sequence[DatasetView]) -> str:
    view = views[0]
    if view.label_column is not None:
        return f"with another {view.label_column}, or none"
    if view.column is not None:
        return f"that {_words({view.column for view in views})} does not name"
    return f"outside {_words({view.data_dir for view in views})}"


def _reason_for(inventory: Inventory, item: Item, reason: str) -> Reason:
    what = "image{s}" if inventory.kind == "files" else f"{extension_of(item.path)} file{{s}}"
    return Reason(f"{what} {reason}")


def _words(values: set[str | None]) -> str:
    return " and ".join(sorted(str(value) for value in values if value)) or "those"


def check_different(
    first: tuple[Inventory, DatasetView], second: tuple[Inventory, DatasetView]
) -> str | None:
    """Check that two domains are not the same images, by whatever paths, links or copies.

    Returns:
        What is to be said of images that both hold; None if there are none.

    Raises:
        DataError: If they are the same images.
    """
    (one, view_s), (other, view_t) = first, second
    if one.kind != other.kind:
        return None
    same_part = view_s.column == view_t.column and view_s.label_value == view_t.label_value
    if one.kind != "files" and not same_part:
        return None
    images_s, images_t = _identities(one, view_s), _identities(other, view_t)
    shared = len(images_s & images_t)
    what = "images" if one.kind == "files" else "shards"
    if images_s == images_t or _copies(first, second):
        raise DataError(
            f"data.source ({one.store.name}) and data.target ({other.store.name}) are the same "
            f"{len(view_s.items)} {what}: name other images for one of them."
        )
    return f"{shared} {what} are in both domains" if shared else None


def _identities(inventory: Inventory, view: DatasetView) -> set[tuple[str, str | None]]:
    files = {file: inventory.store.identity(file) for file in view.files}
    return {(files[item.file], item.member) for item in view.items}


def _copies(first: tuple[Inventory, DatasetView], second: tuple[Inventory, DatasetView]) -> bool:
    """Return whether two domains in folders consist of files of the same content."""
    if any(inventory.store.fetches for inventory, _ in (first, second)):
        return False
    members = [sorted(str(item.member) for item in view.items) for _, view in (first, second)]
    paths = [
        [inventory.store.fetch(file) for file in view.files] for inventory, view in (first, second)
    ]
    sizes = [sorted(path.stat().st_size for path in each) for each in paths]
    if members[0] != members[1] or sizes[0] != sizes[1]:
        return False
    return _hashes(paths[0]) == _hashes(paths[1])


def _hashes(paths: Sequence[Path]) -> list[str]:
    return sorted(sha256(path.read_bytes()).hexdigest() for path in paths)
