"""resolve_pair and resolve_domain: errors that list the choices."""

from functools import partial
from pathlib import Path

import pytest

from agit_hub.data.config import DomainConfig
from agit_hub.data.inventory import Inventory
from agit_hub.data.resolve import resolve_pair
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError
from tests.data.layouts import (
    HORSE,
    LAYOUTS,
    ZEBRA,
    Options,
    files_of,
    layouts,
    pair,
    plain_folders,
    png,
    resolve_one,
    two_image_columns,
    write_folder,
    write_parquet,
    write_tar,
)

# Layouts that are read as one domain, unless they must hold a pair.
WHOLE_OTHERWISE = ("named labels", "two folders", "two zips", "cls in a webdataset")


def _refusal(root: Path, source: Options, target: Options | None = None) -> str:
    """Return the error message for a pair, or for a single domain."""
    ask = (
        partial(resolve_one, root, **source)
        if target is None
        else partial(pair, root, source, target)
    )
    with pytest.raises(DataError) as raised:
        ask()
    assert str(root) in str(raised.value)
    return str(raised.value)


def _mentions(message: str, *words: str) -> bool:
    return all(word in message for word in words)


def test_resolve_three_image_columns_lists_them(tmp_path: Path) -> None:
    images = [png()]
    write_parquet(tmp_path / "train.parquet", depth=images, left=images, right=images)
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "3 ways", "column depth", "column left", "column right")
    assert "--data.source.column depth" in message
    assert [r.column for r in pair(tmp_path, {"column": "left"}, {"column": "right"})] == [
        "left",
        "right",
    ]
    # With one column selected, two remain for the other side.
    message = _refusal(tmp_path, {"column": "left"}, {})
    assert _mentions(
        message, "2 ways", "column depth", "column right", "--data.target.column depth"
    )
    assert "column left" not in message
    message = _refusal(tmp_path, {}, {"column": "left"})
    assert _mentions(message, "2 ways", "--data.source.column depth")


@layouts
def test_resolve_domain_dataset_of_two_domains_lists_both(layout: str, tmp_path: Path) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    key = next(key for key, value in source.items() if target[key] != value)
    if layout in WHOLE_OTHERWISE:
        # As one domain, all images are selected.
        assert resolve_one(tmp_path).settings() == {
            k: v for k, v in source.items() if k in ("split", "column")
        }
        return
    message = _refusal(tmp_path, {})
    assert _mentions(message, "2 ways", f"{key} {source[key]}", f"{key} {target[key]}")
    assert f"--data.source.{key} {source[key]}" in message


def test_resolve_pair_three_folders_lists_them(tmp_path: Path) -> None:
    write_folder(tmp_path, "donkey/1.png", "horse/1.png", "zebra/1.png")
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "3 ways", "data_dir donkey", "data_dir horse", "data_dir zebra")
    assert "--data.source.data_dir donkey" in message


def test_resolve_three_labels_lists_them(tmp_path: Path) -> None:
    names = ["donkey", HORSE, ZEBRA]
    write_parquet(tmp_path / "a" / "a.parquet", {"label": names}, image=[png()] * 2, label=[1, 2])
    message = _refusal(tmp_path / "a", {}, {})
    assert _mentions(message, "3 ways", *(f"label_value {name}" for name in names))
    assert "--data.source.label_value donkey" in message
    options = {"label_column": "label"}
    assert "3 ways" in _refusal(tmp_path / "a", options)
    assert "3 ways" in _refusal(tmp_path / "a", options, options)


def test_resolve_pair_two_label_columns_lists_all_labels(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "a.parquet",
        {"animal": [HORSE, ZEBRA], "season": ["summer", "winter"]},
        image=[png()],
        animal=[0],
        season=[1],
    )
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "4 ways", "label_column animal", "label_column season")
    options = {"label_column": "season"}
    source, target = pair(tmp_path, options, options)
    assert (source.label_value, target.label_value) == ("summer", "winter")


def test_resolve_pair_many_views_truncates_the_list(tmp_path: Path) -> None:
    write_folder(tmp_path, *(f"kind{number:02}/1.png" for number in range(20)))
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "20 ways", "kind00", "kind11", "8 more") and "kind12" not in message


