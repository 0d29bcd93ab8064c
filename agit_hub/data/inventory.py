"""How a store's files are laid out: by config, split and folder, as the Hub's datasets are."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from fsspec.utils import glob_translate

from agit_hub.data.domains.files import Member, members
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

Kind = Literal["files", "parquet", "webdataset"]

# `train`, `test-00000-of-00001`, `validation_2`, but not `trainer`; and the `trainA` of unpaired data.
_SPLIT = re.compile(
    r"(?i:(train)(?:ing)?|(test)(?:ing)?|(val)(?:id|idation)?|(dev)|(eval)(?:uation)?)"
    r"(?:[-_]?[AB])?(?![A-Za-z].*)"
)
_SPLIT_NAMES = {"val": "validation", "dev": "validation", "eval": "test"}
_DOMAIN = re.compile(r"(?i:train|test|val|valid|validation)?[-_]?([AB])")


class Item(NamedTuple):
    """A picture, or a shard of pictures."""

    path: str
    """Where it lies; of a picture in a zip, the zip's path and then its own."""
    file: str
    """The file of the store that holds it."""
    member: Member | None
    """Of a picture."""


class Group(NamedTuple):
    """Items that one config and split hold."""

    name: str | None
    split: str
    items: list[Item]


@lru_cache(maxsize=2)  # both domains of a pair ask the same store, and zips lie on the Hub
def find_items(store: FileStore) -> tuple[Kind, list[Item]]:
    """What a store holds: parquet shards, or else webdataset shards, or else pictures.

    Raises:
        DataError: If it holds neither.
    """
    endings: dict[Kind, str] = {"parquet": ".parquet", "webdataset": ".tar"}
    for kind, ending in endings.items():
        # Beside pictures, `metadata.parquet` describes them.
        shards = [
            f for f in store.files if f.endswith(ending) and not f.endswith("metadata.parquet")
        ]
        if shards:
            return kind, [Item(shard, shard, None) for shard in shards]
    items = []
    for member in members(store, store.files):
        inside = f"{member.archive}/{member.path}" if member.archive else member.path
        items.append(Item(inside, member.archive or member.path, member))
    if not items:
        what = "no pictures (.jpg, .png, .webp, ...)"
        place = f"The folder {store.name}" if not store.fetches else store.name.capitalize()
        shards_too = "" if not store.fetches else ", zips, parquet or webdataset shards of them"
        raise DataError(f"{place} holds {what}{shards_too}.")
    return "files", items


def below(items: Sequence[Item], folder: str | None) -> list[Item]:
    """The items in a folder; of a zip, the folder inside it."""
    if folder is None:
        return list(items)
    wanted = str(PurePosixPath(folder.lstrip("/")))
    found = []
    for item in items:
        inside = item.member.path if item.member and item.member.archive else item.path
        if any(f"/{path}".startswith(f"/{wanted}/") for path in (item.path, inside)):
            found.append(item)
    return found


def find_groups(store: FileStore, kind: Kind, items: Sequence[Item]) -> list[Group]:
    """The configs and splits of a store: those its card names, or else those its paths show."""
    configs = store.card.get("configs") or []
    groups = [group for config in configs for group in _of_config(config, items)]
    if groups:
        return groups
    if kind == "files":
        return _by_split(None, items)
    folders = {PurePosixPath(folder).name: folder for folder in child_folders(items)}
    if len(folders) < 2 or any(_split_of(name) for name in folders):
        return _by_split(None, items)
    return [
        group for name, folder in folders.items() for group in _by_split(name, below(items, folder))
    ]


def _of_config(config: Mapping[str, Any], items: Sequence[Item]) -> list[Group]:
    """A config as a dataset card writes it: a name, and patterns of files for its splits."""
    name = str(config.get("config_name", "default"))
    folder = config.get("data_dir")
    items = below(items, folder)
    patterns = config.get("data_files")
    if patterns is None:
        return _by_split(name, items)
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


def _matches(item: Item, folder: str | None, pattern: str) -> bool:
    whole = f"{folder.strip('/')}/{pattern}" if folder else pattern
    return any(re.fullmatch(glob_translate(whole), path) for path in (item.path, item.file))


def _by_split(name: str | None, items: Sequence[Item]) -> list[Group]:
    """Split items as their paths say; what says nothing belongs to `train` where nothing else does."""
    splits: dict[str, list[Item]] = {}
    rest = []
    for item in items:
        split = _split_of_item(item)
        splits.setdefault(split, []).append(item) if split else rest.append(item)
    if rest and "train" not in splits:
        splits = {"train": rest} | splits
    return [Group(name, split, chosen) for split, chosen in splits.items()]


def _split_of_item(item: Item) -> str | None:
    # A picture's own name says nothing: `train station.jpg`. That of a shard or zip does.
    *folders, base = item.path.split("/")
    parts = folders if item.member else [*folders, base]
    return next((split for part in parts if (split := _split_of(part))), None)


def _split_of(part: str) -> str | None:
    found = _SPLIT.match(part)
    if found is None:
        return None
    word = next(group for group in found.groups() if group).lower()
    return _SPLIT_NAMES.get(word, word)


def domain_folders(items: Sequence[Item]) -> list[str]:
    """The two folders that a pair of domains is told apart by: `trainA`, `trainB`; or `A`, `B`."""
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
    """The folders in which items lie, below the folders that all of them share."""
    paths = [item.path.split("/")[:-1] for item in items]
    shared = 0
    while all(len(path) > shared for path in paths) and len({p[shared] for p in paths}) == 1:
        shared += 1
    if any(len(path) <= shared for path in paths):
        return []
    return sorted({"/".join(path[: shared + 1]) for path in paths})
