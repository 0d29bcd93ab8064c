"""Which backend a pipeline gets, and that it makes no difference but in time."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.backends import auto
from agit_hub.backends.auto import choose_backend, exported_folder
from agit_hub.backends.base import in_half
from agit_hub.backends.runtimes import Format
from agit_hub.data import shapes
from agit_hub.errors import BackendError
from agit_hub.inference.image_processor import to_tensor
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from tests.backends.conftest import Files
from tests.conftest import MakeModel


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "HF_ASSETS_CACHE", str(tmp_path / "assets"))


@pytest.fixture
def saved(model: AGITModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _picture(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _same_but_for_rounding(one: Image.Image, other: Image.Image) -> None:
    difference = np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int))
    assert difference.max() <= 1 and difference.mean() < 0.01


def test_a_pipeline_that_is_told_writes_the_files_and_does_the_same(saved: Path) -> None:
    pictures = [
        _picture(n, size) for n, size in enumerate([(16, 16), (24, 16), (24, 16), (64, 90)])
    ]
    plain = AGITPipeline.from_pretrained(saved, device="cpu")
    told = AGITPipeline.from_pretrained(saved, backend="openvino")
    assert (plain.backend.name, told.backend.name) == ("torch", "openvino")
    for to in ("zebra", "horse"):
        expected = plain(pictures, to, batch_size=2)
        found = told(pictures, to, batch_size=2)
        for one, other in zip(expected.images, found.images, strict=True):
            _same_but_for_rounding(one, other)
        for map_, other_map in zip(expected.raw_attention, found.raw_attention, strict=True):
            np.testing.assert_allclose(map_, other_map, atol=1e-4)
    # From now on they are there, and found.
    again = AGITPipeline.from_pretrained(saved, device="cpu")
    assert again.backend.name == "openvino"
    with pytest.raises(ValueError, match="'zebra' or to 'horse', not to 'cow'"):
        again(pictures[0], "cow")


def test_files_that_are_there_are_run(model: AGITModel, files: Files) -> None:
    there = exported_folder(model, "onnx", False)
    shutil.copytree(files("onnx", False)[0].path.parent, there)
    picture = _picture(0, (20, 32))
    pipe = AGITPipeline(model, choose_backend(model))
    assert pipe.backend.name == "onnx"
    for to in ("zebra", "horse"):
        _same_but_for_rounding(
            pipe(picture, to).images[0], AGITPipeline(model)(picture, to).images[0]
        )


def test_the_fastest_that_is_there_is_taken_for_these_weights_alone(
    model: AGITModel, make_model: MakeModel
) -> None:
    def put(format: Format, *names: str) -> Path:
        folder = exported_folder(model, format, False)
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()  # opened when a picture comes
        return folder

    assert choose_backend(model).name == "torch"
    put("onnx", "source_to_target.onnx", "target_to_source.onnx")
    assert choose_backend(model).name == "onnx"
    folder = put("openvino", "source_to_target.xml", "target_to_source.xml")
    assert choose_backend(model).name == "openvino"
    assert choose_backend(model, "torch").name == "torch"
    # 16 bits are not what was written, and another model is another model.
    assert choose_backend(model, half=True).name == "torch"
    assert choose_backend(make_model(channels=8)).name == "torch"
    (folder / "target_to_source.xml").unlink()
    assert choose_backend(model).name == "onnx"


def test_a_compiled_pipeline_does_the_same(saved: Path, tmp_path: Path) -> None:
    picture = _picture(0, (16, 16))
    picture.save(tmp_path / "picture.png")
    # In a process of its own, for the compiler leaves threads and processes behind.
    program = f"""
from PIL import Image
from agit_hub import AGITPipeline
pipe = AGITPipeline.from_pretrained({str(saved)!r}, device="cpu", backend="compile")
assert pipe.backend.name == "compile"
pipe(Image.open("picture.png")).images[0].save("compiled.png")
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    expected = AGITPipeline.from_pretrained(saved, device="cpu", backend="torch")(picture)
    _same_but_for_rounding(Image.open(tmp_path / "compiled.png"), expected.images[0])


def test_an_unknown_backend_is_named(model: AGITModel) -> None:
    with pytest.raises(BackendError, match=r"no backend 'openvina'.*Did you mean 'openvino'"):
        choose_backend(model, "openvina")


def test_what_is_not_installed_is_named(saved: Path) -> None:
    # None in sys.modules is how Python says that there is no such module.
    program = f"""
import sys
from agit_hub import AGITPipeline
from importlib import util
sys.modules["openvino"] = None
try:
    AGITPipeline.from_pretrained({str(saved)!r}, backend="openvino")
except ValueError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "pip install 'agit-hub[openvino]'" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.parametrize("residual", [False, True])
@torch.inference_mode()
def test_in_half_is_within_a_few_values_of_32_bits(make_model: MakeModel, residual: bool) -> None:
    """By float16 on the CPU, which rounds as a GPU does."""
    model = make_model(channels=8, blocks=5, residual=residual).eval()
    for number, label in enumerate(model.config.labels):
        picture = to_tensor(shapes.draw(shapes.LABELS[number], 3, size=64)[0])
        attention, generator = model.direction(label)
        expected, found = generator(picture), in_half(generator, picture)
        difference = (expected - found.float()).abs() * attention(picture)
        assert 0 < difference.max().item() * 127.5 < 6
