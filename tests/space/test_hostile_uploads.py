"""Uploads that are damaged or ask for too much: each is one visitor's, and one file's, trouble."""

import io
import re
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from gradio.components.image_editor import AcceptBlobs, EditorData
from gradio.data_classes import FileData
from PIL import ExifTags, Image

from agit_hub.errors import ImageError, MaskError
from agit_hub.inference.prediction import Prediction
from agit_hub.space.edits import make_edits, open_mask, open_strokes
from agit_hub.space.limits import MAX_BRUSH_MEGABYTES, MAX_MEGABYTES
from agit_hub.space.memory import num_bytes, without_unused_info
from agit_hub.space.service import SpaceService
from agit_hub.space.uploaded_strokes import UploadedStrokes
from tests.damaged_exif import DAMAGED, write_damaged
from tests.space.conftest import DEMO_MODEL


@pytest.fixture(scope="module")
def service() -> SpaceService:
    return SpaceService({"demo": str(DEMO_MODEL)})


def test_brush_layer_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "layer.png"
    Image.new("RGBA", (5000, 5000)).save(path)
    with pytest.raises(ImageError, match=r"The painted layer has 5000 x 5000 pixels; 4 megapixels"):
        open_strokes(str(path))
    path.write_bytes(bytes(MAX_BRUSH_MEGABYTES * 10**6 + 1))
    with pytest.raises(ImageError, match=r"The painted layer has 4.0 MB; 4 MB is the limit"):
        open_strokes(str(path))
    assert open_strokes(None) is None


def _save(path: Path, mode: str, size: tuple[int, int], white: Any = 0) -> Path:
    Image.new(mode, size, white).save(path)
    return path


