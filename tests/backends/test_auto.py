"""Selection of a pipeline's backend, whose results are equal up to rounding."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.backends import auto
from agit_hub.backends.auto import choose_backend, exported_folder
from agit_hub.backends.mixed_precision import generate
from agit_hub.backends.runtimes import Format
from agit_hub.data import shapes
from agit_hub.errors import BackendError
from agit_hub.inference.image_processor import to_tensor
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from tests.conftest import MakeModel
from tests.modes import noise


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "HF_ASSETS_CACHE", str(tmp_path / "assets"))


@pytest.fixture
def saved(make_model: MakeModel, tmp_path: Path) -> Path:
    """The smallest model, which is the fastest to export and to compile."""
    model = make_model(attention_threshold=0.25)
    for network in (model.attention_s, model.attention_t):
        network.head.weight.data.mul_(4)
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _assert_equal_up_to_rounding(one: Image.Image, other: Image.Image) -> None:
    difference = np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int))
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.slow
def test_from_pretrained_openvino_exports_and_matches_torch(saved: Path) -> None:
    images = [
        noise("RGB", size, seed=n)
        for n, size in enumerate([(16, 16), (24, 16), (24, 16), (64, 90)])
    ]
    plain = AGITPipeline.from_pretrained(saved, device="cpu")
    exported = AGITPipeline.from_pretrained(saved, backend="openvino")
    assert (plain.backend.name, exported.backend.name) == ("torch", "openvino")
    for to in ("zebra", "horse"):
        expected = plain(images, to, batch_size=2)
        found = exported(images, to, batch_size=2)
        for one, other in zip(expected.images, found.images, strict=True):
            _assert_equal_up_to_rounding(one, other)
        for map_, other_map in zip(expected.raw_attention, found.raw_attention, strict=True):
            np.testing.assert_allclose(map_, other_map, atol=1e-4)
    # Now the files exist, and `auto` uses them.
    again = AGITPipeline.from_pretrained(saved, device="cpu")
    assert again.backend.name == "openvino"
    with pytest.raises(ValueError, match="'zebra' or to 'horse', not to 'cow'"):
        again(images[0], "cow")


def test_choose_backend_auto_prefers_fastest_of_same_weights(
    model: AGITModel, make_model: MakeModel
) -> None:
    def put(format: Format, *names: str) -> Path:
        folder = exported_folder(model, format, torch.float32)
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()  # opened on first use
        return folder

    assert choose_backend(model).name == "torch"
    put("onnx", "source_to_target.onnx", "target_to_source.onnx")
    assert choose_backend(model).name == "onnx"
    folder = put("openvino", "source_to_target.xml", "target_to_source.xml")
    assert choose_backend(model).name == "openvino"
    assert choose_backend(model, "torch").name == "torch"
    # Files of another dtype or another model do not count.
    assert choose_backend(model, dtype=torch.float16).name == "torch"
    assert choose_backend(make_model(channels=8)).name == "torch"
    (folder / "target_to_source.xml").unlink()
    assert choose_backend(model).name == "onnx"


@pytest.mark.soak
def test_compile_backend_matches_torch(saved: Path, tmp_path: Path) -> None:
    image = noise("RGB", (16, 16), seed=0)
    image.save(tmp_path / "image.png")
    # In a process of its own, because the compiler leaves threads and processes behind.
    program = f"""
from PIL import Image
from agit_hub import AGITPipeline
pipe = AGITPipeline.from_pretrained({str(saved)!r}, device="cpu", backend="compile")
assert pipe.backend.name == "compile"
pipe(Image.open("image.png")).images[0].save("compiled.png")
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    expected = AGITPipeline.from_pretrained(saved, device="cpu", backend="torch")(image)
    _assert_equal_up_to_rounding(Image.open(tmp_path / "compiled.png"), expected.images[0])


def test_choose_backend_unknown_name_is_refused(model: AGITModel) -> None:
    with pytest.raises(BackendError, match=r"'openvina'.*Did you mean 'openvino'"):
        choose_backend(model, "openvina")


@pytest.mark.parametrize("name", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_choose_backend_torch_dtype_applies_on_cpu(
    model: AGITModel, name: str, dtype: torch.dtype
) -> None:
    images = torch.rand(1, 3, 16, 24) * 2 - 1
    expected, found = (
        choose_backend(model, name, each)(images, None) for each in (torch.float32, dtype)
    )
    assert torch.equal(found[0], expected[0])
    assert 0 < (found[1] - expected[1]).abs().max() < 0.2


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("onnx", torch.bfloat16),
        ("openvino", torch.bfloat16),
        ("torch", torch.float64),
        ("compile", torch.int8),
        ("auto", torch.float64),
    ],
)
def test_choose_backend_unsupported_dtype_is_refused(
    model: AGITModel, name: str, dtype: torch.dtype
) -> None:
    with pytest.raises(BackendError, match=f"{name}.*{dtype}.*torch.float32, torch.float16"):
        choose_backend(model, name, dtype)


def test_choose_backend_missing_package_is_named(saved: Path) -> None:
    # None in sys.modules makes imports of that module fail.
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
def test_generate_float16_is_within_6_values_of_float32(
    make_model: MakeModel, residual: bool
) -> None:
    """On the CPU, whose float16 rounds as a GPU's does."""
    model = make_model(channels=8, blocks=5, residual=residual).eval()
    for number, label in enumerate(model.config.labels):
        image = to_tensor(shapes.draw(shapes.LABELS[number], 3, size=64)[0])
        attention, generator = model.direction(label)
        expected, found = generator(image), generate(generator, image, torch.float16)
        difference = (expected - found.float()).abs() * attention(image)
        assert 0 < difference.max().item() * 127.5 < 6
