"""Select the views of an inventory that domain configurations mean."""

from collections.abc import Sequence
from typing import Any

from agit_hub.data.config import DomainConfig
from agit_hub.data.inventory import Inventory
from agit_hub.data.splits import child_folders
from agit_hub.data.views import TRAINING_SPLITS, DatasetView, by_folder, by_label, find_views
from agit_hub.errors import DataError

# Choices that an error message lists.
_LISTED = 12
# Values of a JSON key that are shown as possible labels.
_LABELS = 2


def resolve_domain(
    inventory: Inventory, config: DomainConfig, side: str, splits: Sequence[str] = TRAINING_SPLITS
) -> DatasetView:
    """Return the view of a store that holds one domain.

    Args:
        inventory: Of the store.
        config: The domain; unset options are inferred.
        side: Prefix of its options in error messages: `data.source` or `data.target`.
        splits: The splits to prefer, the best first.

    Raises:
        DataError: If there is none, or more than one; the message lists them.
    """
    views = find_views(inventory, config, splits)
    return _only(inventory, _prefer_default(views, at_least=1), side)


def resolve_pair(
    inventory: Inventory,
    source: DomainConfig,
    target: DomainConfig,
    splits: Sequence[str] = TRAINING_SPLITS,
) -> tuple[DatasetView, DatasetView]:
    """Return the views of a store that holds both domains.

    Where no option separates them, the first of two is the source: of two image columns, two configs,
    two labels, or two folders.

    Raises:
        DataError: If there are fewer than two, or more; the message lists them.
    """
    first = _prefer_default(find_views(inventory, source, splits), at_least=2)
    second = _prefer_default(find_views(inventory, target, splits), at_least=2)
    first, second = _separate(inventory, first, second)
    return _only(inventory, first, "data.source"), _only(inventory, second, "data.target")


def stored_label(inventory: Inventory, view: DatasetView) -> tuple[str, Any] | None:
    """Return the label column of a view and the value in the shards: for a named label, its number."""
    if view.label_column is None:
        return None
    names = inventory.class_names(view.files[0]).get(view.label_column)
    value: Any = view.label_value
    return view.label_column, value if names is None else names.index(value)


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
    folders = by_folder(view, child_folders(view.items)) if inventory.kind == "files" else []
    candidates = folders if len(folders) >= 2 else _label_views(inventory, view)
    if len(candidates) >= 2:
        return candidates
    labels = _possible_labels(inventory, view)
    hint = f", for example with --data.source.label_column {labels[0]}" if labels else ""
    raise DataError(
        f"{inventory.store.title} is both source and target, and nothing in it separates two "
        f"domains: name the other dataset, or what separates them{hint}."
    )


def _label_views(inventory: Inventory, view: DatasetView) -> list[DatasetView]:
    """Return a view for each value of the labels of a view, or those of the only two-valued label."""
    if view.label_column is not None:  # both sides ask for the same label
        return []
    if inventory.kind == "files":
        columns: dict[str, list[Any]] = {
            column: inventory.metadata.values(view.items, column)
            for column in inventory.metadata.columns
        }
        columns = {column: values for column, values in columns.items() if len(values) == 2}
    else:
        names = (
            ["cls"] if inventory.kind == "webdataset" else [*inventory.class_names(view.files[0])]
        )
        columns = {name: inventory.labels(view.files, name) or [] for name in names}
    options = [by_label(inventory, view, *column) for column in columns.items()]
    pairs = [option for option in options if len(option) == 2]
    return pairs[0] if len(pairs) == 1 else [half for option in options for half in option]


def _possible_labels(inventory: Inventory, view: DatasetView) -> list[str]:
    """Return the columns that could separate the domains of a view, for an error message."""
    if inventory.kind == "files":
        return inventory.metadata.columns
    return inventory.label_columns(view.files[0])


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
