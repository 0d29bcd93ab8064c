"""Which images are meant, by what the files show and by what is said."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agit_hub.data.config import DomainConfig
from agit_hub.data.inventory import Inventory
from agit_hub.data.resolve import resolve_domain, resolve_pair, stored_label
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError
from tests.data.layouts import (
    HORSE,
    LAYOUTS,
    ZEBRA,
    class_labels,
    config_folders,
    config_of,
    domain_folders,
    files_of,
    layouts,
    one,
    pair,
    pair_settings,
    png,
    write_folder,
    write_parquet,
    write_tar,
    zip_of_folders,
    zips,
)


@layouts
def test_two_domains_in_one_place_are_told_apart(layout: str, tmp_path: Path) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    assert pair_settings(tmp_path) == (source, target)


@layouts
def test_a_readings_settings_say_that_reading(layout: str, tmp_path: Path) -> None:
    write, *_ = LAYOUTS[layout]
    write(tmp_path)
    found = pair(tmp_path)
    settings = [reading.settings() for reading in found]
    assert pair(tmp_path, *settings) == found
    assert tuple(one(tmp_path, **said) for said in settings) == found
    assert pair(tmp_path, *reversed(settings)) == found[::-1]


@layouts
def test_what_is_said_of_one_side_leaves_the_other_half_to_the_other(
    layout: str, tmp_path: Path
) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    assert pair_settings(tmp_path, source=target) == (target, source)
    assert pair_settings(tmp_path, target=source) == (target, source)


def test_the_first_column_is_the_source(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", zebra=[png()], text=["a"], horse=[png()])
    source, target = pair(tmp_path)
    assert (source.column, target.column) == (ZEBRA, HORSE)


def test_a_readings_items_are_its_halfs_alone(tmp_path: Path) -> None:
    domain_folders(tmp_path / "folders")
    source, target = pair(tmp_path / "folders")
    assert files_of(source) == ["trainA/1.png", "trainA/2.png"] and files_of(target) == [
        "trainB/1.png"
    ]
    zips(tmp_path / "zips")
    source, target = pair(tmp_path / "zips")
    assert files_of(source) == ["horse.zip/1.png", "horse.zip/deep/2.png"]
    assert files_of(target) == ["zebra.zip/1.png"]
    config_folders(tmp_path / "configs")
    source, target = pair(tmp_path / "configs")
    assert files_of(source) == ["horse/train-00000-of-00001.parquet"]
    assert files_of(target) == ["zebra/train-00000-of-00001.parquet"]


def test_two_configs_of_a_card_are_the_pair_in_the_cards_order(tmp_path: Path) -> None:
    config_folders(tmp_path)
    store = FolderStore(tmp_path)
    store.card = {
        "configs": [
            {"config_name": "z", "data_files": [{"split": "train", "path": "zebra/train-*"}]},
            {"config_name": "h", "data_dir": HORSE},
        ]
    }
    source, target = resolve_pair(
        Inventory(store), DomainConfig(str(tmp_path)), DomainConfig(str(tmp_path))
    )
    assert source.settings() == {"name": "z", "split": "train", "column": "image"}
    assert target.settings() == {"name": "h", "split": "train", "column": "image"}
    for reading in (source, target):
        assert (
            resolve_domain(Inventory(store), config_of(tmp_path, reading.settings()), "data.source")
            == reading
        )
    there = resolve_domain(
        Inventory(store), config_of(tmp_path, {"name": "h", "split": "test"}), "data.source"
    )
    assert files_of(there) == ["horse/test-00000-of-00001.parquet"]


def _default_and_another(root: Path, *, columns: Sequence[str]) -> FolderStore:
    names = ("default", "first", "second")
    for name in names:
        write_parquet(root / f"{name}.parquet", {}, **{column: [png()] for column in columns})
    store = FolderStore(root)
    configs = [{"config_name": name, "data_files": f"{name}.parquet"} for name in names]
    store.card = {"configs": configs}
    return store


def test_the_default_config_is_meant_where_none_is_named(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["image"])
    assert (
        resolve_domain(Inventory(store), config_of(tmp_path, {}), "data.source").name == "default"
    )
    assert (
        resolve_domain(
            Inventory(store), config_of(tmp_path, {"name": "second"}), "data.source"
        ).name
        == "second"
    )


def test_the_default_config_is_not_taken_for_both_sides(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["image"])
    config = config_of(tmp_path, {})
    with pytest.raises(DataError):
        resolve_pair(Inventory(store), config, config)


def test_two_columns_of_the_default_config_are_a_pair(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["imageA", "imageB"])
    config = config_of(tmp_path, {})
    readings = resolve_pair(Inventory(store), config, config)
    assert [(r.name, r.column) for r in readings] == [("default", "imageA"), ("default", "imageB")]


# What is said.


@pytest.mark.parametrize(("value", "name"), [(HORSE, HORSE), (1, HORSE), ("1", HORSE), (0, ZEBRA)])
def test_a_named_label_is_said_by_name_or_number(
    value: str | int, name: str, tmp_path: Path
) -> None:
    class_labels(tmp_path)
    reading = one(tmp_path, label_column="label", label_value=value)
    assert reading.label_value == name
    assert stored_label(Inventory(FolderStore(tmp_path)), reading) == (
        "label",
        [ZEBRA, HORSE].index(name),
    )


def test_labels_without_names_are_said_as_they_are(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "train.parquet",
        image=[png()] * 3,
        kind=[HORSE, ZEBRA, HORSE],
        number=[7, 0, 7],
    )
    store = FolderStore(tmp_path)
    for said, raw in (
        ({"label_column": "kind", "label_value": ZEBRA}, ("kind", ZEBRA)),
        ({"label_column": "number", "label_value": 0}, ("number", 0)),
        ({"label_column": "number", "label_value": "7"}, ("number", 7)),
    ):
        reading = one(tmp_path, **said)
        assert stored_label(Inventory(store), reading) == raw
        assert one(tmp_path, **reading.settings()) == reading


def test_a_label_column_of_two_values_is_enough_for_a_pair(tmp_path: Path) -> None:
    kinds = [ZEBRA, HORSE, ZEBRA]
    write_parquet(tmp_path / "train.parquet", image=[png()] * 3, kind=kinds)
    said = {"label_column": "kind"}
    source, target = pair(tmp_path, said, said)
    assert (source.label_value, target.label_value) == (HORSE, ZEBRA)
    # Which of two is the source may be said by naming one of them.
    source, target = pair(tmp_path, {"label_column": "kind", "label_value": ZEBRA}, said)
    assert (source.label_value, target.label_value) == (ZEBRA, HORSE)


@pytest.mark.parametrize(
    ("column", "value"), [("json.kind", HORSE), ("json.number", "3"), ("cls", 5), ("cls", "5")]
)
def test_a_webdatasets_label_is_of_cls_or_of_a_key_in_json(
    column: str, value: str | int, tmp_path: Path
) -> None:
    facts = {"kind": HORSE, "number": 3}
    files = {"a__jpg": png(), "a__json": json.dumps(facts).encode(), "a__cls": b"5\n"}
    write_tar(tmp_path / "a.tar", **files, b__jpg=png(), b__cls=b"4")
    reading = one(tmp_path, label_column=column, label_value=value)
    assert (reading.column, reading.label_column, reading.label_value) == (
        "jpg",
        column,
        str(value),
    )
    assert stored_label(Inventory(FolderStore(tmp_path)), reading) == (column, str(value))
    assert one(tmp_path, **reading.settings()) == reading


def test_a_split_is_said_and_is_train_otherwise(tmp_path: Path) -> None:
    domain_folders(tmp_path / "a")
    said = {"split": "test"}
    assert pair_settings(tmp_path / "a", said, said) == (
        {"split": "test", "data_dir": "testA"},
        {"split": "test", "data_dir": "testB"},
    )
    # Training images and test images are two domains, if someone says so.
    write_parquet(tmp_path / "b" / "train.parquet", image=[png()])
    write_parquet(tmp_path / "b" / "test.parquet", image=[png()])
    source, target = pair(tmp_path / "b", {"split": "test"}, {"split": "train"})
    assert files_of(source) == ["test.parquet"] and files_of(target) == ["train.parquet"]
    assert files_of(one(tmp_path / "b")) == ["train.parquet"]
    # A split that stands alone is meant.
    write_folder(tmp_path / "c", "val/a.png")
    assert one(tmp_path / "c").settings() == {"split": "validation"}


def test_a_folder_is_said(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "a", "set/horse/1.png", "set/zebra/1.png", "set/zebra/2.png", "other/1.png"
    )
    reading = one(tmp_path / "a", data_dir="set/zebra")
    assert files_of(reading) == ["set/zebra/1.png", "set/zebra/2.png"]
    assert reading.settings() == {"split": "train", "data_dir": "set/zebra"}
    said = {"data_dir": "set"}
    source, target = pair_settings(tmp_path / "a", said, said)
    assert (source["data_dir"], target["data_dir"]) == ("set/horse", "set/zebra")
    zip_of_folders(tmp_path / "b")
    assert files_of(one(tmp_path / "b", data_dir="set/trainB")) == ["all.zip/set/trainB/1.png"]
    write_parquet(tmp_path / "c" / "x" / "0.parquet", image=[png()])
    write_parquet(tmp_path / "c" / "y" / "0.parquet", image=[png()])
    reading = one(tmp_path / "c", data_dir="y")
    assert (
        files_of(reading) == ["y/0.parquet"]
        and one(tmp_path / "c", **reading.settings()) == reading
    )


def test_a_pair_is_found_below_what_both_sides_say(tmp_path: Path) -> None:
    for name in (HORSE, ZEBRA):
        images = [png()]
        write_parquet(tmp_path / name / "train.parquet", imageA=images, imageB=images)
    said = {"name": ZEBRA}
    source, target = pair_settings(tmp_path, said, said)
    assert source == {"name": ZEBRA, "split": "train", "column": "imageA"}
    assert target == {"name": ZEBRA, "split": "train", "column": "imageB"}
    said = {"column": "imageB"}
    source, target = pair_settings(tmp_path, said, said)
    assert source == {"name": HORSE, "split": "train", "column": "imageB"}
    assert target == {"name": ZEBRA, "split": "train", "column": "imageB"}


def test_plain_bytes_are_images_too(tmp_path: Path) -> None:
    table = pa.table({"png": [png()], "text": ["a"], "big": pa.array([b"x"], pa.large_binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [reading.column for reading in pair(tmp_path)] == ["png", "big"]


def test_labels_that_are_truth_values_can_be_said_again(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", image=[png()] * 2, striped=[True, False])
    said = {"label_column": "striped"}
    for reading in pair(tmp_path, said, said):
        assert one(tmp_path, **reading.settings()) == reading
