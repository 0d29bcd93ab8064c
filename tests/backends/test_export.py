"""Exported files match the model."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from PIL import Image

from agit_hub.backends import export as exporting
from agit_hub.backends.export import export
from agit_hub.backends.runtimes import Format, open_session
from agit_hub.errors import ExportError
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from tests.backends.conftest import Files
from tests.conftest import MakeModel

pytestmark = pytest.mark.slow

FORMATS: list[Format] = ["onnx", "openvino"]

# How a user runs the file with ONNX Runtime alone.
ALONE = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = np.load(sys.argv[2])
image, attention, generated = session.run(["image", "attention", "generated"], {"input": images})
np.savez(sys.argv[3], image=image, attention=attention, generated=generated)
print(json.dumps(session.get_modelmeta().custom_metadata_map))
assert not {"torch", "agit_hub"} & set(sys.modules)
"""


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "guides" / "export.md"


def _images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5)) * 2 - 1


def test_export_onnx_file_needs_only_onnxruntime(
    model: AGITModel, files: Files, tmp_path: Path
) -> None:
    images = _images(3, 3, 20, 36)
    np.save(tmp_path / "images.npy", images.numpy())
    for written, direction in zip(
        files("onnx", torch.float32, count=2),
        (model.source_to_target, model.target_to_source),
        strict=True,
    ):
        places = map(str, (written.path, tmp_path / "images.npy", tmp_path / "found.npz"))
        ran = subprocess.run(
            [sys.executable, "-c", ALONE, *places], capture_output=True, text=True, check=True
        )
        with torch.no_grad():
            expected = direction(images)
        found = np.load(tmp_path / "found.npz")
        for name, value in expected._asdict().items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], value.numpy(), atol=1e-4, err_msg=name)
        metadata = json.loads(ran.stdout)
        assert metadata["to"] == written.to
        assert {metadata["from"], metadata["to"]} == {"horse", "zebra"}
        assert metadata["attention_threshold"] == "0.25"
        assert metadata["image_size"] == "16" and metadata["size_multiple"] == "4"
        assert "-1 to 1" in metadata["input"] and "0 to 1" in metadata["attention"]


def test_export_documented_example_matches_pipeline(
    model: AGITModel, files: Files, tmp_path: Path
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "input.png")
    shutil.copy(files("onnx", torch.float32)[0].path, tmp_path)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    found = np.asarray(Image.open(tmp_path / "zebra.png"), dtype=int)
    expected = np.asarray(AGITPipeline(model)(Image.fromarray(pixels)).images[0], dtype=int)
    assert np.abs(found - expected).max() <= 1
    assert (found == pixels).all(axis=2).any() and (found != pixels).any()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 3, 40, 24), (4, 3, 16, 64)])
def test_export_files_accept_any_batch_and_size(
    model: AGITModel, files: Files, format: Format, shape: tuple[int, ...]
) -> None:
    images = _images(*shape)
    with torch.no_grad():
        expected = model.source_to_target(images)
    found = open_session(files(format, torch.float32)[0].path)(images.numpy())
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one.numpy(), atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_export_float16_files_are_smaller_and_close(files: Files, format: Format) -> None:
    whole, half = files(format, torch.float32), files(format, torch.float16)
    suffix = ".bin" if format == "openvino" else ".onnx"
    sizes = [w[0].path.with_suffix(suffix).stat().st_size for w in (whole, half)]
    assert sizes[1] < sizes[0]
    assert all(0 <= written.mean <= written.maximum < 1 for written in whole)
    assert all(0 < written.mean <= written.maximum < 6 for written in half)


@pytest.mark.parametrize("format", FORMATS)
def test_export_float16_keeps_attention_in_float32(
    model: AGITModel, files: Files, format: Format
) -> None:
    images = _images(2, 3, 20, 36)
    with torch.no_grad():
        expected = model.source_to_target(images)
    image, attention, generated = open_session(files(format, torch.float16)[0].path, torch.float16)(
        images.numpy()
    )
    # A map in 16 bits would differ by up to 2 ** -12 for the last rounding alone.
    np.testing.assert_allclose(attention, expected.attention.numpy(), atol=2e-5)
    assert 1e-5 < np.abs(generated - expected.generated.numpy()).max() < 0.05
    composed = attention * generated + (1 - attention) * images.numpy()
    np.testing.assert_allclose(image, composed, atol=1e-3)


def test_export_float16_keeps_generator_start_in_float32(files: Files) -> None:
    network = onnx.load(files("onnx", torch.float16)[0].path)
    kinds = {tensor.name: tensor.data_type for tensor in network.graph.initializer}
    generator = {
        name.removeprefix("model.generator_st."): kind
        for name, kind in kinds.items()
        if name.startswith("model.generator_st.") and name.endswith("weight")
    }
    blocks = {n: generator[f"layers.{n}.body.0.weight"] for n in range(11, 16)}
    assert {generator[f"layers.{n}.weight"] for n in (0, 4, 8)} == {onnx.TensorProto.FLOAT}
    assert {blocks[n] for n in (11, 12, 13)} == {onnx.TensorProto.FLOAT}
    assert {blocks[n] for n in (14, 15)} == {onnx.TensorProto.FLOAT16}
    attention = [kind for name, kind in kinds.items() if name.startswith("model.attention_s.")]
    assert set(attention) == {onnx.TensorProto.FLOAT}


def test_export_openvino_file_has_metadata(files: Files) -> None:
    network = openvino.Core().read_model(files("openvino", torch.float32)[0].path)
    assert network.get_rt_info(["agit_hub", "to"]).astype(str) == "zebra"
    assert network.get_rt_info(["agit_hub", "attention_threshold"]).astype(str) == "0.25"


def test_export_onnx_dimensions_are_named(files: Files) -> None:
    network = onnx.load(files("onnx", torch.float32)[0].path)
    onnx.checker.check_model(network, full_check=True)
    for value in (*network.graph.input, *network.graph.output):
        sizes = value.type.tensor_type.shape.dim
        assert [d.dim_param or d.dim_value for d in sizes][2:] == ["height", "width"]
        assert sizes[0].dim_param == "batch"


def test_export_of_the_recipe_for_photographs_matches_model(
    make_model: MakeModel, tmp_path: Path
) -> None:
    """Attention on features, and a residual generator that starts at the blurred image."""
    generator = {"upsampling": "nearest", "residual": True, "source_blur": 2.0}
    model = make_model(attention="features", attention_smoothing=5, **generator).eval()
    first = next(export(model, tmp_path))
    images = _images(1, 3, 32, 48)
    with torch.no_grad():
        expected = model.source_to_target(images)
    for one, other in zip(expected, open_session(first.path)(images.numpy()), strict=True):
        np.testing.assert_allclose(other, one.numpy(), atol=1e-4)


def test_export_full_attention_matches_model(make_model: MakeModel, tmp_path: Path) -> None:
    first = next(export(make_model(attention="ones").eval(), tmp_path))
    image, attention, generated = open_session(first.path)(_images(2, 3, 20, 16).numpy())
    assert attention.shape == (2, 1, 20, 16) and (attention == 1).all()
    np.testing.assert_array_equal(image, generated)


def test_export_file_beyond_tolerance_is_not_kept(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(exporting.TOLERANCE, torch.float32, 0.0)
    with pytest.raises(ExportError, match=r"source_to_target\.xml differs .* of 255"):
        next(export(make_model(attention="ones").eval(), tmp_path, "openvino"))
    assert list(tmp_path.iterdir()) == []
