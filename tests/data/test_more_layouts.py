"""Layouts of the datasets library and of others: Arrow, nested columns, paths, metadata, labels."""

import gzip
import json
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agit_hub.data.config import DomainConfig
from agit_hub.data.dataset import UnpairedDataset
from agit_hub.data.load import LoadedDomain, Loading, load_domain, load_domains
from agit_hub.errors import DataError
from tests.data.shards import SIZE, number_of, numbers, png, stream, write_tar


def _pair(path: Path, **options: Any) -> list[list[int]]:
    config = DomainConfig(str(path), **options)
    return [_sorted(each) for each in load_domains(config, config, 16, 0)]


def _sorted(loaded: LoadedDomain) -> list[int]:
    return sorted(chain.from_iterable(numbers(loaded.domain)))


def _one(path: Path, **options: Any) -> LoadedDomain:
    return load_domain(DomainConfig(str(path), **options), Loading(16, 0))


def _numbers(path: Path, **options: Any) -> list[int]:
    return _sorted(_one(path, **options))


def _images(*numbers: int) -> list[dict[str, Any]]:
    return [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]


# Arrow.


def _dataset(names: tuple[str, ...] = ("horse", "zebra")) -> datasets.Dataset:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    )
    rows = {"image": _images(*range(10, 17)), "label": [0, 1, 0, 1, 0, 1, 1]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_save_to_disk_folder_is_read_with_its_labels(tmp_path: Path) -> None:
    _dataset().save_to_disk(tmp_path / "saved", num_shards=2)
    assert _pair(tmp_path / "saved") == [[10, 12, 14], [11, 13, 15, 16]]
    loaded = _one(tmp_path / "saved")
    samples = UnpairedDataset(loaded.domain, loaded.domain, SIZE)
    assert stream(samples, 0) == stream(samples, 1)


def test_save_to_disk_splits_are_folders_and_cache_files_are_left_out(tmp_path: Path) -> None:
    parts = datasets.DatasetDict({"train": _dataset(), "test": _dataset().select([0])})
    parts.save_to_disk(tmp_path)
    (tmp_path / "train" / "cache-12ab.arrow").write_bytes(b"left by a map")
    loaded = _one(tmp_path)
    assert loaded.domain.length == 7 and loaded.config.split == "train"
    assert any("1 Arrow cache file skipped" in note for note in loaded.notes)
    assert _numbers(tmp_path, split="test") == [10]


def test_arrow_file_damaged_raises_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(b"not an arrow file")
    with pytest.raises(DataError, match=r"a\.arrow is not a complete Arrow file"):
        _one(tmp_path)


# Nested columns.


@pytest.mark.parametrize("rows", [2, 9])
def test_images_in_structs_and_lists_are_read(rows: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    nested = [{"image": image, "size": 3} for image in _images(20, 21, 22)]
    pq.write_table(pa.table({"data": nested}), tmp_path / "a" / "0.parquet", row_group_size=rows)
    assert _numbers(tmp_path / "a") == [20, 21, 22]
    assert _one(tmp_path / "a").config.column == "data.image"
    lists = [_images(30, 31), [], _images(32), None, _images(33, 34)]
    table = pa.table({"images": lists, "kind": ["a", "b", "b", "a", "b"]})
    pq.write_table(table, tmp_path / "b" / "0.parquet", row_group_size=rows)
    assert _numbers(tmp_path / "b") == [30, 31, 32, 33, 34]
    assert _numbers(tmp_path / "b", label_column="kind", label_value="b") == [32, 33, 34]


def test_lists_of_plain_bytes_in_structs_are_read(tmp_path: Path) -> None:
    rows = [{"views": [{"png": png(40)}, {"png": png(41)}]}, {"views": [{"png": png(42)}]}]
    pq.write_table(pa.table({"sample": rows}), tmp_path / "0.parquet")
    assert _numbers(tmp_path) == [40, 41, 42]


# Labels.


@pytest.mark.parametrize(
    ("values", "wanted", "found"),
    [
        ([True, False, True], "true", [50, 52]),
        ([True, False, True], False, [51]),
        ([0.1, 2.0, 0.1], "0.1", [50, 52]),
        ([0.1, 2.0, 0.1], 2, [51]),
        (pa.array([0.1, 2.0, 0.1], pa.float32()), 0.1, [50, 52]),
        ([3, 4, 3], "3", [50, 52]),
    ],
)
def test_labels_of_truth_values_and_floats_can_be_named(
    values: Any, wanted: Any, found: list[int], tmp_path: Path
) -> None:
    pq.write_table(
        pa.table({"image": _images(50, 51, 52), "label": values}), tmp_path / "0.parquet"
    )
    assert _numbers(tmp_path, label_column="label", label_value=wanted) == found


def test_columns_unknown_to_the_datasets_library_do_not_matter(tmp_path: Path) -> None:
    maps = pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64()))
    table = pa.table({"image": _images(60, 61), "about": maps, "kind": ["x", "y"]})
    pq.write_table(table, tmp_path / "0.parquet")
    assert _pair(tmp_path, label_column="kind") == [[60], [61]]
    with pytest.raises(DataError, match="label_column 'about'"):
        _one(tmp_path, label_column="about")


