"""Find the views of an inventory, each a way to read the images of one domain."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any

from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.columns import same_value
from agit_hub.data.domains.files import Item
from agit_hub.data.inventory import Group, Inventory
from agit_hub.data.splits import below, domain_folders
from agit_hub.errors import DataError

TRAINING_SPLITS = ("train",)
EVALUATION_SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class DatasetView:
    """One way to read the images of a domain from a store."""

    items: tuple[Item, ...]
    name: str | None = None
    split: str | None = None
    column: str | None = None
    label_column: str | None = None
    label_value: str | int | float | bool | None = None
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


def find_views(
    inventory: Inventory, config: DomainConfig, splits: Sequence[str] = TRAINING_SPLITS
) -> list[DatasetView]:
    """Return every view that matches the options that are set.

    Args:
        inventory: Of the store.
        config: The domain; unset options match everything.
        splits: The splits to prefer where `config` names none, the best first.

    Raises:
        DataError: If an option names nothing; the message lists what there is.
    """
    items = below(inventory.items, config.data_dir)
    if not items:
        folders = sorted({item.path.rpartition("/")[0] for item in inventory.items} - {""})
        raise unavailable(inventory, "data_dir", config.data_dir, folders)
    groups = inventory.groups(items)
    if config.name is not None:
        names = [group.name for group in groups if group.name is not None]
        if config.name in shapes.LABELS and config.name not in names:
            raise DataError(
                f"The name {config.name!r} belongs to the built-in shapes, and the images come from "
                f"{inventory.store.name}: use another --config than shapes, or also set "
                "data.source.name and data.target.name to null."
            )
        groups = [group for group in groups if group.name == config.name]
        if not groups:
            raise unavailable(inventory, "name", config.name, names)
    groups = _in_split(inventory, groups, config.split, splits)
    return [view for group in groups for view in _group_views(inventory, group, config)]


def _in_split(
    inventory: Inventory, groups: Sequence[Group], split: str | None, preferred: Sequence[str]
) -> list[Group]:
    splits = list(dict.fromkeys(group.split for group in groups))
    if split is None:
        split = next((name for name in preferred if name in splits), splits[0])
        if split not in preferred and len(splits) > 1:
            raise DataError(
                f"{inventory.store.title} has no split {preferred[0]}: set split to one of "
                f"{', '.join(splits)}."
            )
    if split not in splits:
        raise unavailable(inventory, "split", split, splits)
    return [group for group in groups if group.split == split]


def _group_views(inventory: Inventory, group: Group, config: DomainConfig) -> list[DatasetView]:
    folder = config.data_dir and str(PurePosixPath(config.data_dir.lstrip("/")))
    view = DatasetView(tuple(group.items), group.name, group.split, data_dir=folder)
    if inventory.kind == "files":
        return _file_views(inventory, view, config)
    columns = inventory.image_columns(view.files[0])
    if config.column is not None:
        if config.column not in columns:
            raise unavailable(inventory, "column", config.column, columns)
        columns = [config.column]
    if not columns:
        raise DataError(f"{inventory.store.title} holds no images in {view.files[0]}.")
    views = [replace(view, column=column) for column in columns]
    if config.label_column is None:
        return views
    values = _label_values(inventory, view, config.label_column, config.label_value)
    return [v for view in views for v in by_label(inventory, view, config.label_column, values)]


def _file_views(inventory: Inventory, view: DatasetView, config: DomainConfig) -> list[DatasetView]:
    """Return the views of images in files, whose columns are those of tables beside them."""
    metadata = inventory.metadata if config.column or config.label_column else None
    views = [view]
    if config.column is not None:
        assert metadata is not None
        columns = inventory.path_columns
        if not columns:
            raise _no_columns(inventory)
        if config.column not in columns:
            raise unavailable(inventory, "column", config.column, columns)
        named = metadata.items(config.column)
        items = tuple(item for item in view.items if item in named)
        views = [replace(view, items=items, column=config.column)]
    if config.label_column is not None:
        values = _label_values(inventory, view, config.label_column, config.label_value)
        views = [
            v for view in views for v in by_label(inventory, view, config.label_column, values)
        ]
    return [
        half
        for view in views
        for half in by_folder(view, domain_folders(view.items)) or by_path_column(inventory, view)
    ]


def by_path_column(inventory: Inventory, view: DatasetView) -> list[DatasetView]:
    """Return a view for each column of tables that names images, if there are several; else the view."""
    columns = inventory.path_columns if view.column is None else []
    if len(columns) < 2:
        return [view]
    named = {column: inventory.metadata.items(column) for column in columns}
    return [
        replace(view, column=column, items=tuple(i for i in view.items if i in named[column]))
        for column in columns
    ]


def _label_values(
    inventory: Inventory, view: DatasetView, column: str, wanted: str | float | None
) -> list[Any]:
    """Return the values of a label column, or the one that is wanted, by name or number."""
    if inventory.kind == "files":
        if not inventory.metadata.tables:
            raise _no_columns(inventory)
        columns, names = inventory.metadata.columns, []
        values = inventory.metadata.values(view.items, column) if column in columns else None
    else:
        columns = inventory.columns(view.files[0])
        names = inventory.class_names(view.files[0]).get(column, [])
        values = inventory.labels(view.files, column)
    if values is None:
        raise unavailable(inventory, "label_column", column, columns)
    if wanted is None:
        return values
    chosen = [value for value in values if same_value(value, wanted)]
    if not chosen and names and str(wanted).isdigit():
        chosen = values[int(wanted) : int(wanted) + 1]
    if not chosen and inventory.kind == "webdataset" and len(view.files) > 1:
        # The values are those of the first shard, and others may hold more.
        chosen = [str(wanted)] if inventory.store.fetches else []
    if not chosen:
        raise unavailable(inventory, "label_value", wanted, values)
    return chosen


def by_folder(view: DatasetView, folders: Sequence[str]) -> list[DatasetView]:
    """Return a view for each of some folders."""
    return [
        replace(view, data_dir=folder, items=tuple(below(view.items, folder))) for folder in folders
    ]


def by_label(
    inventory: Inventory, view: DatasetView, column: str, values: Sequence[Any]
) -> list[DatasetView]:
    """Return a view for each of some labels."""
    views = [replace(view, label_column=column, label_value=value) for value in values]
    if inventory.kind != "files":
        return views
    labels = {item: inventory.metadata.value(item, column) for item in view.items}
    return [
        replace(each, items=tuple(i for i in view.items if labels[i] == each.label_value))
        for each in views
    ]


def _no_columns(inventory: Inventory) -> DataError:
    return DataError(
        f"{inventory.store.title} holds image files, which have no columns: use data_dir to select a "
        "folder, or add a metadata.csv with the columns file_name and label."
    )


def unavailable(
    inventory: Inventory, key: str, value: object, available: Sequence[object]
) -> DataError:
    """Return the error for an option that names nothing."""
    options = ", ".join(map(str, dict.fromkeys(available))) or "none"
    return DataError(f"{inventory.store.title} has no {key} {value!r}; available: {options}.")
