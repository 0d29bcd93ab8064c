"""Inventory: images or shards of a store, and configs, splits and folders in their paths."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agit_hub.data.inventory import (
    Inventory,
    Item,
    below,
    child_folders,
    domain_folders,
)
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError

Groups = dict[tuple[str | None, str], list[str]]


def _store(root: Path, files: Iterable[str], configs: object = None) -> FolderStore:
    """Return a folder of empty files; `a.zip/b` is a member of a zip."""
    for file in files:
        archive, is_zip, member = file.partition(".zip/")
        path = root / (archive + ".zip" if is_zip else file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_zip:
            with zipfile.ZipFile(path, "a") as opened:
                opened.writestr(member, b"")
        else:
            path.touch()
    store = FolderStore(root)
    if configs is not None:
        store.card = {"configs": configs}
    return store


def _items(root: Path, files: Iterable[str]) -> list[Item]:
    return Inventory(_store(root, files)).items


def _paths(items: Iterable[Item]) -> list[str]:
    return [item.path for item in items]


def _groups(root: Path, files: Iterable[str], configs: object = None) -> Groups:
    store = _store(root, files, configs)
    inventory = Inventory(store)
    groups = inventory.groups(inventory.items)
    found = {(group.name, group.split): _paths(group.items) for group in groups}
    assert len(found) == len(groups)
    return found


def test_inventory_prefers_parquet_then_tars_then_images(tmp_path: Path) -> None:
    everything = ["b.parquet", "a/a.parquet", "c.tar", "d.png", "e.zip/f.png"]
    inventory = Inventory(_store(tmp_path / "all", everything))
    assert inventory.kind == "parquet"
    assert inventory.items == [Item("a/a.parquet"), Item("b.parquet")]
    inventory = Inventory(_store(tmp_path / "tars", everything[2:]))
    assert inventory.kind == "webdataset" and inventory.items == [Item("c.tar")]
    inventory = Inventory(_store(tmp_path / "files", everything[3:]))
    assert inventory.kind == "files" and _paths(inventory.items) == ["d.png", "e.zip/f.png"]


def test_inventory_metadata_parquet_is_not_a_shard(tmp_path: Path) -> None:
    files = ["a.png", "metadata.parquet", "train/b.png", "train/metadata.parquet"]
    inventory = Inventory(_store(tmp_path, files))
    assert inventory.kind == "files" and _paths(inventory.items) == ["a.png", "train/b.png"]


def test_inventory_zip_items_have_file_and_member(tmp_path: Path) -> None:
    files = ["a.png", "z/one.zip/deep/b.png", "z/one.zip/a.JPG", "z/two.ZIP", "z/one.zip/read.me"]
    store = _store(tmp_path, [file for file in files if file != "z/two.ZIP"])
    with zipfile.ZipFile(tmp_path / "z" / "two.ZIP", "w") as opened:
        opened.writestr("c.webp", b"")
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
    assert _paths(_items(tmp_path, ["seen.png", hidden])) == ["seen.png"]


def test_inventory_zip_folder_entries_are_ignored(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as opened:
        opened.mkdir("folder.png")
        opened.writestr("folder.png/a.png", b"")
    assert _paths(Inventory(FolderStore(tmp_path)).items) == ["z.zip/folder.png/a.png"]


@pytest.mark.parametrize("files", [[], ["read.me", "labels.csv"], ["z.zip/read.me"]])
def test_inventory_no_images_raises_with_the_folder(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images") as refusal:
        Inventory(_store(tmp_path, files))
    assert str(tmp_path) in str(refusal.value)


def test_inventory_damaged_zip_raises_with_its_name(tmp_path: Path) -> None:
    store = _store(tmp_path, ["a.png", "z.zip/b.png"])
    (tmp_path / "z.zip").write_bytes((tmp_path / "z.zip").read_bytes()[:-10])
    with pytest.raises(DataError, match="not a complete zip") as refusal:
        Inventory(store)
    assert str(tmp_path / "z.zip") in str(refusal.value)


@pytest.mark.parametrize(
    ("file", "split"),
    [
        # Names used by datasets on the Hub.
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/test-00000-of-00001-0d3c24b1.parquet", "test"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("default/train/0000.parquet", "train"),
        ("partial-train/0000.parquet", None),
        ("train.parquet", "train"),
        ("training.parquet", "train"),
        ("Train.parquet", "train"),
        ("TEST.parquet", "test"),
        ("testing_01.parquet", "test"),
        ("val.parquet", "validation"),
        ("valid.parquet", "validation"),
        ("validation.parquet", "validation"),
        ("validation_2.parquet", "validation"),
        ("dev.parquet", "validation"),
        ("dev-0.parquet", "validation"),
        ("eval.parquet", "test"),
        ("evaluation/0.parquet", "test"),
        ("test/train.parquet", "test"),
        ("train1.parquet", "train"),
        ("trainA.parquet", "train"),
        ("valB-0.parquet", "validation"),
        # Names that only begin like a split.
        ("trainer.parquet", None),
        ("trains/0.parquet", None),
        ("testimony.parquet", None),
        ("tester-00000-of-00001.parquet", None),
        ("device.parquet", None),
        ("development/0.parquet", None),
        ("evaluations.parquet", None),
        ("valley.parquet", None),
        ("validated.parquet", None),
        ("trainAB.parquet", None),
        ("strain.parquet", None),
        ("my_train.parquet", None),
        ("data.parquet", None),
    ],
)
def test_groups_shard_path_gives_the_split(file: str, split: str | None, tmp_path: Path) -> None:
    # Other shards have known splits, so that a shard without a split is ignored.
    beside = {"train": "z/train.parquet", "test": "z/test.parquet", "validation": "z/val.parquet"}
    # Without a folder that is named like a split, the folders would be configs.
    groups = _groups(tmp_path, [file, "train/0.parquet", *beside.values()])
    expected: Groups = {(None, s): [path] for s, path in beside.items()}
    expected[None, "train"].append("train/0.parquet")
    if split is not None:
        expected[None, split].append(file)
    assert {key: sorted(paths) for key, paths in groups.items()} == {
        key: sorted(paths) for key, paths in expected.items()
    }


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["a.png", "b/c.png"], {"train": ["a.png", "b/c.png"]}),
        (["train/a.png", "test/b.png"], {"train": ["train/a.png"], "test": ["test/b.png"]}),
        (["a.png", "test/b.png"], {"train": ["a.png"], "test": ["test/b.png"]}),
        (["a.png", "train/b.png"], {"train": ["train/b.png"]}),
        (["val/horse/a.png"], {"validation": ["val/horse/a.png"]}),
        (["dev/a.png", "eval/b.png"], {"validation": ["dev/a.png"], "test": ["eval/b.png"]}),
        # The name of an image does not count.
        (["train_01.jpg", "test.png"], {"train": ["test.png", "train_01.jpg"]}),
        (["trainer/a.png", "testimony/b.png"], {"train": ["testimony/b.png", "trainer/a.png"]}),
        (
            ["trainA/a.png", "trainB/b.png", "testA/c.png", "testB/d.png"],
            {"train": ["trainA/a.png", "trainB/b.png"], "test": ["testA/c.png", "testB/d.png"]},
        ),
        (
            ["train.zip/a.png", "test.zip/b.png"],
            {"train": ["train.zip/a.png"], "test": ["test.zip/b.png"]},
        ),
        (
            ["all.zip/horses/train/a.png", "all.zip/horses/test/train_b.png"],
            {"train": ["all.zip/horses/train/a.png"], "test": ["all.zip/horses/test/train_b.png"]},
        ),
    ],
)
def test_groups_image_folders_and_zips_give_the_split(
    files: list[str], splits: dict[str, list[str]], tmp_path: Path
) -> None:
    assert _groups(tmp_path, files) == {(None, split): paths for split, paths in splits.items()}


@pytest.mark.parametrize("ending", ["parquet", "tar"])
def test_groups_shard_folders_without_card_are_configs(ending: str, tmp_path: Path) -> None:
    files = [f"horse/train-0.{ending}", f"horse/test-0.{ending}", f"zebra/deep/0.{ending}"]
    assert _groups(tmp_path, files) == {
        ("horse", "train"): files[:1],
        ("horse", "test"): files[1:2],
        ("zebra", "train"): files[2:],
    }


@pytest.mark.parametrize(
    "files",
    [
        ["data/a.parquet", "data/b.parquet"],
        ["train/a.parquet", "train/b.parquet"],
        ["a.parquet", "b.parquet"],
    ],
)
def test_groups_single_shard_folder_is_not_a_config(files: list[str], tmp_path: Path) -> None:
    assert _groups(tmp_path, files) == {(None, "train"): files}


CARD_FILES = [
    "data/train-0.parquet",
    "data/train-1.parquet",
    "data/test-0.parquet",
    "extra/deep/x.parquet",
    "extra/y.parquet",
]
TRAIN, TEST, EXTRA = CARD_FILES[:2], CARD_FILES[2:3], CARD_FILES[3:]


@pytest.mark.parametrize(
    ("data_files", "splits"),
    [
        pytest.param("data/train-0.parquet", {"train": TRAIN[:1]}, id="file"),
        pytest.param("data/train-*", {"train": TRAIN}, id="str"),
        pytest.param(["data/train-0*", "data/train-1*"], {"train": TRAIN}, id="list"),
        pytest.param("**/*.parquet", {"train": [*TEST, *TRAIN, *EXTRA]}, id="star-star"),
        pytest.param("extra/**", {"train": EXTRA}, id="all-below"),
        pytest.param("extra/**/*.parquet", {"train": EXTRA}, id="star-star-in-the-middle"),
        pytest.param("data/train-[0].parquet", {"train": TRAIN[:1]}, id="brackets"),
        pytest.param("data/train-?.parquet", {"train": TRAIN}, id="question-mark"),
        pytest.param(
            [{"split": "train", "path": "data/train-*"}, {"split": "test", "path": "data/test-*"}],
            {"train": TRAIN, "test": TEST},
            id="splits",
        ),
        pytest.param(
            [{"split": "horse", "path": ["data/test-*", "extra/**"]}],
            {"horse": [*TEST, *EXTRA]},
            id="splits-of-lists",
        ),
        pytest.param(
            {"train": "data/train-*", "test": ["data/test-*", "extra/y.parquet"]},
            {"train": TRAIN, "test": [*TEST, EXTRA[1]]},
            id="dict",
        ),
        pytest.param(
            [{"split": "train", "path": "data/train-*"}, {"split": "gone", "path": "gone/*"}],
            {"train": TRAIN},
            id="a-split-without-files",
        ),
    ],
)
def test_groups_card_data_files_select_files_of_splits(
    data_files: object, splits: dict[str, list[str]], tmp_path: Path
) -> None:
    configs = [{"config_name": "photos", "data_files": data_files}]
    expected = {("photos", split): paths for split, paths in splits.items()}
    assert _groups(tmp_path, CARD_FILES, configs) == expected


@pytest.mark.parametrize(
    ("config", "splits"),
    [
        ({"data_dir": "data"}, {"train": TRAIN, "test": TEST}),
        ({"data_dir": "extra"}, {"train": EXTRA}),
        ({"data_dir": "data", "data_files": "train-*"}, {"train": TRAIN}),
        ({"data_dir": "/data/", "data_files": ["test-*"]}, {"train": TEST}),
        ({"data_dir": "extra", "data_files": "**/*.parquet"}, {"train": EXTRA}),
        ({"data_dir": "data", "data_files": [{"split": "a", "path": "*-0*"}]}, None),
        ({}, {"train": TRAIN, "test": TEST}),
    ],
)
def test_groups_card_data_dir_selects_a_folder(
    config: dict[str, Any], splits: dict[str, list[str]] | None, tmp_path: Path
) -> None:
    splits = splits or {"a": [*TEST, *TRAIN[:1]]}
    expected = {("c", split): paths for split, paths in splits.items()}
    assert _groups(tmp_path, CARD_FILES, [{"config_name": "c", **config}]) == expected


def test_groups_card_config_without_name_is_default(tmp_path: Path) -> None:
    configs = [
        {"data_files": "data/train-0.parquet"},
        {"config_name": "more", "data_dir": "data"},
        {"config_name": "gone", "data_files": "gone/*"},
    ]
    assert _groups(tmp_path, CARD_FILES, configs) == {
        ("default", "train"): TRAIN[:1],
        ("more", "train"): TRAIN,
        ("more", "test"): TEST,
    }


@pytest.mark.parametrize("configs", [None, [], [{"config_name": "x", "data_files": "gone/*"}]])
def test_groups_card_without_existing_files_is_ignored(configs: object, tmp_path: Path) -> None:
    assert _groups(tmp_path, TRAIN + TEST, configs) == {
        (None, "train"): TRAIN,
        (None, "test"): TEST,
    }


def test_groups_card_configs_select_images_and_zips(tmp_path: Path) -> None:
    files = ["horse/a.png", "zebra/b.png", "z/one.zip/c.png", "z/two.zip/d.png"]
    configs = [
        {"config_name": "horse", "data_dir": "horse"},
        {"config_name": "zebra", "data_files": "zebra/*.png"},
        {"config_name": "one", "data_files": "z/one.zip"},
        {"config_name": "both", "data_files": "z/*.zip"},
    ]
    assert _groups(tmp_path, files, configs) == {
        ("horse", "train"): files[:1],
        ("zebra", "train"): files[1:2],
        ("one", "train"): files[2:3],
        ("both", "train"): files[2:],
    }


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
def test_below_selects_items_in_a_folder(
    folder: str | None, chosen: list[str], tmp_path: Path
) -> None:
    items = _items(tmp_path, ["a/b/c.png", "ab/c.png", "z.zip/a/d.png", "z.zip/e.png"])
    assert sorted(_paths(below(items, folder))) == sorted(chosen)


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
