"""Names of a Space's models."""

import os
from pathlib import Path

import pytest

from agit_hub.errors import ModelLoadError
from agit_hub.space.models import named_models


def _run(folder: Path) -> Path:
    """Make a run folder with a model, as far as names are concerned."""
    for name in ("model", "best"):
        (folder / name).mkdir(parents=True)
        for file in ("model.safetensors", "config.json"):
            (folder / name / file).touch()
    (folder / "config.yaml").touch()
    return folder


def test_named_models_without_any_are_those_that_ship() -> None:
    assert named_models(None) == named_models(" ")
    assert list(named_models(None)) == ["agit-horse2zebra", "agit-apple2orange", "agit-shapes"]


def test_named_models_of_runs_are_named_by_the_run(tmp_path: Path) -> None:
    a, b = (_run(tmp_path / name) for name in ("a", "b"))
    sources = [str(a / "model"), str(b), str(b / "best" / "model.safetensors")]
    assert named_models(sources) == dict(zip(["a", "b", "b (best)"], sources, strict=True))
    assert named_models(",".join(sources)) == named_models(sources)


def test_named_models_of_equal_names_get_as_much_path_as_differs(tmp_path: Path) -> None:
    sources = [str(_run(tmp_path / folder / "h2z")) for folder in ("x", "y/deep", "z/deep")]
    assert list(named_models(sources)) == ["x/h2z", "y/deep/h2z", "z/deep/h2z"]


def test_named_models_one_folder_in_two_spellings_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(tmp_path / "a, b")
    monkeypatch.chdir(run)
    assert named_models([str(run), str(run / "model"), "model"]) == {"a, b": "model"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(named_models([f"~{os.sep}a, b"])) == ["a, b"]


def test_named_models_repos_are_named_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    sources = [str(tmp_path / "mine"), "user/agit-horse2zebra"]
    assert named_models(sources) == {"mine": sources[0], sources[1]: sources[1]}


def test_named_models_run_without_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ModelLoadError, match="holds no model yet"):
        named_models([str(tmp_path)])
