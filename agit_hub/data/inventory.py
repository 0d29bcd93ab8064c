"""Inspect a store once: its images or shards, their configs and splits, their columns and labels."""

import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from fsspec.utils import glob_translate

from agit_hub.data.domains.files import Item, find_images
from agit_hub.data.domains.parquet import open_parquet, read_footer
from agit_hub.data.domains.webdataset import read_index, read_label
from agit_hub.data.images import image_extensions
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

Kind = Literal["files", "parquet", "webdataset"]

_SHARDS: dict[Kind, str] = {"parquet": ".parquet", "webdataset": ".tar"}
# `train`, `test-00000-of-00001`, `validation_2`, but not `trainer`; and `trainA` of unpaired datasets.
_SPLIT = re.compile(
    r"(?i:(train)(?:ing)?|(test)(?:ing)?|(val)(?:id|idation)?|(dev)|(eval)(?:uation)?)"
    r"(?:[-_]?[AB])?(?![A-Za-z])"
)
_SPLIT_NAMES = {"val": "validation", "dev": "validation", "eval": "test"}
_DOMAIN = re.compile(r"(?i:train|test|val|valid|validation)?[-_]?([AB])")


class Group(NamedTuple):
    """Items of one config and split."""

    name: str | None
    split: str
    items: list[Item]


class Inventory:
    """What a store holds; footers and indexes of shards are read when first needed, once.

    Args:
        store: The store.

    Raises:
        DataError: If it holds no images.
    """

    kind: Kind
    items: list[Item]
    """Parquet shards, or else webdataset shards, or else images."""

    def __init__(self, store: FileStore) -> None:
        self.store = store
        self.footer = cache(partial(read_footer, store))
        self._index = cache(partial(read_index, store))
        for kind, extension in _SHARDS.items():
            # A `metadata.parquet` beside images describes them.
            shards = [
                file
                for file in store.files
                if file.endswith(extension) and not file.endswith("metadata.parquet")
            ]
            if shards:
                self.kind, self.items = kind, [Item(shard) for shard in shards]
                return
        self.kind, self.items = "files", find_images(store)
        if not self.items:
            shards_too = ", zips, parquet or webdataset shards" if store.fetches else ""
            raise DataError(f"{store.title} holds no images (.jpg, .png, .webp, ...{shards_too}).")

    def groups(self, items: Sequence[Item]) -> list[Group]:
        """Return the configs and splits of items: those of the dataset card, else those of the paths."""
        configs = self.store.card.get("configs") or []
        groups = [group for config in configs for group in self._of_config(config, items)]
        if groups:
            return groups
        folders = {PurePosixPath(folder).name: folder for folder in child_folders(items)}
        if self.kind == "files" or len(folders) < 2 or any(map(_split_name, folders)):
            return self._by_split(None, items)
        return [
            group
            for name, folder in folders.items()
            for group in self._by_split(name, below(items, folder))
        ]

    def _of_config(self, config: Mapping[str, Any], items: Sequence[Item]) -> list[Group]:
        """Return the splits of a config of a dataset card: a name, and patterns of files."""
        name = str(config.get("config_name", "default"))
        folder = config.get("data_dir")
        items = below(items, folder)
        patterns = config.get("data_files")
        if patterns is None:
            return self._by_split(name, items)
        if isinstance(patterns, Mapping):
            patterns = [{"split": split, "path": path} for split, path in patterns.items()]
        elif isinstance(patterns, str) or all(isinstance(entry, str) for entry in patterns):
            patterns = [{"split": "train", "path": patterns}]
        groups = []
        for entry in patterns:
            paths = [entry["path"]] if isinstance(entry["path"], str) else entry["path"]
            chosen = [i for i in items if any(_matches(i, folder, pattern) for pattern in paths)]
            if chosen:
                groups.append(Group(name, str(entry["split"]), chosen))
        return groups

    def _by_split(self, name: str | None, items: Sequence[Item]) -> list[Group]:
        """Group items by the split in their paths; items without one are `train` if no others are."""
        splits: dict[str, list[Item]] = {}
        rest: list[Item] = []
        for item in items:
            # The name of an image does not count: `train station.jpg`. That of a shard or zip does.
            parts = item.path.split("/")[: -1 if self.kind == "files" else None]
            split = next((split for part in parts if (split := _split_name(part))), None)
            group = splits.setdefault(split, []) if split else rest
            group.append(item)
        if rest and "train" not in splits:
            splits = {"train": rest} | splits
        return [Group(name, split, chosen) for split, chosen in splits.items()]

    def _schema(self, file: str) -> pa.Schema:
        return self.footer(file).schema.to_arrow_schema()

    def columns(self, file: str) -> list[str]:
        """Return the columns of a parquet shard, or the extensions in a webdataset shard."""
        if self.kind == "parquet":
            return list(self._schema(file).names)
        return sorted({extension for sample in self._index(file) for extension in sample})

    def image_columns(self, file: str) -> list[str]:
        """Return the columns of a shard that hold images."""
        if self.kind == "parquet":
            return [field.name for field in self._schema(file) if _holds_images(field)]
        extensions = image_extensions()
        return [c for c in self.columns(file) if f".{c.rpartition('.')[2]}" in extensions]

    def class_names(self, file: str) -> dict[str, list[str]]:
        """Return the names of the label columns that the datasets library wrote into the schema."""
        if self.kind != "parquet":
            return {}
        from datasets import ClassLabel, Features

        features = Features.from_arrow_schema(self._schema(file))
        return {k: list(f.names) for k, f in features.items() if isinstance(f, ClassLabel)}

    def labels(self, file: str, column: str) -> list[Any] | None:
        """Return the values of a label column, in order; None if there is no such column.

        Named labels are in the schema; of others, these are the values in one shard.
        """
        if self.kind == "webdataset":
            found = {read_label(self.store, file, s, column) for s in self._index(file)}
            return sorted(value for value in found if value is not None) or None
        if column not in self.columns(file):
            return None
        names = self.class_names(file)
        if column in names:
            return names[column]
        with open_parquet(self.store, file) as opened:
            values = set(opened.read([column], use_threads=False).column(0).to_pylist())
        return sorted((value for value in values if value is not None), key=str)


