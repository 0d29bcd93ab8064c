"""`agit inspect`: what would be read, what is left out, and a contact sheet."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from agit_hub.cli import app
from agit_hub.data.domains import parquet
from testing.hub_server import Hub
from tests.data.layouts import class_labels, png, write_folder
from tests.online import connect
from tests.training.hub_datasets import REPO, encoded, shard


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _agit(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def _report(*arguments: object) -> dict[str, Any]:
    return dict(json.loads(_agit(*arguments, "--json").stdout))


def test_inspect_two_folders_says_what_is_read_and_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, "horses/1.png", "horses/2.png", "horses/a.xyz", "zebras/3.png")
    (tmp_path / "horses" / "gone.png").symlink_to("nowhere")
    (tmp_path / "zebras" / "4.png").write_bytes(png(9))
    done = _agit("horses", "zebras", "--out", "sheet.png")
    assert done.exit_code == 0, done.stderr
    for part in (
        "source: 2 images from the folder horses",
        "1 .xyz file skipped: not an image (a.xyz)",
        "1 broken link skipped (gone.png)",
        "target: 2 images",
        "sizes: 4x4 (2)",
        "Contact sheet: sheet.png",
        "These two domains can be trained on.",
    ):
        assert part in done.stdout
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 700 and len(np.unique(np.asarray(sheet))) > 3


def test_inspect_json_counts_add_up_to_the_files_given(tmp_path: Path) -> None:
    write_folder(tmp_path / "d", *(f"trainA/{n}.png" for n in range(3)), "trainB/x.png")
    write_folder(tmp_path / "d", "testA/1.png", "notes.txt", ".hidden/deep.png", "extra/y.png")
    (tmp_path / "d" / "trainB" / "x.png").write_bytes(png(7))
    (tmp_path / "d" / "trainA" / "broken.jpg").write_bytes(b"not an image")
    (tmp_path / "d" / "trainA" / "empty.jpg").touch()
    report = _report("d")
    source, target = report["domains"]
    assert report["trainable"] and (source["images"], target["images"]) == (3, 1)
    given = sum(not path.is_dir() for path in (tmp_path / "d").rglob("*"))
    read = source["images"] + target["images"]
    assert read + source["skipped_total"] + target["skipped_total"] == given
    assert source["splits"] == {"train": 5, "test": 1}


def test_inspect_labels_and_options_are_those_of_a_training(tmp_path: Path) -> None:
    class_labels(tmp_path / "d")
    report = _report("d")
    assert report["trainable"]
    source = report["domains"][0]
    assert source["settings"]["label_value"] == "zebra" and source["labels"]["label"] == [
        "zebra",
        "horse",
    ]
    (one,) = _report("d", "--label-column", "label", "--label-value", "horse")["domains"]
    assert one["images"] == 2
    assert _report("d,label_column=label,label_value=horse")["domains"][0]["images"] == 2


def test_inspect_same_images_cannot_be_trained_on(tmp_path: Path) -> None:
    write_folder(tmp_path, "horses/1.png", "horses/2.png")
    done = _agit("horses", "./horses", "--json")
    assert done.exit_code == 2 and "both source and target" in done.stderr
    assert json.loads(done.stdout)["trainable"] is False
    alone = _agit("horses")
    assert alone.exit_code == 0 and "Not two domains" in alone.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/deep/er"], "does not exist"),
        (["a", "b", "c"], "3 paths are given"),
        (["x,splitt=test"], "unknown key 'splitt'"),
    ],
)
def test_inspect_user_error_is_one_line(arguments: list[str], message: str) -> None:
    done = _agit(*arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert done.stderr.count("error: ") == 1


def test_inspect_counts_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, "horses/1.png", "horses/2.png", "horses/3.png")
    (tmp_path / "horses" / "masks").mkdir()
    (tmp_path / "horses" / "masks" / "2.png").write_bytes(png(9))
    report = _report("horses,masks=horses/masks")
    (domain,) = report["domains"]
    assert domain["images"] == 3
    assert domain["masks"] == {"found": 1, "images": 3, "place": "horses/masks"}
    assert "  masks: 1 of 3 images (horses/masks)" in _agit("horses,masks=horses/masks").stdout
    assert _report("horses")["domains"][0]["masks"] is None


def test_inspect_dataset_of_the_hub_shows_what_it_saw_of_few_shards(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 3)
    deep = encoded(np.tile(np.arange(0, 4096, 256, np.uint16), (16, 1)))
    shards = {f"{number}.parquet": shard({"image": [deep] * 6}) for number in range(5)}
    hub.commit(REPO, shards)
    (seen,) = _report(REPO)["domains"]
    assert (seen["modes"], seen["headers_read"], seen["value_range"]) == ({"I;16": 3}, 3, [0, 4095])
    assert "of the first 3 images taken: values of images with more" in seen["notes"][0]
    assert len(list((tmp_path / "home").rglob("snapshots/*/*.parquet"))) == 1
