"""Which pictures are meant: what is said, what the files show, and what is asked when unsure."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from agit_hub.data.config import DomainConfig
from agit_hub.data.errors import DataError
from agit_hub.data.reading import Reading, choose, choose_pair, raw_label
from agit_hub.data.stores import FolderStore

Said = Mapping[str, Any]
Settings = dict[str, Any]

HORSE, ZEBRA = "horse", "zebra"
NOTHING: Mapping[str, Any] = MappingProxyType({})


def _picture(number: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def _parquet(
    path: Path, labels: Mapping[str, Sequence[str]] = NOTHING, **columns: list[Any]
) -> None:
    """A shard as the datasets library writes it, with pictures where columns hold bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = datasets.Dataset.from_dict(columns)
    for name, values in columns.items():
        if isinstance(values[0], bytes):
            dataset = dataset.cast_column(name, datasets.Image())
    for name, names in labels.items():
        dataset = dataset.cast_column(name, datasets.ClassLabel(names=list(names)))
    dataset.to_parquet(path)


def _tar(path: Path, **files: bytes) -> None:
    """A shard of files whose names are given with `__` for their dots."""
    with tarfile.open(path, "w") as opened:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


def _folder(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(_picture())


def _zip(path: Path, *files: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as opened:
        for file in files:
            opened.writestr(file, _picture())


# Layouts of two domains in one place. Each writes a store and says how its halves are found again.


def _two_image_columns(root: Path) -> None:
    pictures = [_picture(), _picture()]
    _parquet(
        root / "data" / "train-00000-of-00001.parquet",
        imageA=pictures,
        imageB=pictures,
        text=["a", "b"],
    )


def _config_folders(root: Path) -> None:
    for name in (ZEBRA, HORSE):
        _parquet(root / name / "train-00000-of-00001.parquet", image=[_picture()])
        _parquet(root / name / "test-00000-of-00001.parquet", image=[_picture()])


def _class_labels(root: Path) -> None:
    _parquet(
        root / "data" / "train-00000-of-00001.parquet",
        {"label": [ZEBRA, HORSE], "place": ["field", "zoo", "road"]},
        image=[_picture(number) for number in range(4)],
        label=[0, 1, 1, 0],
        place=[2, 1, 0, 0],
    )


def _domain_folders(root: Path) -> None:
    _folder(root, "trainB/1.png", "trainA/1.png", "trainA/2.png", "testA/3.png", "testB/3.png")


def _plain_folders(root: Path) -> None:
    _folder(root, "zebra/1.png", "horse/1.png", "horse/deep/2.png")


def _zips(root: Path) -> None:
    _zip(root / "zebra.zip", "1.png")
    _zip(root / "horse.zip", "1.png", "deep/2.png")


def _zip_of_folders(root: Path) -> None:
    _zip(root / "all.zip", "set/trainB/1.png", "set/trainA/1.png", "set/testA/1.png")


def _webdataset_labels(root: Path) -> None:
    _tar(root / "0.tar", a__jpg=_picture(), a__cls=b"1\n", b__jpg=_picture(), b__cls=b"0")


def _webdataset_endings(root: Path) -> None:
    files = {"a__right__jpg": _picture(), "a__left__jpg": _picture(), "a__txt": b"a field"}
    _tar(root / "train-0.tar", **files)


LAYOUTS = {
    "image columns": (
        _two_image_columns,
        {"split": "train", "column": "imageA"},
        {"split": "train", "column": "imageB"},
    ),
    "configs": (
        _config_folders,
        {"name": HORSE, "split": "train", "column": "image"},
        {"name": ZEBRA, "split": "train", "column": "image"},
    ),
    "named labels": (
        _class_labels,
        {"split": "train", "column": "image", "label_column": "label", "label_value": ZEBRA},
        {"split": "train", "column": "image", "label_column": "label", "label_value": HORSE},
    ),
    "folders A and B": (
        _domain_folders,
        {"split": "train", "data_dir": "trainA"},
        {"split": "train", "data_dir": "trainB"},
    ),
    "two folders": (
        _plain_folders,
        {"split": "train", "data_dir": HORSE},
        {"split": "train", "data_dir": ZEBRA},
    ),
    "two zips": (
        _zips,
        {"split": "train", "data_dir": "horse.zip"},
        {"split": "train", "data_dir": "zebra.zip"},
    ),
    "folders in a zip": (
        _zip_of_folders,
        {"split": "train", "data_dir": "all.zip/set/trainA"},
        {"split": "train", "data_dir": "all.zip/set/trainB"},
    ),
    "cls in a webdataset": (
        _webdataset_labels,
        {"split": "train", "column": "jpg", "label_column": "cls", "label_value": "0"},
        {"split": "train", "column": "jpg", "label_column": "cls", "label_value": "1"},
    ),
    "endings in a webdataset": (
        _webdataset_endings,
        {"split": "train", "column": "left.jpg"},
        {"split": "train", "column": "right.jpg"},
    ),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def _config(root: Path, said: Said) -> DomainConfig:
    return DomainConfig(str(root), **said)


def _pair(root: Path, source: Said = NOTHING, target: Said = NOTHING) -> tuple[Reading, Reading]:
    return choose_pair(FolderStore(root), _config(root, source), _config(root, target))


def _pair_settings(
    root: Path, source: Said = NOTHING, target: Said = NOTHING
) -> tuple[Settings, Settings]:
    first, second = _pair(root, source, target)
    return first.settings(), second.settings()


def _one(root: Path, **said: Any) -> Reading:
    return choose(FolderStore(root), _config(root, said), "data.source")


def _files(reading: Reading) -> list[str]:
    return [item.path for item in reading.items]


@layouts
def test_two_domains_in_one_place_are_told_apart(layout: str, tmp_path: Path) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    assert _pair_settings(tmp_path) == (source, target)


@layouts
def test_a_readings_settings_say_that_reading(layout: str, tmp_path: Path) -> None:
    write, *_ = LAYOUTS[layout]
    write(tmp_path)
    found = _pair(tmp_path)
    settings = [reading.settings() for reading in found]
    assert _pair(tmp_path, *settings) == found
    assert tuple(_one(tmp_path, **said) for said in settings) == found
    assert _pair(tmp_path, *reversed(settings)) == found[::-1]


# Halves that are found only where nothing at all was said.
WHOLE_OTHERWISE = ("named labels", "two folders", "two zips", "cls in a webdataset")


@pytest.mark.parametrize(
    "layout",
    list(LAYOUTS),
)
def test_what_is_said_of_one_side_leaves_the_other_half_to_the_other(
    layout: str, tmp_path: Path
) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    assert _pair_settings(tmp_path, source=target) == (target, source)
    assert _pair_settings(tmp_path, target=source) == (target, source)


def test_the_first_column_is_the_source(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", zebra=[_picture()], text=["a"], horse=[_picture()])
    source, target = _pair(tmp_path)
    assert (source.column, target.column) == (ZEBRA, HORSE)


def test_a_readings_items_are_its_halfs_alone(tmp_path: Path) -> None:
    _domain_folders(tmp_path / "folders")
    source, target = _pair(tmp_path / "folders")
    assert _files(source) == ["trainA/1.png", "trainA/2.png"] and _files(target) == ["trainB/1.png"]
    _zips(tmp_path / "zips")
    source, target = _pair(tmp_path / "zips")
    assert _files(source) == ["horse.zip/1.png", "horse.zip/deep/2.png"]
    assert _files(target) == ["zebra.zip/1.png"]
    _config_folders(tmp_path / "configs")
    source, target = _pair(tmp_path / "configs")
    assert _files(source) == ["horse/train-00000-of-00001.parquet"]
    assert _files(target) == ["zebra/train-00000-of-00001.parquet"]


def test_two_configs_of_a_card_are_the_pair_in_the_cards_order(tmp_path: Path) -> None:
    _config_folders(tmp_path)
    store = FolderStore(tmp_path)
    store.card = {
        "configs": [
            {"config_name": "z", "data_files": [{"split": "train", "path": "zebra/train-*"}]},
            {"config_name": "h", "data_dir": HORSE},
        ]
    }
    source, target = choose_pair(store, DomainConfig(str(tmp_path)), DomainConfig(str(tmp_path)))
    assert source.settings() == {"name": "z", "split": "train", "column": "image"}
    assert target.settings() == {"name": "h", "split": "train", "column": "image"}
    for reading in (source, target):
        assert choose(store, _config(tmp_path, reading.settings()), "data.source") == reading
    there = choose(store, _config(tmp_path, {"name": "h", "split": "test"}), "data.source")
    assert _files(there) == ["horse/test-00000-of-00001.parquet"]


def _default_and_another(root: Path, *, columns: Sequence[str]) -> FolderStore:
    names = ("default", "first", "second")
    for name in names:
        _parquet(root / f"{name}.parquet", {}, **{column: [_picture()] for column in columns})
    store = FolderStore(root)
    configs = [{"config_name": name, "data_files": f"{name}.parquet"} for name in names]
    store.card = {"configs": configs}
    return store


def test_the_default_config_is_meant_where_none_is_named(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["image"])
    assert choose(store, _config(tmp_path, {}), "data.source").name == "default"
    assert choose(store, _config(tmp_path, {"name": "second"}), "data.source").name == "second"


def test_the_default_config_is_not_taken_for_both_sides(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["image"])
    config = _config(tmp_path, {})
    with pytest.raises(DataError):
        choose_pair(store, config, config)


def test_two_columns_of_the_default_config_are_a_pair(tmp_path: Path) -> None:
    store = _default_and_another(tmp_path, columns=["imageA", "imageB"])
    config = _config(tmp_path, {})
    readings = choose_pair(store, config, config)
    assert [(r.name, r.column) for r in readings] == [("default", "imageA"), ("default", "imageB")]


# What is said.


@pytest.mark.parametrize(("value", "name"), [(HORSE, HORSE), (1, HORSE), ("1", HORSE), (0, ZEBRA)])
def test_a_named_label_is_said_by_name_or_number(
    value: str | int, name: str, tmp_path: Path
) -> None:
    _class_labels(tmp_path)
    reading = _one(tmp_path, label_column="label", label_value=value)
    assert reading.label_value == name
    assert raw_label(FolderStore(tmp_path), reading) == ("label", [ZEBRA, HORSE].index(name))


def test_labels_without_names_are_said_as_they_are(tmp_path: Path) -> None:
    _parquet(
        tmp_path / "train.parquet",
        image=[_picture()] * 3,
        kind=[HORSE, ZEBRA, HORSE],
        number=[7, 0, 7],
    )
    store = FolderStore(tmp_path)
    for said, raw in (
        ({"label_column": "kind", "label_value": ZEBRA}, ("kind", ZEBRA)),
        ({"label_column": "number", "label_value": 0}, ("number", 0)),
        ({"label_column": "number", "label_value": "7"}, ("number", 7)),
    ):
        reading = _one(tmp_path, **said)
        assert raw_label(store, reading) == raw
        assert _one(tmp_path, **reading.settings()) == reading


def test_a_label_column_of_two_values_is_enough_for_a_pair(tmp_path: Path) -> None:
    kinds = [ZEBRA, HORSE, ZEBRA]
    _parquet(tmp_path / "train.parquet", image=[_picture()] * 3, kind=kinds)
    said = {"label_column": "kind"}
    source, target = _pair(tmp_path, said, said)
    assert (source.label_value, target.label_value) == (HORSE, ZEBRA)
    # Which of two is the source may be said by naming one of them.
    source, target = _pair(tmp_path, {"label_column": "kind", "label_value": ZEBRA}, said)
    assert (source.label_value, target.label_value) == (ZEBRA, HORSE)


@pytest.mark.parametrize(
    ("column", "value"), [("json.kind", HORSE), ("json.number", "3"), ("cls", 5), ("cls", "5")]
)
def test_a_webdatasets_label_is_of_cls_or_of_a_key_in_json(
    column: str, value: str | int, tmp_path: Path
) -> None:
    facts = {"kind": HORSE, "number": 3}
    files = {"a__jpg": _picture(), "a__json": json.dumps(facts).encode(), "a__cls": b"5\n"}
    _tar(tmp_path / "a.tar", **files, b__jpg=_picture(), b__cls=b"4")
    reading = _one(tmp_path, label_column=column, label_value=value)
    assert (reading.column, reading.label_column, reading.label_value) == (
        "jpg",
        column,
        str(value),
    )
    assert raw_label(FolderStore(tmp_path), reading) == (column, str(value))
    assert _one(tmp_path, **reading.settings()) == reading


def test_a_split_is_said_and_is_train_otherwise(tmp_path: Path) -> None:
    _domain_folders(tmp_path / "a")
    said = {"split": "test"}
    assert _pair_settings(tmp_path / "a", said, said) == (
        {"split": "test", "data_dir": "testA"},
        {"split": "test", "data_dir": "testB"},
    )
    # Training pictures and test pictures are two domains, if someone says so.
    _parquet(tmp_path / "b" / "train.parquet", image=[_picture()])
    _parquet(tmp_path / "b" / "test.parquet", image=[_picture()])
    source, target = _pair(tmp_path / "b", {"split": "test"}, {"split": "train"})
    assert _files(source) == ["test.parquet"] and _files(target) == ["train.parquet"]
    assert _files(_one(tmp_path / "b")) == ["train.parquet"]
    # A split that stands alone is meant.
    _folder(tmp_path / "c", "val/a.png")
    assert _one(tmp_path / "c").settings() == {"split": "validation"}


def test_a_folder_is_said(tmp_path: Path) -> None:
    _folder(tmp_path / "a", "set/horse/1.png", "set/zebra/1.png", "set/zebra/2.png", "other/1.png")
    reading = _one(tmp_path / "a", data_dir="set/zebra")
    assert _files(reading) == ["set/zebra/1.png", "set/zebra/2.png"]
    assert reading.settings() == {"split": "train", "data_dir": "set/zebra"}
    said = {"data_dir": "set"}
    source, target = _pair_settings(tmp_path / "a", said, said)
    assert (source["data_dir"], target["data_dir"]) == ("set/horse", "set/zebra")
    _zip_of_folders(tmp_path / "b")
    assert _files(_one(tmp_path / "b", data_dir="set/trainB")) == ["all.zip/set/trainB/1.png"]
    _parquet(tmp_path / "c" / "x" / "0.parquet", image=[_picture()])
    _parquet(tmp_path / "c" / "y" / "0.parquet", image=[_picture()])
    reading = _one(tmp_path / "c", data_dir="y")
    assert (
        _files(reading) == ["y/0.parquet"] and _one(tmp_path / "c", **reading.settings()) == reading
    )


def test_a_pair_is_found_below_what_both_sides_say(tmp_path: Path) -> None:
    for name in (HORSE, ZEBRA):
        pictures = [_picture()]
        _parquet(tmp_path / name / "train.parquet", imageA=pictures, imageB=pictures)
    said = {"name": ZEBRA}
    source, target = _pair_settings(tmp_path, said, said)
    assert source == {"name": ZEBRA, "split": "train", "column": "imageA"}
    assert target == {"name": ZEBRA, "split": "train", "column": "imageB"}
    said = {"column": "imageB"}
    source, target = _pair_settings(tmp_path, said, said)
    assert source == {"name": HORSE, "split": "train", "column": "imageB"}
    assert target == {"name": ZEBRA, "split": "train", "column": "imageB"}


def test_plain_bytes_are_pictures_too(tmp_path: Path) -> None:
    table = pa.table(
        {"png": [_picture()], "text": ["a"], "big": pa.array([b"x"], pa.large_binary())}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert [reading.column for reading in _pair(tmp_path)] == ["png", "big"]


# What is asked.


def _refusal(root: Path, source: Said, target: Said | None = None) -> str:
    """What is said of a pair, or of a lone domain."""
    ask = partial(_one, root, **source) if target is None else partial(_pair, root, source, target)
    with pytest.raises(DataError) as refusal:
        ask()
    assert str(root) in str(refusal.value)
    return str(refusal.value)


def _mentions(message: str, *words: str) -> bool:
    return all(word in message for word in words)


def test_three_image_columns_are_listed(tmp_path: Path) -> None:
    pictures = [_picture()]
    _parquet(tmp_path / "train.parquet", depth=pictures, left=pictures, right=pictures)
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "3 ways", "column depth", "column left", "column right")
    assert "--data.source.column depth" in message
    assert [r.column for r in _pair(tmp_path, {"column": "left"}, {"column": "right"})] == [
        "left",
        "right",
    ]
    # With one of them said, two are left for the other side.
    message = _refusal(tmp_path, {"column": "left"}, {})
    assert _mentions(
        message, "2 ways", "column depth", "column right", "--data.target.column depth"
    )
    assert "column left" not in message
    message = _refusal(tmp_path, {}, {"column": "left"})
    assert _mentions(message, "2 ways", "--data.source.column depth")


@layouts
def test_a_lone_domain_in_a_place_of_two_must_be_said(layout: str, tmp_path: Path) -> None:
    write, source, target = LAYOUTS[layout]
    write(tmp_path)
    key = next(key for key, value in source.items() if target[key] != value)
    if layout in WHOLE_OTHERWISE:
        # As one domain they are all meant.
        assert _one(tmp_path).settings() == {
            k: v for k, v in source.items() if k in ("split", "column")
        }
        return
    message = _refusal(tmp_path, {})
    assert _mentions(message, "2 ways", f"{key} {source[key]}", f"{key} {target[key]}")
    assert f"--data.source.{key} {source[key]}" in message


def test_three_folders_are_listed(tmp_path: Path) -> None:
    _folder(tmp_path, "donkey/1.png", "horse/1.png", "zebra/1.png")
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "3 ways", "data_dir donkey", "data_dir horse", "data_dir zebra")
    assert "--data.source.data_dir donkey" in message


def test_three_labels_are_listed(tmp_path: Path) -> None:
    names = ["donkey", HORSE, ZEBRA]
    _parquet(tmp_path / "a" / "a.parquet", {"label": names}, image=[_picture()] * 2, label=[1, 2])
    message = _refusal(tmp_path / "a", {}, {})
    assert _mentions(message, "3 ways", *(f"label_value {name}" for name in names))
    assert "--data.source.label_value donkey" in message
    said = {"label_column": "label"}
    assert "3 ways" in _refusal(tmp_path / "a", said)
    assert "3 ways" in _refusal(tmp_path / "a", said, said)


def test_two_label_columns_of_two_names_are_listed(tmp_path: Path) -> None:
    _parquet(
        tmp_path / "a.parquet",
        {"animal": [HORSE, ZEBRA], "season": ["summer", "winter"]},
        image=[_picture()],
        animal=[0],
        season=[1],
    )
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "4 ways", "label_column animal", "label_column season")
    said = {"label_column": "season"}
    source, target = _pair(tmp_path, said, said)
    assert (source.label_value, target.label_value) == ("summer", "winter")


def test_a_long_list_is_cut_and_says_how_much_is_left_out(tmp_path: Path) -> None:
    _folder(tmp_path, *(f"kind{number:02}/1.png" for number in range(20)))
    message = _refusal(tmp_path, {}, {})
    assert _mentions(message, "20 ways", "kind00", "kind11", "8 more") and "kind12" not in message


def test_splits_without_a_train_are_listed(tmp_path: Path) -> None:
    _parquet(tmp_path / "test.parquet", image=[_picture()])
    _parquet(tmp_path / "val.parquet", image=[_picture()])
    assert _mentions(_refusal(tmp_path, {}), "no split train", "test", "validation")
    assert _files(_one(tmp_path, split="validation")) == ["val.parquet"]


UNKNOWN = [
    ("configs", {"name": "cow"}, "name 'cow'", [HORSE, ZEBRA]),
    ("configs", {"split": "validation"}, "split 'validation'", ["test", "train"]),
    ("configs", {"data_dir": "cow"}, "data_dir 'cow'", [HORSE, ZEBRA]),
    ("configs", {"name": HORSE, "column": "picture"}, "column 'picture'", ["image"]),
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
@pytest.mark.parametrize(("layout", "said", "wanted", "there"), UNKNOWN)
def test_what_is_not_there_is_refused_by_naming_what_is(
    layout: str, said: Said, wanted: str, there: list[str], pair: bool, tmp_path: Path
) -> None:
    LAYOUTS[layout][0](tmp_path)
    message = _refusal(tmp_path, said, said if pair else None)
    missing, _, options = message.partition("; there is: ")
    assert f"has no {wanted}" in missing
    assert set(there) <= set(options.rstrip(".").split(", "))


@pytest.mark.parametrize(
    "said", [{"column": "image"}, {"label_column": "label", "label_value": HORSE}]
)
def test_files_have_no_columns(said: Said, tmp_path: Path) -> None:
    _plain_folders(tmp_path)
    assert _mentions(_refusal(tmp_path, said), "no columns", "data_dir")


def test_shards_without_pictures_are_refused(tmp_path: Path) -> None:
    _parquet(tmp_path / "a" / "a.parquet", text=["a"])
    assert _mentions(_refusal(tmp_path / "a", {}), "no pictures", "a.parquet")
    (tmp_path / "b").mkdir()
    _tar(tmp_path / "b" / "b.tar", a__txt=b"a")
    assert _mentions(_refusal(tmp_path / "b", {}), "no pictures", "b.tar")


def test_pictures_that_are_both_domains_are_let_pass_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _folder(tmp_path / "a", "1.png", "2.png")
    source, target = _pair(tmp_path / "a")
    assert source == target and _files(source) == ["1.png", "2.png"]
    assert _mentions(caplog.text, str(tmp_path / "a"), "same pictures")
    _two_image_columns(tmp_path / "b")
    said = {"column": "imageA"}
    source, target = _pair(tmp_path / "b", said, said)
    assert source == target and str(tmp_path / "b") in caplog.text


class _Elsewhere(FolderStore):
    """A folder that stands for a dataset on the Hub."""

    fetches = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.name = "the dataset user/horses"


def test_a_dataset_that_is_both_domains_is_refused(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", image=[_picture()])
    config = DomainConfig("user/horses")
    with pytest.raises(DataError, match=r"^The dataset user/horses is both") as refusal:
        choose_pair(_Elsewhere(tmp_path), config, config)
    assert "name the other dataset" in str(refusal.value)


def test_labels_that_are_truth_values_can_be_said_again(tmp_path: Path) -> None:
    _parquet(tmp_path / "a.parquet", image=[_picture()] * 2, striped=[True, False])
    said = {"label_column": "striped"}
    for reading in _pair(tmp_path, said, said):
        assert _one(tmp_path, **reading.settings()) == reading
