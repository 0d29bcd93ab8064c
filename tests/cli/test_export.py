"""`agit export`, and `agit translate` with exported files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from agit_hub.backends import auto
from agit_hub.cli import app
from agit_hub.inference.pipeline import AGITPipeline
from tests.conftest import MakeModel

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "HF_ASSETS_CACHE", str(tmp_path / "assets"))


def _agit(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_export_files_are_used_by_translate(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(maps=(0.8, 0.4), shades=(200, 40)).eval()
    model.save_pretrained(tmp_path / "model")
    done = _agit("export", str(tmp_path / "model"))
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[1].split(";")[0] for line in lines] == ["to zebra", "to horse"]
    paths = [Path(line.split(": ")[0]) for line in lines]
    assert all(path.is_file() and tmp_path / "assets" in path.parents for path in paths)

    # If PyTorch were used, breaking the files would have no effect.
    image = Image.fromarray(np.full((20, 24, 3), 90, dtype=np.uint8))
    image.save(tmp_path / "image.png")
    translate = ["translate", str(tmp_path / "image.png"), "--model", str(tmp_path / "model")]
    translate += ["--to", "zebra", "--out", str(tmp_path / "out")]
    done = _agit(*translate)
    assert done.exit_code == 0, done.stderr
    expected = np.asarray(AGITPipeline(model)(image).images[0], dtype=int)
    found = np.asarray(Image.open(tmp_path / "out" / "image.png"), dtype=int)
    assert np.abs(found - expected).max() <= 1
    paths[0].write_bytes(b"")
    broken = _agit(*translate, "--overwrite")
    assert broken.exit_code == 1
    assert f"{paths[0]} cannot be run" in broken.stderr and "backend torch" in broken.stderr
    assert _agit(*translate, "--overwrite", "--backend=torch").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "nowhere/nothing"], "nowhere/nothing"),
        (["export", "model", "--format", "tflite"], "tflite"),
        (["translate", "x.png", "--model=m", "--to=z", "--out=o", "--backend=tpu"], "tpu"),
    ],
)
def test_export_user_error_exits_with_2(arguments: list[str], message: str) -> None:
    done = _agit(*arguments)
    assert done.exit_code == 2 and message in done.stderr
