"""`agit export`, and `agit translate` with exported files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.inference.pipeline import AGITPipeline
from tests.conftest import MakeModel


def _agit(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agit_hub.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HOME": str(home)},
    )


def test_export_files_are_used_by_translate(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(maps=(0.8, 0.4), shades=(200, 40), channels=8).eval()
    model.save_pretrained(tmp_path / "model")
    done = _agit(tmp_path / "home", "export", str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[1].split(";")[0] for line in lines] == ["to zebra", "to horse"]
    paths = [Path(line.split(": ")[0]) for line in lines]
    assert all(path.is_file() and tmp_path / "home" in path.parents for path in paths)

    # If PyTorch were used, breaking the files would have no effect.
    image = Image.fromarray(np.full((20, 24, 3), 90, dtype=np.uint8))
    image.save(tmp_path / "image.png")
    translate = ["translate", str(tmp_path / "image.png"), "--model", str(tmp_path / "model")]
    translate += ["--to", "zebra", "--out", str(tmp_path / "out")]
    done = _agit(tmp_path / "home", *translate)
    assert done.returncode == 0, done.stderr
    expected = np.asarray(AGITPipeline(model)(image).images[0], dtype=int)
    found = np.asarray(Image.open(tmp_path / "out" / "image.png"), dtype=int)
    assert np.abs(found - expected).max() <= 1
    paths[0].write_bytes(b"")
    broken = _agit(tmp_path / "home", *translate, "--overwrite")
    assert broken.returncode == 1 and "Traceback" not in broken.stderr
    assert f"{paths[0]} cannot be run" in broken.stderr and "backend torch" in broken.stderr
    assert _agit(tmp_path / "home", *translate, "--overwrite", "--backend=torch").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "nowhere/nothing"], "nowhere/nothing"),
        (["export", "model", "--format", "tflite"], "tflite"),
        (["translate", "x.png", "--model=m", "--to=z", "--out=o", "--backend=tpu"], "tpu"),
    ],
)
def test_export_user_error_exits_with_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = _agit(tmp_path, *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