def test_labels_of_later_shards_are_found(tmp_path: Path) -> None:
    for number, kind in enumerate(("horse", "zebra")):
        table = pa.table({"image": _images(70 + number), "kind": [kind]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    assert _pair(tmp_path, label_column="kind") == [[70], [71]]


# Tables of file names.


def _loose(root: Path, *numbers: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (root / f"{number}.png").write_bytes(png(number))


def test_path_column_of_a_table_gives_labels_to_the_images_it_names(tmp_path: Path) -> None:
    _loose(tmp_path / "images", 80, 81, 82)
    rows = {"file": ["images/80.png", "images/81.png", "images/82.png"], "kind": ["a", "b", "a"]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    assert _numbers(tmp_path) == [80, 81, 82]
    assert _pair(tmp_path) == [[80, 82], [81]]
    assert _numbers(tmp_path, column="file", label_column="kind", label_value="b") == [81]


def test_two_path_columns_are_a_pair(tmp_path: Path) -> None:
    _loose(tmp_path, 83, 84, 85, 86)
    rows = {"horse": ["83.png", "84.png"], "zebra": ["85.png", "86.png"]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    assert _pair(tmp_path) == [[83, 84], [85, 86]]


def test_image_column_without_bytes_reads_the_files_it_names(tmp_path: Path) -> None:
    _loose(tmp_path / "images", 87)
    rows = [{"bytes": None, "path": "images/87.png"}, {"bytes": png(88), "path": None}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "train.parquet")
    assert _numbers(tmp_path) == [87, 88]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_metadata_beside_images_gives_labels(name: str, tmp_path: Path) -> None:
    _loose(tmp_path, 90, 91, 92, 93)
    rows = [("90.png", "horse"), ("91.png", "zebra"), ("92.png", "horse")]
    if name.endswith("csv"):
        text = "file_name,label\n" + "".join(f"{file},{label}\n" for file, label in rows)
        (tmp_path / name).write_text(text)
    elif name.endswith("jsonl"):
        lines = [json.dumps({"file_name": file, "label": label}) for file, label in rows]
        (tmp_path / name).write_text("\n".join(lines))
    else:
        files, labels = zip(*rows, strict=True)
        pq.write_table(pa.table({"file_name": files, "label": labels}), tmp_path / name)
    assert _pair(tmp_path) == [[90, 92], [91]]
    loaded = _one(tmp_path, label_column="label", label_value="horse")
    assert loaded.domain.length == 2
    # Of four images and a table: two are read, one is a zebra, and one has no row.
    assert any("2 images with another label, or none skipped" in note for note in loaded.notes)
    assert _numbers(tmp_path) == [90, 91, 92, 93]


def test_metadata_unknown_label_lists_the_columns(tmp_path: Path) -> None:
    _loose(tmp_path, 94)
    (tmp_path / "metadata.csv").write_text("file_name,kind\n94.png,a\n")
    with pytest.raises(DataError, match="no label_column 'label'; available: kind"):
        _one(tmp_path, label_column="label")
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"no columns.*metadata\.csv"):
        _one(tmp_path, label_column="label")


def test_webdataset_of_mixed_formats_is_one_column(tmp_path: Path) -> None:
    files = {"a.png": png(95), "a.cls": b"0", "b.jpg": png(96), "b.cls": b"1"}
    write_tar(tmp_path / "0.tar", files)
    loaded = _one(tmp_path)
    assert loaded.config.column == "jpg;png"
    assert sorted(number_of(loaded.domain.image(0, row)) for row in range(2)) == [95, 96]


def test_webdataset_label_inside_json_is_suggested(tmp_path: Path) -> None:
    files = {}
    for number, kind in enumerate(("horse", "zebra")):
        files[f"{number}.png"] = png(number)
        files[f"{number}.json"] = json.dumps({"kind": kind}).encode()
    write_tar(tmp_path / "0.tar", files)
    with pytest.raises(DataError, match=r"both source and target.*label_column json\.kind"):
        _pair(tmp_path)
    assert _pair(tmp_path, label_column="json.kind") == [[0], [1]]


def test_compressed_webdataset_is_read_in_the_same_order(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for number in range(5):
        files[f"{number}.png"], files[f"{number}.cls"] = png(number), b"0"
    (tmp_path / "plain").mkdir()
    (tmp_path / "packed").mkdir()
    write_tar(tmp_path / "plain" / "0.tar", files)
    packed = gzip.compress((tmp_path / "plain" / "0.tar").read_bytes())
    (tmp_path / "packed" / "0.tar.gz").write_bytes(packed)
    domains = [_one(tmp_path / name).domain for name in ("plain", "packed")]
    streams = [stream(UnpairedDataset(each, each, SIZE), 0) for each in domains]
    assert streams[0] == streams[1] and [each.length for each in domains] == [5, 5]
    (tmp_path / "packed" / "0.tar.gz").write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"0\.tar\.gz is not a complete tar"):
        _one(tmp_path / "packed")
