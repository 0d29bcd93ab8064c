"""Decide how a store is read: its loose images and archives, its tables, or its webdataset shards.

All files decide together: an archive among images is left out, and so are a few images beside shards.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from agit_hub.data.domains.archives import list_tar, list_zip
from agit_hub.data.domains.columns import image_columns, text_columns
from agit_hub.data.domains.files import Item
from agit_hub.data.domains.parquet import Footer
from agit_hub.data.domains.webdataset import Sample
from agit_hub.data.listing import (
    EMPTY,
    HIDDEN,
    Reason,
    Skipped,
    extension_of,
    has_image_name,
    is_hidden,
    is_table,
    is_tar,
    is_zip,
    not_an_image,
)
from agit_hub.data.splits import below, is_named_like_a_shard
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

Kind = Literal["files", "parquet", "webdataset"]

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables that describe the images beside them, as `imagefolder` of the datasets library reads them."""
_ENCRYPTED = Reason("encrypted file{s} in zips", "unpack the zip with its password")
_OUTSIDE = Reason("file{s} outside data_dir")
_NO_IMAGES = Reason("table{s}", "no column holds images")
_CACHE = Reason("Arrow cache file{s}", "state.json does not name it among the dataset's files")


@dataclass
class Layout:
    """How a store is read, and which of its files are not."""

    kind: Kind = "files"
    items: list[Item] = field(default_factory=list)
    """Images, or shards."""
    metadata: list[Item] = field(default_factory=list)
    """Tables that describe images by their file names."""
    skipped: Skipped = field(default_factory=Skipped)


class LayoutFinder:
    """Finds the layout of a store.

    Args:
        store: The store.
        footer: Returns the footer of a parquet or Arrow shard.
        index: Returns the samples of a webdataset shard.
    """

    def __init__(
        self,
        store: FileStore,
        footer: Callable[[str], Footer],
        index: Callable[[str], list[Sample]],
    ) -> None:
        self._store = store
        self._footer = footer
        self._index = index

    def find(self, folders: Sequence[str] = ()) -> Layout:
        """Return the layout of what lies in some folders, or of everything if nothing does.

        Raises:
            DataError: If an archive that is read is damaged.
        """
        self._layout = layout = Layout()
        layout.skipped.update(self._store.skipped)
        files = self._inside(folders)
        cached = self._arrow_caches(files)
        layout.skipped.add(_CACHE, *cached)
        containers, tables, tars = [], [], []
        for file in sorted(set(files) - set(cached)):
            if PurePosixPath(file).name.endswith(METADATA):
                layout.metadata.append(Item(file))
            elif is_table(file):
                tables.append(file)
            elif is_tar(file):
                tars.append(file)
            elif is_zip(file):
                containers.append(file)
            elif has_image_name(file):
                layout.items.append(Item(file))
            else:
                layout.skipped.add(not_an_image(file), file)
        strays = _strays(layout.items, [*containers, *tables, *tars])
        strays -= {file for file in tables if file in strays and self._describes(file)}
        for file in strays:
            layout.skipped.add(_beside(file, "the images beside it are read"), file)
        tars = [file for file in tars if file not in strays]
        if tars and self._are_plain_archives(tars):
            containers, tars = [*containers, *tars], []
        self._add_archives([file for file in containers if file not in strays])
        self._choose([file for file in tables if file not in strays], tars)
        return layout

    def _inside(self, folders: Sequence[str]) -> list[str]:
        files = self._store.files
        if not folders or None in folders:
            return files
        items = [Item(file) for file in files]
        # A folder may also be the name of an archive.
        chosen = {file for folder in folders if (file := folder.strip("/")) in set(files)}
        chosen |= {item.file for folder in folders for item in below(items, folder)}
        above = {
            f"{parent}/{name}"
            for file in chosen
            for name in METADATA
            for parent in PurePosixPath(file).parents
        }
        chosen |= {file for file in files if file in above or file in METADATA}
        if not any(is_container_or_image(file) for file in chosen):
            return files
        self._layout.skipped.add(_OUTSIDE, *sorted(set(files) - chosen))
        return sorted(chosen)

    def _arrow_caches(self, files: Sequence[str]) -> list[str]:
        """Return Arrow files that processing with the datasets library has left beside a dataset's."""
        caches: list[str] = []
        for file in files:
            folder, name = PurePosixPath(file).parent, PurePosixPath(file).name
            if name != "state.json":
                continue
            try:
                with self._store.open(file) as opened:
                    named = {each["filename"] for each in json.load(opened)["_data_files"]}
            except (KeyError, TypeError, ValueError):
                continue
            caches += [
                other
                for other in files
                if other.endswith(".arrow")
                and PurePosixPath(other).parent == folder
                and PurePosixPath(other).name not in named
            ]
        return caches

    def _are_plain_archives(self, tars: Sequence[str]) -> bool:
        """Return whether tars are archives of images, and not shards of samples of several files.

        On the Hub several tars are shards, which are not fetched to look into them.
        """
        if self._store.fetches and len(tars) > 1:
            return False
        plain = [all(len(sample) == 1 for sample in self._index(file)) for file in tars]
        return 2 * sum(plain) > len(plain)

    def _add_archives(self, files: Sequence[str]) -> None:
        """Add the images in archives, unless they lie unpacked in the store."""
        loose = {item.file for item in self._layout.items}
        skipped = self._layout.skipped
        for file in sorted(files):
            inside, empty, encrypted = self._members(file)
            images = [m for m in inside if has_image_name(m) and not is_hidden(m)]
            if images and _is_unpacked(file, images, loose):
                skipped.add(_beside(file, "its images lie unpacked beside it"), file)
                continue
            skipped.add(EMPTY, *(f"{file}/{member}" for member in empty))
            skipped.add(_ENCRYPTED, *(f"{file}/{member}" for member in encrypted))
            for member in inside:
                item = Item(file, member)
                if is_hidden(member):
                    skipped.add(HIDDEN, item.path)
                elif PurePosixPath(member).name in METADATA:
                    self._layout.metadata.append(item)
                elif not has_image_name(member):
                    skipped.add(not_an_image(member), item.path)
            self._layout.items += [Item(file, member) for member in images]
        self._layout.items.sort(key=lambda item: item.file)

    def _members(self, file: str) -> tuple[list[str], list[str], list[str]]:
        """Return the files in an archive, those that are empty, and those that are encrypted."""
        if is_tar(file):
            entries = list_tar(self._store, file)
            return [e.path for e in entries if e.size], [e.path for e in entries if not e.size], []
        found = sorted(list_zip(self._store, file), key=lambda member: member.filename)
        encrypted = [m.filename for m in found if m.flag_bits & 1]
        plain = [m for m in found if not m.flag_bits & 1]
        return (
            [m.filename for m in plain if m.file_size],
            [m.filename for m in plain if not m.file_size],
            encrypted,
        )

    def _choose(self, tables: list[str], tars: list[str]) -> None:
        """Choose between the images found so far, tables and webdataset shards."""
        layout = self._layout
        if layout.items or tars:
            tables, others = self._split_tables(tables)
            texts = [file for file in others if text_columns(self._footer(file).schema)]
            layout.metadata += [Item(file) for file in texts]
            layout.skipped.add(_NO_IMAGES, *(file for file in others if file not in texts))
        shards, kind, rest = tables, "parquet", tars
        if len(tars) > len(tables):
            shards, kind, rest = tars, "webdataset", tables
        for file in rest:
            layout.skipped.add(_beside(file, f"the {extension_of(shards[0])} files are read"), file)
        if not shards:
            return
        if layout.items and not self._outweigh(shards, layout.items):
            for file in shards:
                layout.skipped.add(_beside(file, "the images beside it are read"), file)
            return
        for item in layout.items:
            what = _beside(item.path, f"the {extension_of(shards[0])} files are read")
            layout.skipped.add(what, item.path)
        layout.kind = "parquet" if kind == "parquet" else "webdataset"
        layout.items = [Item(file) for file in shards]

    def _split_tables(self, tables: Sequence[str]) -> tuple[list[str], list[str]]:
        holding = [file for file in tables if image_columns(self._footer(file).schema)]
        return holding, [file for file in tables if file not in set(holding)]

    def _describes(self, file: str) -> bool:
        """Return whether a table holds text and no images, and so may describe the files beside it."""
        try:
            schema = self._footer(file).schema
        except DataError:
            return False
        return bool(text_columns(schema)) and not image_columns(schema)

    def _outweigh(self, shards: Sequence[str], images: Sequence[Item]) -> bool:
        """Return whether shards, rather than the images beside them, are the dataset."""
        named = any(map(is_named_like_a_shard, shards)) or bool(self._store.card.get("configs"))
        if not named and len(shards) < len(images):
            return False
        if is_table(shards[0]):
            return sum(sum(self._footer(file).rows) for file in shards) > len(images)
        if self._store.fetches:
            return True
        return sum(len(self._index(file)) for file in shards) > len(images)


