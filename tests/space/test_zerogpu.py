"""The Space on ZeroGPU: torch patched by the real `spaces`, no driver in the app, and a worker."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.data import shapes
from tests.space.conftest import DEMO_MODEL
from tests.space.zerogpu import Emulated, zerogpu

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.version.cuda, reason="ZeroGPU's patches need a PyTorch that was built for CUDA"
    ),
]
LARGE = 512  # pixels that the second model works on
REQUESTS = 30
ANSWER = 60  # seconds, on a busy machine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copy a model that is loaded at the start, and two that are loaded on request."""
    folder = tmp_path_factory.mktemp("models")
    places = {name: folder / name for name in ("first", "second", "third")}
    for place in places.values():
        shutil.copytree(DEMO_MODEL, place)
    config = json.loads((places["second"] / "config.json").read_text())
    (places["second"] / "config.json").write_text(json.dumps(config | {"image_size": LARGE}))
    return places


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Iterator[Emulated]:
    named_models = ",".join(map(str, models.values()))
    with zerogpu(tmp_path_factory.mktemp("zerogpu"), AGIT_MODELS=named_models) as emulated:
        yield emulated


def _drawn(folder: Path, number: int) -> Path:
    path = folder / f"{number}.png"
    shapes.draw("plain", number, size=96, seed=12)[0].save(path)
    return path


def _translate(space: Emulated, path: Path, model: str, to: str = "striped") -> Image.Image:
    options = {"to": to, "model": model, "api_name": "/translate"}
    # A worker that fails to start is not always reported: then there is no result.
    image, _, _ = space.client.submit(handle_file(path), **options).result(timeout=ANSWER)
    return Image.open(image)


def test_zerogpu_models_match_cpu(space: Emulated, models: dict[str, Path], tmp_path: Path) -> None:
    path = _drawn(tmp_path, 0)
    before = len(space.scheduler.seconds())
    for name in ("first", "second"):
        pipeline = AGITPipeline.from_pretrained(models[name], device="cpu", backend="torch")
        expected = pipeline(Image.open(path), "striped").images[0]
        assert _translate(space, path, name).tobytes() == expected.tobytes()
    # Longer durations are requested for larger network inputs.
    assert space.scheduler.seconds()[before:] == [10, 13]
    paths = [path for path, _ in space.scheduler.calls]
    assert paths[:3] == ["/startup-report", "/schedule", "/allow"]
    assert not space.scheduler.assigned


def test_zerogpu_worker_error_is_a_message(
    space: Emulated, models: dict[str, Path], tmp_path: Path
) -> None:
    _translate(space, _drawn(tmp_path, 1), "first")  # now there is a worker
    with pytest.raises(AppError, match="translates to striped or to plain, not to giraffe"):
        _translate(space, _drawn(tmp_path, 2), "third", "giraffe")
    # The app has loaded it, and the worker, which is older, has not.
    shutil.rmtree(models["third"])
    with pytest.raises(AppError, match=r"third is neither an existing folder nor a repo id"):
        _translate(space, _drawn(tmp_path, 2), "third")
    _translate(space, _drawn(tmp_path, 3), "first")
    assert [path for path, _ in space.scheduler.calls].count("/allow") == 1  # by the same worker


def test_zerogpu_unavailable_shows_platform_message(space: Emulated, tmp_path: Path) -> None:
    space.scheduler.unavailable = True
    try:
        with pytest.raises(AppError, match=r"^No GPU was available$"):
            _translate(space, _drawn(tmp_path, 4), "first")
    finally:
        space.scheduler.unavailable = False


def test_zerogpu_cached_predictions_hold_no_file_descriptors(
    space: Emulated, tmp_path: Path
) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{space.started.pid}/fd").iterdir()))

    held = []
    for number in range(REQUESTS):
        _translate(space, _drawn(tmp_path, 100 + number), "first")
        held.append(descriptors())
    assert max(held[REQUESTS // 2 :]) <= max(held[: REQUESTS // 2]) + 2, held


def test_zerogpu_from_pretrained_works_at_module_level(tmp_path: Path) -> None:
    """Onto `cuda`, as ZeroGPU's documentation recommends."""
    program = "\n".join(
        [
            "import spaces",
            "from agit_hub import AGITPipeline",
            f"print(AGITPipeline.from_pretrained({str(DEMO_MODEL)!r}).device)",
        ]
    )
    variables = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | variables, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "cuda:0"
