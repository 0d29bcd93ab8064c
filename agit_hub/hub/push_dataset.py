"""Publish two folders of images as one dataset on the Hub: a config for each, in parquet shards."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from agit_hub.config import check_label
from agit_hub.data.domains.files import Item
from agit_hub.data.images import UNREADABLE
from agit_hub.data.inventory import Inventory
from agit_hub.data.store import FolderStore
from agit_hub.errors import ConfigError, DataError
from agit_hub.hub.escape import fence, markdown, python, shell
from agit_hub.hub.image_location import without_location
from agit_hub.hub.push import Calls, commit_all, make_repo
from agit_hub.logging import get_logger

_log = get_logger("agit_hub.hub")
# Images that readers of the dataset decompress at once.
_ROW_GROUP = 100
# Characters that `datasets` refuses in names of configurations.
_NOT_IN_CONFIG_NAMES = "<>:/\\|?*"
# Everything that may hold images, such as shards of an earlier push with more images, or of other labels.
# Documents and the Hub's own settings stay.
_REPLACED = re.compile(
    r"(?!\.gitattributes$|(?:.*/)?(?:LICEN[SC]E|NOTICE|CITATION)[^/]*$|.*\.(?:md|txt|bib|cff)$).*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Split:
    """The shards of one config and split, and the number of images in them."""

    label: str
    name: str
    shards: list[str]
    images: int

    @property
    def pattern(self) -> str:
        """The pattern of the shards' paths."""
        return f"{self.shards[0].rpartition('/')[0]}/{self.name}-*.parquet"


def push_pair(
    folders: Mapping[str, Path],
    repo: str,
    license_name: str,
    private: bool,
    shard_bytes: int,
    keep_location: bool = False,
) -> str:
    """Publish two folders of images; data of earlier pushes are removed from the repository.

    Args:
        folders: The folders by label.
        repo: `user/name`, or `name` for the user of the token.
        license_name: Hub identifier of the license.
        private: Whether a new repository is private.
        shard_bytes: Largest size of a shard, except for one that holds a single image.
        keep_location: Whether images may state where they were taken, as their files do.

    Returns:
        The URL of the dataset.

    Raises:
        DataError: If a folder cannot be used.
        PushError: If the push failed.
    """
    if len(folders) != 2:
        raise DataError("Both folders have the same name: set --source-label and --target-label.")
    for label in folders:
        _check_config_name(label)
    with tempfile.TemporaryDirectory(prefix="agit-push-") as place:
        root = Path(place)
        places = _places(list(folders))
        splits = [
            split
            for label, folder in folders.items()
            for split in write_shards(
                root, label, folder, shard_bytes, places[label], keep_location
            )
        ]
        calls = Calls(repo)
        name = make_repo(calls, repo, private, kind="dataset")
        card = dataset_card(name, license_name, splits)
        (root / "README.md").write_text(card, encoding="utf-8")
        return commit_all(calls, root, name, "Upload dataset", kind="dataset", replaced=_REPLACED)


def _check_config_name(label: str) -> None:
    """Check that a label can name a configuration of a dataset.

    Raises:
        DataError: If it cannot.
    """
    try:
        check_label("The label", label)
    except ConfigError as error:
        raise DataError(f"{error} Set --source-label and --target-label.") from error
    found = sorted(set(label) & set(_NOT_IN_CONFIG_NAMES))
    if found:
        raise DataError(
            f"The label {label!r} names a configuration of the dataset, which cannot have "
            f"{' '.join(found)}: set --source-label and --target-label."
        )


def _places(labels: Sequence[str]) -> dict[str, str]:
    """Return a folder for each label, whose name every system and every pattern takes as it is."""
    places: dict[str, str] = {}
    for label in labels:
        place = re.sub(r"[^\w-]+", "_", label, flags=re.ASCII).strip("_") or "images"
        while place.lower() in (each.lower() for each in places.values()):
            place += "_2"
        places[label] = place
    return places


