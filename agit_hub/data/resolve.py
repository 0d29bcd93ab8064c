"""Select the views of an inventory that domain configurations mean."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any

from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.files import Item
from agit_hub.data.inventory import Group, Inventory, below, child_folders, domain_folders
from agit_hub.errors import DataError

_log = logging.getLogger("agit_hub.data")
# Choices that an error message lists.
_LISTED = 12


@dataclass(frozen=True)
class DatasetView:
    """One way to read the images of a domain from a store."""

    items: tuple[Item, ...]
    name: str | None = None
    split: str | None = None
    column: str | None = None
    label_column: str | None = None
    label_value: str | int | bool | None = None
    data_dir: str | None = None

    @property
    def files(self) -> list[str]:
        """The files of the store that hold the images."""
        return list(dict.fromkeys(item.file for item in self.items))

    def settings(self) -> dict[str, Any]:
        """Return the options of a `DomainConfig` that select this view."""
        _, *options = (field.name for field in fields(self))
        return {key: value for key in options if (value := getattr(self, key)) is not None}

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.settings().items()) or "all files"


def resolve_domain(inventory: Inventory, config: DomainConfig, side: str) -> DatasetView:
    """Return the view of a store that holds one domain.

    Args:
        inventory: Of the store.
        config: The domain; unset options are inferred.
        side: Prefix of its options in error messages: `data.source` or `data.target`.

    Raises:
        DataError: If there is none, or more than one; the message lists them.
    """
    return _only(inventory, _prefer_default(_views(inventory, config), at_least=1), side)


def resolve_pair(
    inventory: Inventory, source: DomainConfig, target: DomainConfig
) -> tuple[DatasetView, DatasetView]:
    """Return the views of a store that holds both domains.

    Where no option separates them, the first of two is the source: of two image columns, two configs,
    two labels, or two folders.

    Raises:
        DataError: If there are fewer than two, or more; the message lists them.
    """
    first = _prefer_default(_views(inventory, source), at_least=2)
    second = _prefer_default(_views(inventory, target), at_least=2)
    first, second = _separate(inventory, first, second)
    return _only(inventory, first, "data.source"), _only(inventory, second, "data.target")


def stored_label(inventory: Inventory, view: DatasetView) -> tuple[str, Any] | None:
    """Return the label column of a view and the value in the shards: for a named label, its number."""
    if view.label_column is None:
        return None
    names = inventory.class_names(view.files[0]).get(view.label_column)
    value: Any = view.label_value
    return view.label_column, value if names is None else names.index(value)


def _views(inventory: Inventory, config: DomainConfig) -> list[DatasetView]:
    """Return every view that matches the options that are set."""
    items = below(inventory.items, config.data_dir)
    if not items:
        folders = sorted({item.path.rpartition("/")[0] for item in inventory.items} - {""})
        raise _unavailable(inventory, "data_dir", config.data_dir, folders)
    groups = inventory.groups(items)
    if config.name is not None:
        names = [group.name for group in groups if group.name is not None]
        groups = [group for group in groups if group.name == config.name]
        if not groups:
            raise _unavailable(inventory, "name", config.name, names)
    groups = _in_split(inventory, groups, config.split)
    return [view for group in groups for view in _group_views(inventory, group, config)]


def _in_split(inventory: Inventory, groups: Sequence[Group], split: str | None) -> list[Group]:
    splits = list(dict.fromkeys(group.split for group in groups))
    if split is None:
        split = "train" if "train" in splits else splits[0]
        if split != "train" and len(splits) > 1:
            raise DataError(
                f"{inventory.store.title} has no split train: set split to one of "
                f"{', '.join(splits)}."
            )
    if split not in splits:
        raise _unavailable(inventory, "split", split, splits)
    return [group for group in groups if group.split == split]


def _group_views(inventory: Inventory, group: Group, config: DomainConfig) -> list[DatasetView]:
    folder = config.data_dir and str(PurePosixPath(config.data_dir.lstrip("/")))
    view = DatasetView(tuple(group.items), group.name, group.split, data_dir=folder)
    if inventory.kind == "files":
        if config.column or config.label_column:
            raise DataError(
                f"{inventory.store.title} holds image files, which have no columns: use data_dir to "
                "select a folder."
            )
        return _by_folder(view, domain_folders(group.items)) or [view]
    columns = inventory.image_columns(view.files[0])
    if config.column is not None:
        if config.column not in columns:
            raise _unavailable(inventory, "column", config.column, columns)
        columns = [config.column]
    if not columns:
        raise DataError(f"{inventory.store.title} holds no images in {view.files[0]}.")
    views = [replace(view, column=column) for column in columns]
    if config.label_column is None:
        return views
    values = _label_values(inventory, view, config.label_column, config.label_value)
    return [v for view in views for v in _by_label(view, config.label_column, values)]


def _label_values(
    inventory: Inventory, view: DatasetView, column: str, wanted: str | int | bool | None
) -> list[Any]:
    """Return the values of a label column, or the one that is wanted, by name or number."""
    files = view.files
    values = inventory.labels(files[0], column)
    if values is None:
        raise _unavailable(inventory, "label_column", column, inventory.columns(files[0]))
    if wanted is None:
        return values
    chosen = [value for value in values if str(value) == str(wanted)]
    named = column in inventory.class_names(files[0])
    if not chosen and named and str(wanted).isdigit():
        chosen = values[int(wanted) : int(wanted) + 1]
    if not chosen and not named and len(files) > 1:
        # The values are those of the first shard, and others may hold more.
        chosen = [type(values[0])(wanted)]
    if not chosen:
        raise _unavailable(inventory, "label_value", wanted, values)
    return chosen


def _by_folder(view: DatasetView, folders: Sequence[str]) -> list[DatasetView]:
    return [
        replace(view, data_dir=folder, items=tuple(below(view.items, folder))) for folder in folders
    ]


def _by_label(view: DatasetView, column: str, values: Sequence[Any]) -> list[DatasetView]:
    return [replace(view, label_column=column, label_value=value) for value in values]


def _separate(
    inventory: Inventory, source: list[DatasetView], target: list[DatasetView]
) -> tuple[list[DatasetView], list[DatasetView]]:
    """Return the views that remain for source and target."""
    if source == target:
        if len(source) == 1:
            source = target = _split_view(inventory, source[0])
        return (source[:1], target[1:]) if len(source) == 2 else (source, target)
    # Where the options select the half of one side, the other side is the rest.
    if len(source) == 1 and (
        len(target) > 1 or len(source[0].settings()) > len(target[0].settings())
    ):
        return source, _without(inventory, target, source[0])
    if len(target) == 1:
        return _without(inventory, source, target[0]), target
    return source, target


def _without(
    inventory: Inventory, views: list[DatasetView], taken: DatasetView
) -> list[DatasetView]:
    """Return the views that share no image with one that is taken."""
    if len(views) == 1 and _overlap(views[0], taken):
        views = _split_view(inventory, views[0])
    return [view for view in views if not _overlap(view, taken)]


def _overlap(one: DatasetView, other: DatasetView) -> bool:
    if one.column != other.column or not set(one.items) & set(other.items):
        return False
    same_label = one.label_column == other.label_column and one.label_value == other.label_value
    return same_label or None in (one.label_column, other.label_column)


def _prefer_default(views: list[DatasetView], at_least: int) -> list[DatasetView]:
    """Return the views of the config `default`, as the Hub does, if it has enough."""
    default = [view for view in views if view.name == "default"]
    return default if len(default) >= at_least else views


def _split_view(inventory: Inventory, view: DatasetView) -> list[DatasetView]:
    """Return candidates for the two domains of a view: by folder, or by label.

    The caller refuses any number but two.
    """
    if inventory.kind == "files":
        candidates = _by_folder(view, child_folders(view.items))
    else:
        file = view.files[0]
        columns = ["cls"] if inventory.kind == "webdataset" else inventory.class_names(file)
        options = [_by_label(view, c, inventory.labels(file, c) or []) for c in columns]
        pairs = [option for option in options if len(option) == 2]
        candidates = (
            pairs[0] if len(pairs) == 1 else [half for option in options for half in option]
        )
    if len(candidates) >= 2:
        return candidates
    if inventory.store.fetches:
        raise DataError(
            f"{inventory.store.title} is both source and target, and nothing in it separates two "
            "domains: name the other dataset."
        )
    _log.warning("%s is both source and target: they are the same images.", inventory.store.title)
    return [view, view]


def _only(inventory: Inventory, views: list[DatasetView], side: str) -> DatasetView:
    if len(views) == 1:
        return views[0]
    if not views:
        raise DataError(f"{inventory.store.title} has no images left for {side}.")
    listed = "; ".join(map(str, views[:_LISTED]))
    more = f"; and {len(views) - _LISTED} more" if len(views) > _LISTED else ""
    first, second = views[0].settings(), views[1].settings()
    key = next((key for key, value in first.items() if second.get(key) != value), None)
    hint = f", for example with --{side}.{key} {first[key]}" if key else ""
    raise DataError(
        f"{inventory.store.title} can be read in {len(views)} ways ({listed}{more}): select one{hint}"
    )


def _unavailable(
    inventory: Inventory, key: str, value: object, available: Sequence[object]
) -> DataError:
    options = ", ".join(map(str, dict.fromkeys(available))) or "none"
    return DataError(f"{inventory.store.title} has no {key} {value!r}; available: {options}.")
