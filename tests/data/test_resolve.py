"""resolve_pair and resolve_domain: views by layout and by options."""

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
    pair,
    pair_settings,
    png,
    resolve_one,
    write_folder,
    write_parquet,
    write_tar,
    zip_of_folders,
    zips,
)


@layouts
def test_resolve_pair_layout_gives_both_domains(layout: str, tmp_path: Path) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    assert pair_settings(tmp_path) == (source, target)


@layouts
def test_view_settings_select_the_same_view(layout: str, tmp_path: Path) -> None:
    write, *_ = LAYOUTS[layout]
    write(tmp_path)
    found = pair(tmp_path)
    settings = [view.settings() for view in found]
    assert pair(tmp_path, *settings) == found
    assert tuple(resolve_one(tmp_path, **options) for options in settings) == found
    assert pair(tmp_path, *reversed(settings)) == found[::-1]


@layouts
def test_resolve_pair_options_of_one_side_leave_the_rest_to_the_other(
    layout: str, tmp_path: Path
) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    assert pair_settings(tmp_path, source=target) == (target, source)
    assert pair_settings(tmp_path, target=source) == (target, source)


def test_resolve_pair_first_column_is_the_source(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", zebra=[png()], text=["a"], horse=[png()])
    source, target = pair(tmp_path)
    assert (source.column, target.column) == (ZEBRA, HORSE)


def test_resolve_pair_views_hold_only_their_own_items(tmp_path: Path) -> None:
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


def test_resolve_pair_card_configs_keep_the_card_order(tmp_path: Path) -> None:
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
    for view in (source, target):
        assert (
            resolve_domain(Inventory(store), config_of(tmp_path, view.settings()), "data.source")
            == view
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


def test_resolve_domain_without_name_selects_the_default_config(tmp_path: Path) -> None:
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


def test_resolve_pair_default_config_is_not_used_for_both_sides(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["image"])
    config = config_of(tmp_path, {})
    with pytest.raises(DataError):
        resolve_pair(Inventory(store), config, config)


def test_resolve_pair_two_columns_of_default_config_are_a_pair(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["imageA", "imageB"])
    config = config_of(tmp_path, {})
    views = resolve_pair(Inventory(store), config, config)
    assert [(r.name, r.column) for r in views] == [("default", "imageA"), ("default", "imageB")]


# With options.


@pytest.mark.parametrize(("value", "name"), [(HORSE, HORSE), (1, HORSE), ("1", HORSE), (0, ZEBRA)])
def test_resolve_domain_named_label_matches_name_or_number(
    value: str | int, name: str, tmp_path: Path
) -> None:
    class_labels(tmp_path)
    view = resolve_one(tmp_path, label_column="label", label_value=value)
    assert view.label_value == name
    assert stored_label(Inventory(FolderStore(tmp_path)), view) == (
        "label",
        [ZEBRA, HORSE].index(name),
    )


def test_resolve_domain_unnamed_label_matches_its_value(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "train.parquet",
        image=[png()] * 3,
        kind=[HORSE, ZEBRA, HORSE],
        number=[7, 0, 7],
    )
    store = FolderStore(tmp_path)
    for options, raw in (
        ({"label_column": "kind", "label_value": ZEBRA}, ("kind", ZEBRA)),
        ({"label_column": "number", "label_value": 0}, ("number", 0)),
        ({"label_column": "number", "label_value": "7"}, ("number", 7)),
    ):
        view = resolve_one(tmp_path, **options)
        assert stored_label(Inventory(store), view) == raw
        assert resolve_one(tmp_path, **view.settings()) == view


def test_resolve_pair_label_column_of_two_values_is_a_pair(tmp_path: Path) -> None:
    kinds = [ZEBRA, HORSE, ZEBRA]
    write_parquet(tmp_path / "train.parquet", image=[png()] * 3, kind=kinds)
    options = {"label_column": "kind"}
    source, target = pair(tmp_path, options, options)
    assert (source.label_value, target.label_value) == (HORSE, ZEBRA)
    # Selecting one of two labels as the source leaves the other to the target.
    source, target = pair(tmp_path, {"label_column": "kind", "label_value": ZEBRA}, options)
    assert (source.label_value, target.label_value) == (ZEBRA, HORSE)


@pytest.mark.parametrize(
    ("column", "value"), [("json.kind", HORSE), ("json.number", "3"), ("cls", 5), ("cls", "5")]
)
def test_resolve_domain_webdataset_label_is_cls_or_json_key(
    column: str, value: str | int, tmp_path: Path
) -> None:
    facts = {"kind": HORSE, "number": 3}
    files = {"a__jpg": png(), "a__json": json.dumps(facts).encode(), "a__cls": b"5\n"}
    write_tar(tmp_path / "a.tar", **files, b__jpg=png(), b__cls=b"4")
    view = resolve_one(tmp_path, label_column=column, label_value=value)
    assert (view.column, view.label_column, view.label_value) == (
        "jpg",
        column,
        str(value),
    )
    assert stored_label(Inventory(FolderStore(tmp_path)), view) == (column, str(value))
    assert resolve_one(tmp_path, **view.settings()) == view


def test_resolve_split_defaults_to_train_or_the_only_one(tmp_path: Path) -> None:
    domain_folders(tmp_path / "a")
    options = {"split": "test"}
    assert pair_settings(tmp_path / "a", options, options) == (
        {"split": "test", "data_dir": "testA"},
        {"split": "test", "data_dir": "testB"},
    )
    # Two splits can be the two domains.
    write_parquet(tmp_path / "b" / "train.parquet", image=[png()])
    write_parquet(tmp_path / "b" / "test.parquet", image=[png()])
    source, target = pair(tmp_path / "b", {"split": "test"}, {"split": "train"})
    assert files_of(source) == ["test.parquet"] and files_of(target) == ["train.parquet"]
    assert files_of(resolve_one(tmp_path / "b")) == ["train.parquet"]
    # The only split is selected.
    write_folder(tmp_path / "c", "val/a.png")
    assert resolve_one(tmp_path / "c").settings() == {"split": "validation"}


def test_resolve_data_dir_selects_a_folder(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "a", "set/horse/1.png", "set/zebra/1.png", "set/zebra/2.png", "other/1.png"
    )
    view = resolve_one(tmp_path / "a", data_dir="set/zebra")
    assert files_of(view) == ["set/zebra/1.png", "set/zebra/2.png"]
    assert view.settings() == {"split": "train", "data_dir": "set/zebra"}
    options = {"data_dir": "set"}
    source, target = pair_settings(tmp_path / "a", options, options)
    assert (source["data_dir"], target["data_dir"]) == ("set/horse", "set/zebra")
    zip_of_folders(tmp_path / "b")
    assert files_of(resolve_one(tmp_path / "b", data_dir="set/trainB")) == [
        "all.zip/set/trainB/1.png"
    ]
    write_parquet(tmp_path / "c" / "x" / "0.parquet", image=[png()])
    write_parquet(tmp_path / "c" / "y" / "0.parquet", image=[png()])
    view = resolve_one(tmp_path / "c", data_dir="y")
    assert (
        files_of(view) == ["y/0.parquet"] and resolve_one(tmp_path / "c", **view.settings()) == view
    )


def test_resolve_pair_shared_options_narrow_both_sides(tmp_path: Path) -> None:
    for name in (HORSE, ZEBRA):
        images = [png()]
        write_parquet(tmp_path / name / "train.parquet", imageA=images, imageB=images)
    options = {"name": ZEBRA}
    source, target = pair_settings(tmp_path, options, options)
    assert source == {"name": ZEBRA, "split": "train", "column": "imageA"}
    assert target == {"name": ZEBRA, "split": "train", "column": "imageB"}
    options = {"column": "imageB"}
    source, target = pair_settings(tmp_path, options, options)
    assert source == {"name": HORSE, "split": "train", "column": "imageB"}
    assert target == {"name": ZEBRA, "split": "train", "column": "imageB"}


def test_resolve_pair_plain_bytes_columns_are_images(tmp_path: Path) -> None:
    table = pa.table({"png": [png()], "text": ["a"], "big": pa.array([b"x"], pa.large_binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [view.column for view in pair(tmp_path)] == ["png", "big"]


def test_view_settings_bool_labels_select_the_same_view(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", image=[png()] * 2, striped=[True, False])
    options = {"label_column": "striped"}
    for view in pair(tmp_path, options, options):
        assert resolve_one(tmp_path, **view.settings()) == view