def test_resolve_domain_no_train_split_lists_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", image=[png()])
    write_parquet(tmp_path / "val.parquet", image=[png()])
    assert _mentions(_refusal(tmp_path, {}), "no split train", "test", "validation")
    assert files_of(resolve_one(tmp_path, split="validation")) == ["val.parquet"]


UNKNOWN = [
    ("configs", {"name": "cow"}, "name 'cow'", [HORSE, ZEBRA]),
    ("configs", {"split": "validation"}, "split 'validation'", ["test", "train"]),
    ("configs", {"data_dir": "cow"}, "data_dir 'cow'", [HORSE, ZEBRA]),
    ("configs", {"name": HORSE, "column": "photo"}, "column 'photo'", ["image"]),
    ("image columns", {"column": "text"}, "column 'text'", ["imageA", "imageB"]),
    ("image columns", {"name": "default"}, "name 'default'", ["none"]),
    (
        "named labels",
        {"label_column": "kind"},
        "label_column 'kind'",
        ["image", "label", "place"],
    ),
    (
        "named labels",
        {"label_column": "label", "label_value": "cow"},
        "label_value 'cow'",
        [HORSE, ZEBRA],
    ),
    (
        "named labels",
        {"label_column": "label", "label_value": 2},
        "label_value 2",
        [HORSE, ZEBRA],
    ),
    (
        "named labels",
        {"label_column": "label", "label_value": -1},
        "label_value -1",
        [HORSE, ZEBRA],
    ),
    ("folders A and B", {"data_dir": "train"}, "data_dir 'train'", ["trainA", "trainB", "testA"]),
    ("folders A and B", {"split": "validation"}, "split 'validation'", ["train", "test"]),
    ("two zips", {"data_dir": "cow.zip"}, "data_dir 'cow.zip'", ["horse.zip", "zebra.zip"]),
    ("cls in a webdataset", {"column": "png"}, "column 'png'", ["jpg"]),
    (
        "cls in a webdataset",
        {"label_column": "json.kind"},
        "label_column 'json.kind'",
        ["cls", "jpg"],
    ),
    (
        "cls in a webdataset",
        {"label_column": "cls", "label_value": "7"},
        "label_value '7'",
        ["0", "1"],
    ),
    ("endings in a webdataset", {"column": "jpg"}, "column 'jpg'", ["left.jpg", "right.jpg"]),
]


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize(("layout", "options", "wanted", "there"), UNKNOWN)
def test_resolve_unavailable_option_lists_available_values(
    layout: str, options: Options, wanted: str, there: list[str], pair: bool, tmp_path: Path
) -> None:
    LAYOUTS[layout][0](tmp_path)
    message = _refusal(tmp_path, options, options if pair else None)
    missing, _, available = message.partition("; available: ")
    assert f"has no {wanted}" in missing
    assert set(there) <= set(available.rstrip(".").split(", "))


@pytest.mark.parametrize(
    "options", [{"column": "image"}, {"label_column": "label", "label_value": HORSE}]
)
def test_resolve_domain_column_of_image_files_raises(options: Options, tmp_path: Path) -> None:
    plain_folders(tmp_path)
    assert _mentions(_refusal(tmp_path, options), "no columns", "data_dir")


def test_resolve_domain_shards_without_images_raises(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a" / "a.parquet", text=["a"])
    assert _mentions(_refusal(tmp_path / "a", {}), "no images", "a.parquet")
    (tmp_path / "b").mkdir()
    write_tar(tmp_path / "b" / "b.tar", a__txt=b"a")
    assert _mentions(_refusal(tmp_path / "b", {}), "no images", "b.tar")


def test_resolve_pair_same_images_in_a_folder_raises(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "1.png", "2.png")
    assert _mentions(_refusal(tmp_path / "a", {}, {}), "both source and target", "other dataset")
    two_image_columns(tmp_path / "b")
    options = {"column": "imageA"}
    assert "both source and target" in _refusal(tmp_path / "b", options, options)


class _Elsewhere(FolderStore):
    """A folder in place of a dataset on the Hub."""

    fetches = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.title = "The dataset user/horses"


def test_resolve_pair_same_images_on_the_hub_raises(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", image=[png()])
    config = DomainConfig("user/horses")
    with pytest.raises(DataError, match=r"^The dataset user/horses is both") as raised:
        resolve_pair(Inventory(_Elsewhere(tmp_path)), config, config)
    assert "name the other dataset" in str(raised.value)