def is_container_or_image(file: str) -> bool:
    """Return whether a file is an image, or may hold some."""
    return has_image_name(file) or is_zip(file) or is_tar(file) or is_table(file)


def _beside(file: str, why: str) -> Reason:
    return Reason(f"{extension_of(file)} file{{s}}", why)


def _strays(images: Sequence[Item], containers: Sequence[str]) -> set[str]:
    """Return the archives and shards that lie among more images, or among more folders of images.

    Those that are named like the part of a dataset, such as `train.zip`, are none.
    """
    loose = Counter(str(PurePosixPath(item.file).parent) for item in images)
    folders: dict[str, set[str]] = {}
    for folder in map(PurePosixPath, loose):
        for child, above in zip((folder, *folder.parents), folder.parents, strict=False):
            folders.setdefault(str(above), set()).add(str(child))
    beside = Counter(str(PurePosixPath(file).parent) for file in containers)
    strays = set()
    for file in containers:
        parent = str(PurePosixPath(file).parent)
        count, children = beside[parent], len(folders.get(parent, ()))
        if not is_named_like_a_shard(file) and (loose[parent] > count or children > max(count, 1)):
            strays.add(file)
    return strays


def _is_unpacked(file: str, members: Sequence[str], loose: set[str]) -> bool:
    """Return whether most images of an archive also lie in its folder, or in one of its name."""
    parent = PurePosixPath(file).parent
    stem = PurePosixPath(file).name.partition(".")[0]
    for root in (parent, parent / stem):
        if 2 * sum(str(root / member) in loose for member in members) > len(members):
            return True
    return False
