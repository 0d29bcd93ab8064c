"""Inspect a store once: its images or shards, their configs and splits, their columns and labels."""

import re
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fsspec.utils import glob_translate

from agit_hub.data.domains.columns import class_names, image_columns, label_columns
from agit_hub.data.domains.files import Item
from agit_hub.data.domains.parquet import read_footer, read_values
from agit_hub.data.domains.webdataset import OR, json_keys, read_index, read_label
from agit_hub.data.layout import Kind, LayoutFinder
from agit_hub.data.listing import has_image_name
from agit_hub.data.metadata import Metadata, read_metadata
from agit_hub.data.splits import below, child_folders, described_splits, folder_split, shard_split
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

# Samples of a webdataset whose JSON is read for the names of its keys.
_SAMPLES = 16


class Group(NamedTuple):
    """Items of one config and split."""

    name: str | None
    split: str
    items: list[Item]


class Inventory:
    """What a store holds; footers and indexes of shards are read when first needed, once.

    Args:
        store: The store.
        folders: Only what lies in these folders counts, if anything does.
        masks: Folders and columns of masks, which are no images to train on.

    Raises:
        DataError: If it holds no images.
    """

    kind: Kind
    items: list[Item]
    """Images, or parquet or webdataset shards."""

    def __init__(
        self, store: FileStore, folders: Sequence[str] = (), masks: Sequence[str] = ()
    ) -> None:
        self.store = store
        self.footer = cache(partial(read_footer, store))
        self._index = cache(partial(read_index, store))
        layout = LayoutFinder(store, self.footer, self._index).find(folders)
        self.kind, self.items, self.skipped = layout.kind, layout.items, layout.skipped
        self.tables = layout.metadata
        self._mask_columns = set(masks)
        self._set_aside(masks)
        if not self.items:
            reasons = "".join(f" {sentence}." for sentence in self.skipped.sentences())
            raise DataError(
                f"{store.title} holds no images (.jpg, .png, .webp, ..., zips, tars, parquet or "
                f"Arrow files).{reasons}"
            )

    @cached_property
    def metadata(self) -> Metadata:
        """The tables that describe image files; read when first needed."""
        if self.kind != "files":
            return Metadata([])
        return read_metadata(self.store, self.tables, self.items)

    @property
    def path_columns(self) -> list[str]:
        """The columns of tables that name images, without those of masks."""
        return [c for c in self.metadata.path_columns if c not in self._mask_columns]

    def _set_aside(self, masks: Sequence[str]) -> None:
        """Take the masks among image files out of the items."""
        if self.kind != "files":
            return
        for name in masks:
            folder = Path(name).expanduser().resolve()
            if folder.is_dir():
                if not self.store.fetches and folder.is_relative_to(self.store.key):
                    inside = {
                        i for i in self.items if folder in Path(self.store.identity(i.file)).parents
                    }
                    self.items = [item for item in self.items if item not in inside]
            elif self.tables:
                named = self.metadata.items(name)
                self.items = [item for item in self.items if item not in named]

    def groups(self, items: Sequence[Item]) -> list[Group]:
        """Return the configs and splits of items: those of the dataset card, else those of the paths."""
        configs = self.store.card.get("configs") or []
        groups = [group for config in configs for group in self._of_config(config, items)]
        if groups:
            return groups
        folders = {PurePosixPath(folder).name: folder for folder in child_folders(items)}
        if self.kind == "files" or len(folders) < 2 or any(map(folder_split, folders)):
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
        described = described_splits({PurePosixPath(item.file).name for item in items})
        for item in items:
            split = self._split(item, described)
            group = splits.setdefault(split, []) if split else rest
            group.append(item)
        if rest and "train" not in splits:
            splits = {"train": rest} | splits
        return [Group(name, split, chosen) for split, chosen in splits.items()]

    def _split(self, item: Item, described: Mapping[str, str]) -> str | None:
        """Return the split in the path of an item, or else that of the table that names it."""
        # The name of an image does not count: `train station.jpg`. That of a shard or archive does.
        *folders, file = item.file.split("/")
        names = [(part, folder_split(part)) for part in folders]
        if item.member is not None or self.kind != "files":
            names.append((file, shard_split(file) or described.get(file)))
        names += [(p, folder_split(p)) for p in (item.member or "").split("/")[:-1]]
        found = next((split for _, split in names if split), None)
        return found or (self.metadata.split(item) if self.tables else None)

    def columns(self, file: str) -> list[str]:
        """Return the columns of a parquet shard, or the extensions in a webdataset shard."""
        if self.kind == "parquet":
            return list(self.footer(file).schema.names)
        return sorted({extension for sample in self._index(file) for extension in sample})

    def all_image_columns(self, file: str) -> list[str]:
        """Return the columns of a parquet shard that hold images, masks among them."""
        return image_columns(self.footer(file).schema)

    def image_columns(self, file: str) -> list[str]:
        """Return the columns of a shard that hold images, without those of masks.

        Extensions of a webdataset that never occur in one sample are one column: `jpg;png`.
        """
        if self.kind == "parquet":
            return [c for c in self.all_image_columns(file) if c not in self._mask_columns]
        columns = [c for c in self.columns(file) if c not in self._mask_columns]
        found = [c for c in columns if has_image_name(f"a.{c}")]
        apart = all(sum(c in sample for c in found) < 2 for sample in self._index(file))
        return [OR.join(found)] if apart and len(found) > 1 else found

    def class_names(self, file: str) -> dict[str, list[str]]:
        """Return the names of the label columns that the datasets library wrote into the schema."""
        return class_names(self.footer(file).schema) if self.kind == "parquet" else {}

    def label_columns(self, file: str) -> list[str]:
        """Return the columns of a shard that can separate domains."""
        if self.kind == "parquet":
            return label_columns(self.footer(file).schema)
        columns = [column for column in ("cls",) if column in self.columns(file)]
        if "json" in self.columns(file):
            samples = [sample for sample in self._index(file) if "json" in sample][:_SAMPLES]
            keys = [json_keys(self.store, file, sample) for sample in samples]
            columns += [f"json.{key}" for key in dict.fromkeys(k for each in keys for k in each)]
        return columns

    def labels(self, files: Sequence[str], column: str) -> list[Any] | None:
        """Return the values of a label column, in order; None if there is no such column.

        Named labels are in the schema. Of others, these are the values in all shards, or in the first
        webdataset shard where that is fetched from the Hub.
        """
        if self.kind == "webdataset":
            files = files[:1] if self.store.fetches else files
            found = {
                read_label(self.store, file, sample, column)
                for file in files
                for sample in self._index(file)
            }
            return sorted(value for value in found if value is not None) or None
        names = self.class_names(files[0])
        if column in names:
            return names[column]
        try:
            values = {value for file in files for value in self._values(file, column)}
        except (KeyError, TypeError):  # no such column, or one of lists or structs
            return None
        return sorted((value for value in values if value is not None), key=str)

    def _values(self, file: str, column: str) -> set[Any]:
        groups = read_values(self.store, file, self.footer(file), column)
        return {value for group in groups for value in group}


def _matches(item: Item, folder: str | None, pattern: str) -> bool:
    whole = f"{folder.strip('/')}/{pattern}" if folder else pattern
    return any(re.fullmatch(glob_translate(whole), path) for path in (item.path, item.file))