def below(items: Sequence[Item], folder: str | None) -> list[Item]:
    """Return the items in a folder of the store or of a zip."""
    if folder is None:
        return list(items)
    prefix = f"{PurePosixPath(folder.strip('/'))}/"
    return [
        item
        for item in items
        if item.path.startswith(prefix) or (item.member or "").startswith(prefix)
    ]


def domain_folders(items: Sequence[Item]) -> list[str]:
    """Return the two folders that separate a pair of domains: `trainA`, `trainB`; or `A`, `B`."""
    found: dict[str, set[str]] = {}
    for item in items:
        parts = item.path.split("/")[:-1]
        for depth, part in enumerate(parts):
            if match := _DOMAIN.fullmatch(part):
                found.setdefault(match[1], set()).add("/".join(parts[: depth + 1]))
                break
    folders = [folder for letter in sorted(found) for folder in sorted(found[letter])]
    return folders if len(found) == 2 else []


def child_folders(items: Sequence[Item]) -> list[str]:
    """Return the folders of items, below the folders that all of them share."""
    paths = [item.path.split("/")[:-1] for item in items]
    shared = 0
    while all(len(path) > shared for path in paths) and len({p[shared] for p in paths}) == 1:
        shared += 1
    if any(len(path) <= shared for path in paths):
        return []
    return sorted({"/".join(path[: shared + 1]) for path in paths})


def _matches(item: Item, folder: str | None, pattern: str) -> bool:
    whole = f"{folder.strip('/')}/{pattern}" if folder else pattern
    return any(re.fullmatch(glob_translate(whole), path) for path in (item.path, item.file))


def _split_name(part: str) -> str | None:
    """Return the split that a part of a path names."""
    found = _SPLIT.match(part)
    if found is None:
        return None
    word = next(group for group in found.groups() if group).lower()
    return _SPLIT_NAMES.get(word, word)


def _holds_images(field: pa.Field) -> bool:
    if pa.types.is_struct(field.type):
        return bool(field.type.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
