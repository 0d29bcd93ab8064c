"""Read splits and domains from paths: `train`, `testB`, `horse/` beside `zebra/`."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from agit_hub.data.domains.files import Item

_WORD = (
    r"(?i:(train)(?:ing)?|(test)(?:ing)?|(val)(?:id|idation)?|(dev)|(eval)(?:uation)?)"
    r"(?:[-_]?[AB])?"
)
# The name of a folder is a split as a whole: `trainA`, but not `train station` or `trainer`.
_FOLDER = re.compile(_WORD)
# That of a shard or zip may have a number: `test-00000-of-00001`, `validation_2.parquet`.
_SHARD = re.compile(rf"{_WORD}(?:[-_.]?\d[-\w]*)?(?:\.[.\w]+)?")
# Or a description, if other splits have the same: `train_images.zip` beside `test_images.zip`.
_DESCRIBED = re.compile(rf"{_WORD}([-_][A-Za-z][-\w]*)(?:[.\w]+)?")
_SPLIT_NAMES = {"val": "validation", "dev": "validation", "eval": "test"}
_DOMAIN = re.compile(r"(?i:train|test|val|valid|validation)?[-_]?([AB])")


def folder_split(name: str) -> str | None:
    """Return the split that the name of a folder is."""
    return _split(_FOLDER.fullmatch(name))


def shard_split(name: str) -> str | None:
    """Return the split that the name of a shard or zip is."""
    return _split(_SHARD.fullmatch(name))


def described_splits(names: Iterable[str]) -> dict[str, str]:
    """Return the splits of shards whose names differ in nothing else: `train_images`, `test_images`."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _DESCRIBED.fullmatch(name)
        if match is not None and (split := _split(match)) is not None:
            found.setdefault(match.groups()[-1], {})[name] = split
    return {
        name: split
        for splits in found.values()
        if len(set(splits.values())) > 1
        for name, split in splits.items()
    }


def is_named_like_a_shard(file: str) -> bool:
    """Return whether a file has the name of a part of a dataset: a split, or a number of five digits."""
    name = PurePosixPath(file).name
    stem = name.partition(".")[0]
    numbered = re.fullmatch(r"\d+|.*[-_]\d{5,6}|.*\d+-of-\d+.*", stem)
    return shard_split(name) is not None or numbered is not None


def _split(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    word = next(group for group in match.groups()[:5] if group).lower()
    return _SPLIT_NAMES.get(word, word)


def below(items: Sequence[Item], folder: str | None) -> list[Item]:
    """Return the items in a folder of the store or of an archive."""
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
    """Return the folders of items, below the folders that all of them share.

    Images beside the folders do not count if every folder holds more.
    """
    paths = [item.path.split("/")[:-1] for item in items]
    depth = 0
    while True:
        deeper = [path for path in paths if len(path) > depth]
        counts = Counter(path[depth] for path in deeper)
        if not counts or len(paths) - len(deeper) >= min(counts.values()):
            return []
        if len(counts) > 1:
            return sorted({"/".join(path[: depth + 1]) for path in deeper})
        paths, depth = deeper, depth + 1
