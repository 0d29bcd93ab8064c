"""Publish two folders of images as one dataset on the Hub: a config for each, in parquet shards."""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from agit_hub.data.domains.files import Item
from agit_hub.data.images import UNREADABLE
from agit_hub.data.inventory import Inventory
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError
from agit_hub.hub.push import Calls, commit_all, make_repo

_log = logging.getLogger("agit_hub.hub")
# Images that readers of the dataset decompress at once.
_ROW_GROUP = 100


@dataclass(frozen=True)
class Split:
    """The shards of one config and split, and the number of images in them."""

    label: str
    name: str
    shards: list[str]
    images: int


def push_pair(
    folders: Mapping[str, Path], repo: str, license_name: str, private: bool, shard_bytes: int
) -> str:
    """Publish two folders of images.

    Args:
        folders: The folders by label.
        repo: `user/name`, or `name` for the user of the token.
        license_name: Hub identifier of the license.
        private: Whether a new repository is private.
        shard_bytes: Largest size of a shard, except for one that holds a single image.

    Returns:
        The URL of the dataset.

    Raises:
        DataError: If a folder cannot be used.
        PushError: If the push failed.
    """
    if len(folders) != 2:
        raise DataError("Both folders have the same name: set --source-label and --target-label.")
    with tempfile.TemporaryDirectory(prefix="agit-push-") as place:
        root = Path(place)
        splits = [
            split
            for label, folder in folders.items()
            for split in write_shards(root, label, folder, shard_bytes)
        ]
        card = dataset_card(repo, license_name, splits)
        (root / "README.md").write_text(card, encoding="utf-8")
        calls = Calls(repo)
        name = make_repo(calls, repo, private, kind="dataset")
        return commit_all(calls, root, name, "Upload dataset", kind="dataset")


def write_shards(root: Path, label: str, folder: Path, shard_bytes: int) -> list[Split]:
    """Write each split of a folder's images to shards in `root/label`.

    Raises:
        DataError: If the folder cannot be used.
    """
    store = FolderStore(folder)
    inventory = Inventory(store)
    if inventory.kind != "files":
        raise DataError(f"{folder} holds {inventory.kind} shards; expected a folder of images.")
    splits = []
    for group in inventory.groups(inventory.items):
        shards, images = [], 0
        for number, rows in enumerate(_shards(store, group.items, shard_bytes)):
            path = f"{label}/{group.split}-{number:05d}.parquet"
            _write_parquet(root / path, rows)
            shards.append(path)
            images += len(rows)
        if not images:
            raise DataError(f"None of the images in {folder} can be read: are they complete?")
        splits.append(Split(label, group.split, shards, images))
    return splits


def _shards(
    store: FolderStore, items: Sequence[Item], shard_bytes: int
) -> Iterator[list[dict[str, object]]]:
    rows: list[dict[str, object]] = []
    size = 0
    for item in items:
        if item.member is not None:
            continue
        path = store.fetch(item.file)
        try:
            with Image.open(path) as image:
                image.load()
        except UNREADABLE as error:
            _log.warning("Skipped an unreadable image: %s (%s)", path, error)
            continue
        data = path.read_bytes()
        if rows and size + len(data) > shard_bytes:
            yield rows
            rows, size = [], 0
        # Parquet holds Unicode only, which a file's name need not be.
        name = os.fsencode(path.name).decode("utf-8", "replace")
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
    """Return the dataset card: its configs, and how to train on it."""
    labels = list(dict.fromkeys(split.label for split in splits))
    configs = [
        {
            "config_name": label,
            "data_files": [
                {"split": split.name, "path": f"{label}/{split.name}-*.parquet"}
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
        f"| {split.label} | {split.name} | {split.images} | {len(split.shards)} |"
        for split in splits
    )
    source, target = labels
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---

# {source} and {target}

Two sets of unpaired images for image-to-image translation.

| config | split | images | shards |
|---|---|---|---|
{counts}

Train on it with agit-hub:

```
agit train --config horse2zebra_small \\
    --data.source.path {repo} --data.target.path {repo} \\
    --model.source_label {source} --model.target_label {target} --output_dir runs/{source}2{target}
```
"""
