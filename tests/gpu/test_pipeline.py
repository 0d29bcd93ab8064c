"""Translations on a GPU match those on the CPU, from Python and through the Space."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.inference.pipeline import AGITPipeline

pytestmark = pytest.mark.gpu
SPACE = Path(__file__).resolve().parents[2] / "space"
MODEL = SPACE / "models" / "agit-shapes"


@pytest.fixture(scope="module")
def examples() -> list[Image.Image]:
    """Open the Space's examples."""
    return [Image.open(path).convert("RGB") for path in sorted((SPACE / "examples").glob("*.png"))]


def _difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1), (torch.float16, 6)])
def test_pipeline_on_device_matches_cpu(
    examples: list[Image.Image], device: torch.device, dtype: torch.dtype, most: int
) -> None:
    """In float16, rounding changes more, where a map crosses the threshold."""
    cpu = AGITPipeline.from_pretrained(MODEL, device="cpu", backend="torch")
    gpu = AGITPipeline.from_pretrained(MODEL, device=device, backend="torch", dtype=dtype)
    assert gpu.device.type == device.type
    for label in cpu.model.config.labels:
        for expected, found in zip(
            cpu(examples, label).images, gpu(examples, label).images, strict=True
        ):
            assert _difference(expected, found) <= most


def test_space_on_device_matches_cpu(
    examples: list[Image.Image], device: torch.device, tmp_path: Path
) -> None:
    pytest.importorskip("gradio", reason="the Space's packages are not installed")
    from agit_hub.space.service import SpaceService

    examples[0].save(tmp_path / "image.png")
    service = SpaceService({"demo": str(MODEL)})
    found = service.render(str(tmp_path / "image.png"), "striped", "demo")
    assert service.pipeline("demo").device.type == device.type
    expected = AGITPipeline.from_pretrained(MODEL, device="cpu", backend="torch")
    assert _difference(found.image, expected(examples[0], "striped").images[0]) <= 1
