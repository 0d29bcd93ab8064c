"""Inventory: images or shards of a store, and folders in their paths."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from agit_hub.data.domains.files import Item
from agit_hub.data.inventory import Inventory
from agit_hub.data.splits import below, child_folders, domain_folders
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError
from tests.data.layouts import empty_files, paths_of, png, write_folder, write_parquet


def _items(root: Path, files: Iterable[str]) -> list[Item]:
    return Inventory(empty_files(root, files)).items


def test_inventory_kind_is_that_of_the_most_images(tmp_path: Path) -> None:
    for kind, rows in (("files", 6), ("parquet", 7)):
        root = tmp_path / kind
        write_folder(root, *(f"{number}.png" for number in range(6)))
        write_parquet(root / "train-00000-of-00001.parquet", image=[png()] * rows)
        inventory = Inventory(FolderStore(root))
        assert inventory.kind == kind
        left = "6 .png files" if kind == "parquet" else "1 .parquet file"
        assert any(line.startswith(left) for line in inventory.skipped.sentences())


def test_inventory_metadata_parquet_is_not_a_shard(tmp_path: Path) -> None:
    files = ["a.png", "metadata.parquet", "train/b.png", "train/metadata.parquet"]
    inventory = Inventory(empty_files(tmp_path, files))
    assert inventory.kind == "files" and paths_of(inventory.items) == ["a.png", "train/b.png"]


def test_inventory_zip_items_have_file_and_member(tmp_path: Path) -> None:
    files = ["a.png", "z/one.zip/deep/b.png", "z/one.zip/a.JPG", "z/two.ZIP", "z/one.zip/read.me"]
    store = empty_files(tmp_path, [file for file in files if file != "z/two.ZIP"])
    with zipfile.ZipFile(tmp_path / "z" / "two.ZIP", "w") as opened:
        opened.writestr("c.webp", b"-")
    store = FolderStore(tmp_path)
    found = [(item.path, item.file, item.member) for item in Inventory(store).items]
    assert found == [
        ("a.png", "a.png", None),
        ("z/one.zip/a.JPG", "z/one.zip", "a.JPG"),
        ("z/one.zip/deep/b.png", "z/one.zip", "deep/b.png"),
        ("z/two.ZIP/c.webp", "z/two.ZIP", "c.webp"),
    ]


@pytest.mark.parametrize(
    "hidden",
    [
        ".a.png",
        ".cache/a.png",
        "deep/.cache/deep/a.png",
        "__MACOSX/a.png",
        "deep/__MACOSX/a.png",
        "z.zip/__MACOSX/deep/a.png",
        "z.zip/__MACOSX/._a.png",
        "z.zip/deep/._a.png",
        "z.zip/.hidden/a.png",
        "._train.parquet",
        ".cache/train.tar",
    ],
)
def test_inventory_hidden_files_are_ignored(hidden: str, tmp_path: Path) -> None:
    assert paths_of(_items(tmp_path, ["seen.png", hidden])) == ["seen.png"]


def test_inventory_zip_folder_entries_are_ignored(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as opened:
        opened.mkdir("folder.png")
        opened.writestr("folder.png/a.png", b"-")
    assert paths_of(Inventory(FolderStore(tmp_path)).items) == ["z.zip/folder.png/a.png"]


@pytest.mark.parametrize("files", [[], ["read.me", "labels.csv"], ["z.zip/read.me"]])
def test_inventory_no_images_raises_with_the_folder(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images") as raised:
        Inventory(empty_files(tmp_path, files))
    assert str(tmp_path) in str(raised.value)


def test_inventory_damaged_zip_raises_with_its_name(tmp_path: Path) -> None:
    store = empty_files(tmp_path, ["a.png", "z.zip/b.png"])
    (tmp_path / "z.zip").write_bytes((tmp_path / "z.zip").read_bytes()[:-10])
    with pytest.raises(DataError, match="not a complete zip") as raised:
        Inventory(store)
    assert str(tmp_path / "z.zip") in str(raised.value)


@pytest.mark.parametrize(
    ("folder", "chosen"),
    [
        (None, ["ab/c.png", "a/b/c.png", "z.zip/a/d.png", "z.zip/e.png"]),
        ("a", ["a/b/c.png", "z.zip/a/d.png"]),
        ("/a/", ["a/b/c.png", "z.zip/a/d.png"]),
        ("a/b", ["a/b/c.png"]),
        ("z.zip", ["z.zip/a/d.png", "z.zip/e.png"]),
        ("z.zip/a", ["z.zip/a/d.png"]),
        ("b", []),
        ("a/b/c.png", []),
    ],
)
def test_below_selects_items_in_a_folder(folder: str | None, chosen: list[str]) -> None:
    items = [Item("a/b/c.png"), Item("ab/c.png"), Item("z.zip", "a/d.png"), Item("z.zip", "e.png")]
    assert sorted(paths_of(below(items, folder))) == sorted(chosen)


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (["trainA/a.png", "trainB/b.png"], ["trainA", "trainB"]),
        (["B/a.png", "A/b.png"], ["A", "B"]),
        (["train_B/a.png", "train_A/b.png"], ["train_A", "train_B"]),
        (["val-A/deep/a.png", "val-B/b.png"], ["val-A", "val-B"]),
        (["validationA/a.png", "validationB/b.png"], ["validationA", "validationB"]),
        (["set/train/A/a.png", "set/train/B/b.png"], ["set/train/A", "set/train/B"]),
        (["z.zip/set/A/a.png", "z.zip/set/B/b.png"], ["z.zip/set/A", "z.zip/set/B"]),
        (["trainA/a.png"], []),
        (["trainA/a.png", "A/b.png"], []),
        (["horse/a.png", "zebra/b.png"], []),
        (["trainC/a.png", "trainD/b.png"], []),
        (["a/a.png", "b/b.png"], []),
        (["traina/a.png", "trainb/b.png"], []),
        (["A.png", "B.png"], []),
        (["horseA/a.png", "horseB/b.png"], []),
    ],
)
def test_domain_folders_finds_folders_a_and_b(
    files: list[str], folders: list[str], tmp_path: Path
) -> None:
    assert domain_folders(_items(tmp_path, files)) == folders


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (["zebra/a.png", "horse/b.png", "horse/deep/c.png"], ["horse", "zebra"]),
        (
            ["all/train/zebra/a.png", "all/train/horse/b.png"],
            ["all/train/horse", "all/train/zebra"],
        ),
        (["horse.zip/a.png", "zebra.zip/deep/b.png"], ["horse.zip", "zebra.zip"]),
        (["z.zip/horse/a.png", "z.zip/zebra/b.png"], ["z.zip/horse", "z.zip/zebra"]),
        (["x/a.png", "y/b.png", "z/c.png"], ["x", "y", "z"]),
        (["a.png", "b.png"], []),
        (["all/a.png", "all/b.png"], []),
        (["a.png", "horse/b.png", "zebra/c.png"], []),
        (["all/a.png", "all/horse/b.png", "all/zebra/c.png"], []),
    ],
)
def test_child_folders_are_below_the_shared_folders(
    files: list[str], folders: list[str], tmp_path: Path
) -> None:
    assert child_folders(_items(tmp_path, files)) == folders
