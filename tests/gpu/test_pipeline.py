"""Translations on a GPU: those of the CPU, from Python and through the Space."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.inference.pipeline import AGITPipeline

pytestmark = pytest.mark.gpu
SPACE = Path(__file__).resolve().parents[2] / "space"
MODEL = SPACE / "model"


@pytest.fixture(scope="module")
def examples() -> list[Image.Image]:
    """The pictures that come with the Space."""
    return [Image.open(path).convert("RGB") for path in sorted((SPACE / "examples").glob("*.png"))]


def _difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


@pytest.mark.parametrize(("half", "most"), [(False, 1), (True, 6)], ids=["fp32", "half"])
def test_pipeline_translates_as_on_the_cpu(
    examples: list[Image.Image], device: torch.device, half: bool, most: int
) -> None:
    """In half, where a map crosses the threshold a pixel may change at once: those are few."""
    cpu = AGITPipeline.from_pretrained(MODEL, device="cpu", backend="torch")
    gpu = AGITPipeline.from_pretrained(MODEL, device=device, backend="torch", half=half)
    assert gpu.device.type == device.type
    for label in cpu.model.config.labels:
        for expected, found in zip(
            cpu(examples, label).images, gpu(examples, label).images, strict=True
        ):
            assert _difference(expected, found) <= most


def test_space_answers_from_the_device(
    examples: list[Image.Image], device: torch.device, tmp_path: Path
) -> None:
    pytest.importorskip("gradio", reason="the Space's packages are not installed")
    sys.path.insert(0, str(SPACE))
    from studio import SpaceService, TranslateOptions

    examples[0].save(tmp_path / "image.png")
    studio = SpaceService({"demo": str(MODEL)})
    found = studio.render(str(tmp_path / "image.png"), "striped", "demo", TranslateOptions())
    assert studio.pipeline("demo").device.type == device.type
    expected = AGITPipeline.from_pretrained(MODEL, device="cpu", backend="torch")
    assert _difference(found.image, expected(examples[0], "striped").images[0]) <= 1
