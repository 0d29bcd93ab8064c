"""Example images belong to labels, and a label is never a path."""

from pathlib import Path

import pytest

from agit_hub.models.location import find_model
from agit_hub.shipped import EXAMPLES, SMALL_MODEL, example_images, example_label, shipped_models


def test_example_images_of_a_label_are_its_own() -> None:
    assert {path.parent.name for path in example_images("horse")} == {"horse"}
    assert len(example_images("horse")) == 5 and len(example_images("zebra")) == 7
    assert example_images("apple") == []


@pytest.mark.parametrize("label", ["", ".", "..", "horse/../zebra", str(EXAMPLES / "horse")])
def test_example_images_of_a_label_like_a_path_are_none(label: str) -> None:
    assert example_images(label) == []


def test_example_label_by_file_name_is_its_folder() -> None:
    assert example_label("striped-2.png") == "striped"
    assert example_label("gc3pie-zebra.jpg") == "zebra"
    assert example_label("my-horse.jpg") is None


def test_shipped_models_of_photographs_come_first() -> None:
    names = list(shipped_models())
    assert names[0] == "agit-horse2zebra" and names[-1] == "agit-shapes"


def test_shipped_models_are_looked_for_in_given_places_first(tmp_path: Path) -> None:
    for name in ("agit-apple2orange", "agit-shapes", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    found = shipped_models(tmp_path)
    assert list(found) == list(shipped_models())
    assert found["agit-apple2orange"].parent == found["agit-shapes"].parent == tmp_path
    assert found["agit-horse2zebra"] == shipped_models()["agit-horse2zebra"]


def test_shipped_model_is_found_by_its_name_unless_a_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_model("agit-shapes")
    assert found is not None and found.folder == SMALL_MODEL
    assert find_model("user/agit-shapes") is None  # a repo
    (tmp_path / "agit-shapes").mkdir()
    own = find_model("agit-shapes")
    assert own is not None and own.folder.resolve() == tmp_path / "agit-shapes"
