"""Inventory.groups: configs and splits, from the dataset card or the paths."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agit_hub.data.inventory import Inventory
from tests.data.layouts import empty_files, paths_of

Groups = dict[tuple[str | None, str], list[str]]


def _groups(root: Path, files: Iterable[str], configs: object = None) -> Groups:
    store = empty_files(root, files, configs)
    inventory = Inventory(store)
    groups = inventory.groups(inventory.items)
    found = {(group.name, group.split): paths_of(group.items) for group in groups}
    assert len(found) == len(groups)
    return found


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