def write_shards(
    root: Path,
    label: str,
    folder: Path,
    shard_bytes: int,
    place: str,
    keep_location: bool = False,
) -> list[Split]:
    """Write each split of a folder's images to shards in `root/place`.

    Raises:
        DataError: If the folder cannot be used.
    """
    store = FolderStore(folder)
    inventory = Inventory(store)
    if inventory.kind != "files":
        raise DataError(f"{folder} holds {inventory.kind} shards; expected a folder of images.")
    for sentence in inventory.skipped.sentences():
        _log.warning("%s: %s", folder, sentence)
    splits = []
    for group in inventory.groups(inventory.items):
        shards, images = [], 0
        for number, rows in enumerate(_shards(store, group.items, shard_bytes, keep_location)):
            path = f"{place}/{group.split}-{number:05d}.parquet"
            _write_parquet(root / path, rows)
            shards.append(path)
            images += len(rows)
        if not images:
            raise DataError(f"None of the images in {folder} can be read: are they complete?")
        splits.append(Split(label, group.split, shards, images))
    return splits


def _shards(
    store: FolderStore, items: Sequence[Item], shard_bytes: int, keep_location: bool
) -> Iterator[list[dict[str, object]]]:
    rows: list[dict[str, object]] = []
    size = 0
    for item in items:
        if item.member is not None:
            _log.warning(
                "Skipped an image inside an archive: %s (unpack it to publish it)", item.path
            )
            continue
        path = store.fetch(item.file)
        try:
            with Image.open(path) as image:
                image.load()
        except UNREADABLE as error:
            _log.warning("Skipped an unreadable image: %s (%s)", path, error)
            continue
        data, name = path.read_bytes(), path.name
        if not keep_location:
            data, name = without_location(data, name)
        if rows and size + len(data) > shard_bytes:
            yield rows
            rows, size = [], 0
        # Parquet holds Unicode only, which a file's name need not be.
        name = os.fsencode(name).decode("utf-8", "replace")
        rows.append({"bytes": data, "path": name})
        size += len(data)
    if rows:
        yield rows


def _write_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict({"image": rows}, features=features)
    disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        table.to_parquet(str(path), batch_size=_ROW_GROUP)
    finally:
        if not disabled:
            datasets.enable_progress_bars()


def dataset_card(repo: str, license_name: str, splits: list[Split]) -> str:
    """Return the dataset card: what it holds, how to load it, and how to train on it."""
    labels = list(dict.fromkeys(split.label for split in splits))
    configs = [
        {
            "config_name": label,
            "data_files": [
                {"split": split.name, "path": split.pattern}
                for split in splits
                if split.label == label
            ],
        }
        for label in labels
    ]
    front = {
        "license": license_name,
        "task_categories": ["image-to-image"],
        "tags": ["unpaired", "agit-hub"],
        "configs": configs,
    }
    counts = "\n".join(
        f"| {markdown(split.label)} | {markdown(split.name)} | {split.images} | {len(split.shards)} |"
        for split in splits
    )
    source, target = labels
    block = fence("".join(labels))
    run = f"runs/{'2'.join(_places(labels).values())}"
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---

# {markdown(source)} and {markdown(target)}

Two sets of images for image-to-image translation without pairs: no image belongs to
one of the other set.

## What it holds

Each set is a configuration of the dataset.

| set | split | images | files |
|---|---|---|---|
{counts}

## How to load it

```python
from datasets import load_dataset

images = load_dataset({python(repo)}, {python(source)}, split={python(splits[0].name)})["image"]
```

## How to train on it

With agit-hub, in a shell:

{block}
agit train --config horse2zebra_small \\
    --data.source.path {repo} --data.target.path {repo} \\
    --model.source_label {shell(source)} --model.target_label {shell(target)} --output_dir {run}
{block}
"""
