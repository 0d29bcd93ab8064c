"""Ways to read a domain's pictures out of a store, and which of them is meant."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.files import picture_endings
from agit_hub.data.domains.parquet import open_parquet
from agit_hub.data.domains.webdataset import read_index, read_label
from agit_hub.data.inventory import (
    Group,
    Item,
    Kind,
    below,
    child_folders,
    domain_folders,
    find_groups,
    find_items,
)
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

_log = logging.getLogger("agit_hub.data")
# Of a refusal that lists what there is.
_LISTED = 12


@dataclass(frozen=True)
class DatasetView:
    """One way to take a domain's pictures out of a store."""

    kind: Kind
    items: tuple[Item, ...]
    name: str | None = None
    split: str | None = None
    column: str | None = None
    label_column: str | None = None
    label_value: str | int | bool | None = None
    data_dir: str | None = None

    def settings(self) -> dict[str, Any]:
        """The keys of a domain's configuration that say this reading."""
        keys = ("name", "split", "column", "label_column", "label_value", "data_dir")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.settings().items()) or "all files"


def choose(store: FileStore, config: DomainConfig, side: str) -> DatasetView:
    """The reading that is meant of a store that holds one domain.

    Raises:
        DataError: If there is none, or more than one; then they are listed.
    """
    return _the_only(store, _prefer_default(readings(store, config), at_least=1), side)


def resolve_pair(
    store: FileStore, source: DomainConfig, target: DomainConfig
) -> tuple[DatasetView, DatasetView]:
    """The readings that are meant of a store that holds both domains.

    Where nothing that was said tells them apart, the first of two is the source: of two image
    columns, two configs, two labels, or two folders.

    Raises:
        DataError: If there are not two, or more; then they are listed.
    """
    first = _prefer_default(readings(store, source), at_least=2)
    second = _prefer_default(readings(store, target), at_least=2)
    first, second = _tell_apart(store, first, second)
    return _the_only(store, first, "data.source"), _the_only(store, second, "data.target")


def readings(store: FileStore, config: DomainConfig) -> list[DatasetView]:
    """Every reading of a store that agrees with what a person said.

    Raises:
        DataError: If what was said is not there, naming what is.
    """
    kind, items = find_items(store)
    found = below(items, config.data_dir)
    if not found:
        folders = sorted({item.path.rpartition("/")[0] for item in items} - {""})
        raise _absent(store, "data_dir", config.data_dir, folders)
    groups = find_groups(store, kind, found)
    names = [group.name for group in groups if group.name is not None]
    if config.name is not None:
        groups = [group for group in groups if group.name == config.name]
        if not groups:
            raise _absent(store, "name", config.name, names)
    groups = _in_split(store, groups, config.split)
    return [reading for group in groups for reading in _read_group(store, kind, group, config)]


def _in_split(store: FileStore, groups: Sequence[Group], split: str | None) -> list[Group]:
    splits = list(dict.fromkeys(group.split for group in groups))
    if split is None:
        split = "train" if "train" in splits else splits[0]
        if split != "train" and len(splits) > 1:
            raise DataError(
                f"{_begin(store)} has no split train: say which with split: {', '.join(splits)}."
            )
    if split not in splits:
        raise _absent(store, "split", split, splits)
    return [group for group in groups if group.split == split]


def _read_group(
    store: FileStore, kind: Kind, group: Group, config: DomainConfig
) -> list[DatasetView]:
    folder = config.data_dir and str(PurePosixPath(config.data_dir.lstrip("/")))
    whole = DatasetView(kind, tuple(group.items), group.name, group.split, data_dir=folder)
    if kind == "files":
        if config.column or config.label_column:
            raise DataError(
                f"{_begin(store)} holds picture files, which have no columns: say which folder is "
                "meant with data_dir."
            )
        return _by_folder(whole, domain_folders(group.items)) or [whole]
    columns = _picture_columns(store, whole)
    if config.column is not None:
        if config.column not in columns:
            raise _absent(store, "column", config.column, columns)
        columns = [config.column]
    if not columns:
        raise DataError(f"{_begin(store)} holds no pictures in {group.items[0].path}.")
    found = [replace(whole, column=column) for column in columns]
    if config.label_column is None:
        return found
    return [r for reading in found for r in _by_label(store, reading, config)]


def _by_folder(reading: DatasetView, folders: Sequence[str]) -> list[DatasetView]:
    return [
        replace(reading, data_dir=folder, items=tuple(below(reading.items, folder)))
        for folder in folders
    ]


def _by_label(store: FileStore, reading: DatasetView, config: DomainConfig) -> list[DatasetView]:
    column = config.label_column
    assert column is not None
    values = _labels(store, reading, column)
    if values is None:
        raise _absent(store, "label_column", column, _columns(store, reading))
    if config.label_value is not None:
        chosen = [value for value in values if str(value) == str(config.label_value)]
        number = config.label_value
        if not chosen and str(number).isdigit() and _is_named(store, reading, column):
            chosen = values[int(number) : int(number) + 1]
        if not chosen and len({item.file for item in reading.items}) > 1:
            # Labels without names are those of the first shard, and others may follow.
            chosen = [] if _is_named(store, reading, column) else [type(values[0])(number)]
        if not chosen:
            raise _absent(store, "label_value", config.label_value, values)
        values = chosen
    return _with_labels(reading, column, values)


def _with_labels(reading: DatasetView, column: str, values: Sequence[Any]) -> list[DatasetView]:
    return [replace(reading, label_column=column, label_value=value) for value in values]


