"""A model with known translations, and `agit translate` in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from agit_hub.cli import app
from tests.conftest import MakeModel

Translate = Callable[..., Result]

SHADE = 200  # of every pixel that is translated to zebra
STRIPED_MODEL = Path(__file__).resolve().parents[2] / "space" / "models" / "agit-shapes"


@pytest.fixture
def model(make_model: MakeModel, tmp_path: Path) -> Path:
    """Save a model that makes images one grey towards zebra, and keeps them towards horse."""
    folder = tmp_path / "model"
    make_model(maps=(1.0, 0.0), shades=(SHADE, 50)).save_pretrained(folder)
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def translate(model: Path, work: Path) -> Translate:
    """Run the command: by default with that model, to zebra, with results in `out`."""

    def run(*arguments: str, charset: str = "utf-8") -> Result:
        # Of an option that is given twice the last counts.
        defaults = ["--model", str(model), "--to", "zebra", "--out", "out"]
        return CliRunner(charset=charset).invoke(app, ["translate", *defaults, *arguments])

    return run


def paint(path: Path, shade: int = 100, size: tuple[int, int] = (20, 16)) -> Path:
    """Save an even grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)
    return path


def listing(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