def test_mask_that_is_none_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"these are no pixels")
    (tmp_path / "empty.png").write_bytes(b"")
    drawn = _save(tmp_path / "half.png", "L", (64, 64), 255).read_bytes()
    (tmp_path / "half.png").write_bytes(drawn[: len(drawn) // 2])
    _save(tmp_path / "wide.png", "1", (6000, 4001), 1)
    _save(tmp_path / "bomb.png", "1", (20000, 20000))
    _save(tmp_path / "black.png", "L", (8, 8))
    _save(tmp_path / "clear.png", "LA", (8, 8), (255, 0))
    _save(tmp_path / "lab.tif", "LAB", (8, 8), (255, 0, 0))
    with (tmp_path / "heavy.png").open("wb") as file:
        file.truncate(MAX_MEGABYTES * 10**6 + 10**5)
    for name, error, message in (
        ("notes.png", ImageError, "is not an image in a known format"),
        ("empty.png", ImageError, "is empty."),
        ("half.png", ImageError, "is damaged: "),
        ("wide.png", ImageError, "has 6000 x 4001 pixels; 24 megapixels is the limit."),
        ("bomb.png", ImageError, "has far too many pixels."),
        ("heavy.png", ImageError, "has 40.1 MB; 40 MB is the limit."),
        ("black.png", MaskError, "is black everywhere: a mask is white where the image may change."),
        ("clear.png", MaskError, "is black everywhere: a mask is white where the image may change."),
        ("lab.tif", MaskError, "cannot be read as a mask: "),
    ):  # fmt: skip
        with pytest.raises(error, match=f"^{re.escape(f'{name} {message}')}"):
            open_mask(str(tmp_path / name))
    assert open_mask(None) is None


def test_brush_component_opens_no_layer(tmp_path: Path) -> None:
    brush = UploadedStrokes()
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(b"no image")
    layers = [FileData(path=str(file)) for file in files]
    data = EditorData(background=layers[0], layers=layers, composite=layers[1])
    assert brush.preprocess(data) == str(files[0])
    assert brush.preprocess(EditorData()) is brush.preprocess(None) is None


def test_brush_component_keeps_few_bytes_of_what_pages_send() -> None:
    brush = UploadedStrokes()
    for kind, index, size in (("layer", "999999999", 9), ("background", "0", 9), ("layer", "0", 9)):
        fields: Any = {"type": kind, "index": index, "file": b"", "id": f"{kind}{index}"}
        brush.accept_blobs(AcceptBlobs(data=fields, files=[("a", bytes(size))]))
    assert list(brush._layers) == ["layer0"]
    path = brush.preprocess(EditorData(id="layer0"))
    assert path is not None and Path(path).read_bytes() == bytes(9)
    for number in range(40):
        fields = {"type": "layer", "index": "0", "file": b"", "id": str(number)}
        content = bytes(MAX_BRUSH_MEGABYTES * 10**6)
        brush.accept_blobs(AcceptBlobs(data=fields, files=[("a", content)]))
    assert sum(map(len, brush._layers.values())) <= 64e6
    fields = {"type": "layer", "index": "0", "file": b"", "id": "larger"}
    larger = bytes(MAX_BRUSH_MEGABYTES * 10**6 + 1)
    with pytest.raises(gr.Error, match="painted layer has more than 4 MB"):
        brush.accept_blobs(AcceptBlobs(data=fields, files=[("a", larger)]))
    assert "larger" not in brush._layers


@pytest.mark.parametrize("kind", DAMAGED)
def test_batch_damaged_exif_fails_no_image(
    kind: str, service: SpaceService, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.png")]
    for path in paths[::2]:
        Image.new("RGB", (32, 32), "red").save(path)
    write_damaged(paths[1], kind)
    panels, _, errors = service.batch(
        list(map(str, paths)), "striped", "demo", make_edits([]), iter
    )
    assert [name for _, name in panels] == ["a.png", "b.jpg", "c.png"] and not errors


def test_batch_unexpected_error_of_one_file_is_that_file_alone(
    service: SpaceService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (9 * number, 1, 1)).save(path)
    render = service.render

    def fail(path: str, *rest: Any) -> Any:
        if path == paths[1]:
            raise TypeError(f"odd tag in {tmp_path}")
        return render(path, *rest)

    monkeypatch.setattr(service, "render", fail)
    panels, _, errors = service.batch(paths, "striped", "demo", make_edits([]), iter)
    assert [name for _, name in panels] == ["a.png", "c.png"]
    (error,) = errors
    assert error.startswith("b.png: Something went wrong") and str(tmp_path) not in error


def test_num_bytes_counts_image_metadata_tensors_and_map() -> None:
    image = Image.new("RGB", (10, 20))
    image.info = {"exif": bytes(1000), "icc_profile": bytes(300), "xmp": bytes(10**6)}
    tensors = [torch.zeros(1, channels, 16, 16) for channels in (3, 1, 3)]
    # 10 x 20 pixels of 4 bytes, a map of 4; 7 x 16 x 16 floats; the names and bytes of two entries.
    expected = 200 * 8 + 7 * 256 * 4 + (4 + 1000) + (11 + 300)
    assert num_bytes(Prediction(without_unused_info(image), *tensors, 0.1)) == expected
    # A part of a batch keeps all of it alive.
    batch = [torch.zeros(4, channels, 16, 16)[:1] for channels in (3, 1, 3)]
    assert num_bytes(Prediction(Image.new("L", (10, 20)), *batch, 0.1)) == 200 * 5 + 4 * 7 * 1024


def test_results_and_previews_do_not_tell_where_a_photo_was_taken(
    service: SpaceService, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera"
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 31.0, 12.0)}
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(path, exif=exif, comment="GPS 52 31")
    rendering = service.render(str(path), "striped", "demo")
    for file in service.files(rendering, "photo"):
        with Image.open(file) as result:
            assert not result.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    with Image.open(service.files(rendering, "photo")[0]) as result:
        assert result.getexif()[ExifTags.Base.Make] == "Camera"
    assert "comment" not in rendering.input.info


def test_service_label_with_spaces_and_arrow_is_a_direction(
    service: SpaceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = service.pipeline("demo").model.config
    model = service.pipeline("demo").model
    odd = type(config)(**{**config.to_dict(), "source_label": "a \u2192 b", "target_label": " c"})
    monkeypatch.setattr(model, "config", odd)
    assert service.label("demo", "") == " c" and service.label("demo", "c") == " c"
    first, second = service.directions("demo")
    assert (service.label("demo", first), service.label("demo", second)) == (" c", "a \u2192 b")
    assert service.label("demo", "a \u2192 b") == "a \u2192 b"


def test_open_strokes_takes_what_pages_send(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGBA", (640, 480), "#22c55e").save(data, "PNG")
    (tmp_path / "layer.png").write_bytes(data.getvalue())
    edits = make_edits([0.1], strokes=open_strokes(str(tmp_path / "layer.png")))
    assert edits.paint is not None and edits.erase is None