def _tell_apart(
    store: FileStore, source: list[DatasetView], target: list[DatasetView]
) -> tuple[list[DatasetView], list[DatasetView]]:
    if source == target:
        if len(source) == 1:
            source = target = _split_further(store, source[0])
        return (source[:1], target[1:]) if len(source) == 2 else (source, target)
    # Where one side says which half it is, the other half is what is left.
    if len(source) == 1 and (len(target) > 1 or _says_more(source[0], target[0])):
        return source, _without(store, target, source[0])
    if len(target) == 1:
        return _without(store, source, target[0]), target
    return source, target


def _says_more(one: DatasetView, other: DatasetView) -> bool:
    return len(one.settings()) > len(other.settings())


def _without(store: FileStore, found: list[DatasetView], taken: DatasetView) -> list[DatasetView]:
    """The readings that share no picture with one that is taken."""
    if len(found) == 1 and _overlap(found[0], taken):
        found = _split_further(store, found[0])
    return [reading for reading in found if not _overlap(reading, taken)]


def _overlap(one: DatasetView, other: DatasetView) -> bool:
    if one.column != other.column or not set(one.items) & set(other.items):
        return False
    same_label = one.label_column == other.label_column and one.label_value == other.label_value
    return same_label or None in (one.label_column, other.label_column)


def _prefer_default(found: list[DatasetView], at_least: int) -> list[DatasetView]:
    """The readings of the config `default`, as the Hub's datasets have it, if it has enough."""
    default = [reading for reading in found if reading.name == "default"]
    return default if len(default) >= at_least else found


def _split_further(store: FileStore, reading: DatasetView) -> list[DatasetView]:
    """A single reading's two halves, if it has two."""
    if reading.kind == "files":
        halves = _by_folder(reading, child_folders(reading.items))
    else:
        columns = ["cls"] if reading.kind == "webdataset" else list(_class_names(store, reading))
        options = [
            _with_labels(reading, column, _labels(store, reading, column) or [])
            for column in columns
        ]
        pairs = [option for option in options if len(option) == 2]
        halves = pairs[0] if len(pairs) == 1 else [r for option in options for r in option]
    if len(halves) >= 2:
        return halves
    if store.fetches:
        raise DataError(
            f"{_begin(store)} is both source and target, and nothing in it tells two domains apart: "
            "name the other dataset."
        )
    _log.warning("%s is both source and target: they are the same pictures.", store.name)
    return [reading, reading]


def _the_only(store: FileStore, found: list[DatasetView], side: str) -> DatasetView:
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{_begin(store)} holds nothing that is left for {side}.")
    listed = "; ".join(str(reading) for reading in found[:_LISTED])
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise DataError(
        f"{_begin(store)} can be read in {len(found)} ways ({listed}{more}): say which is meant, such "
        f"as --{side}.{_difference(found)}"
    )


def _difference(found: Sequence[DatasetView]) -> str:
    first, second = found[0].settings(), found[1].settings()
    key = next(key for key, value in first.items() if second.get(key) != value)
    return f"{key} {first[key]}"


def _absent(store: FileStore, key: str, wanted: object, there: Sequence[object]) -> DataError:
    options = ", ".join(str(option) for option in dict.fromkeys(there)) or "none"
    return DataError(f"{_begin(store)} has no {key} {wanted!r}; there is: {options}.")


def _begin(store: FileStore) -> str:
    return store.name[0].upper() + store.name[1:] if store.fetches else store.name


# What the shards say of themselves.


def raw_label(store: FileStore, reading: DatasetView) -> tuple[str, Any] | None:
    """A reading's label column and value as the shards hold them: of a named label, the number."""
    if reading.label_column is None:
        return None
    names = _class_names(store, reading) if reading.kind == "parquet" else {}
    value: Any = reading.label_value
    if reading.label_column in names:
        value = names[reading.label_column].index(value)
    return reading.label_column, value


@lru_cache(maxsize=8)
def _schema(store: FileStore, file: str) -> pa.Schema:
    with open_parquet(store, file, cache=False) as opened:
        return opened.schema_arrow


def _columns(store: FileStore, reading: DatasetView) -> list[str]:
    first = reading.items[0].file
    if reading.kind == "parquet":
        return list(_schema(store, first).names)
    return sorted({ending for sample in read_index(store, first) for ending in sample})


def _picture_columns(store: FileStore, reading: DatasetView) -> list[str]:
    if reading.kind == "parquet":
        return [field.name for field in _schema(store, reading.items[0].file) if _is_picture(field)]
    endings = picture_endings()
    return [c for c in _columns(store, reading) if f".{c.rpartition('.')[2]}" in endings]


def _is_picture(field: pa.Field) -> bool:
    if pa.types.is_struct(field.type):
        return bool(field.type.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))


def _class_names(store: FileStore, reading: DatasetView) -> dict[str, list[str]]:
    """The named labels of a parquet schema, as the datasets library writes them into it."""
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(_schema(store, reading.items[0].file))
    return {k: list(f.names) for k, f in features.items() if isinstance(f, ClassLabel)}


def _is_named(store: FileStore, reading: DatasetView, column: str) -> bool:
    return reading.kind == "parquet" and column in _class_names(store, reading)


def _labels(store: FileStore, reading: DatasetView, column: str) -> list[Any] | None:
    """The values of a label column, in order; None if there is no such column.

    Named labels are known from the schema; others are those of the first shard.
    """
    first = reading.items[0].file
    if reading.kind == "webdataset":
        values = {read_label(store, first, sample, column) for sample in read_index(store, first)}
        return sorted(value for value in values if value is not None) or None
    if column not in _columns(store, reading):
        return None
    names = _class_names(store, reading)
    if column in names:
        return names[column]
    with open_parquet(store, first, cache=False) as opened:
        values = set(opened.read([column], use_threads=False).column(0).to_pylist())
    return sorted((value for value in values if value is not None), key=str)
