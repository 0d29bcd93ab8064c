"""The pipeline's contract: images of any kind, unchanged where there is no attention."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageOps

from agit_hub.backends.base import ExportedBackend, TorchBackend
from agit_hub.errors import BackendError, ImageError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from tests.conftest import MakeModel, uneven
from tests.modes import KEPT, MODES, noise

SIDE = 16  # the tiny networks' image size
ORIENTATION = 0x0112
SIZES = [(37, 61), (16, 16), (70, 20)]
Array = npt.NDArray[np.uint8]


def _image(mode: str, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return noise(mode, size, seed=5)


def _in_result_mode(mode: str, image: Image.Image) -> Array:
    """Return the image's pixels in the mode of its translation."""
    return np.asarray(image if image.mode.startswith(("I", "F")) else image.convert(MODES[mode]))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_pipeline_keeps_size_mode_and_pixels_without_attention(
    mode: str, size: tuple[int, int], make_model: MakeModel
) -> None:
    image = _image(mode, size)
    pipeline = uneven(make_model)
    middle = float(np.median(pipeline(image).raw_attention[0]))
    output = pipeline(image, threshold=middle)
    (translated,), (attention,), (raw,) = output.images, output.attention, output.raw_attention
    (generated,) = output.generated

    assert translated.mode == MODES[mode] and translated.size == size
    assert generated.mode == "RGB" and generated.size == size
    for array in (attention, raw):
        assert array.dtype == np.float32 and array.shape == size[::-1]
        assert array.min() >= 0 and array.max() <= 1
    untouched = attention == 0
    assert 0.4 < untouched.mean() < 0.6
    before, after = _in_result_mode(mode, image), np.asarray(translated)
    assert np.array_equal(after[untouched], before[untouched])
    colours = slice(None) if before.ndim == 2 else slice(0, len(translated.getbands()))
    changed = (after[..., colours] != before[..., colours]).reshape(*before.shape[:2], -1).any(-1)
    assert mode == "1" or changed[~untouched].mean() > 0.5  # few greys cross the middle
    if "A" in translated.getbands():
        assert np.array_equal(after[..., -1], before[..., -1])


@pytest.mark.parametrize("key", [{}, {"transparency": 7}], ids=["opaque", "keyed"])
def test_pipeline_16_bit_grey_keeps_precision(
    key: dict[str, int], make_model: MakeModel, tmp_path: Path
) -> None:
    """A PNG file of that depth may have a colour key as well."""
    grey = np.full((20, 20), 257 * 117, np.uint16)
    Image.fromarray(grey).save(tmp_path / "scan.png", **key)
    opened = Image.open(tmp_path / "scan.png")
    assert opened.mode == "I;16" and opened.info == key
    pipeline = AGITPipeline(make_model(shades=(200, 40)))
    still, half = (
        pipeline(opened, attention=np.full((4, 4), share)).images[0] for share in (0, 0.5)
    )
    assert still.mode == "I;16" and np.all(np.asarray(still) == 257 * 117)
    # Half way from 117 to 200: between 257 * 158 and 257 * 159, which 16 bits can represent.
    assert np.all(np.abs(np.asarray(half, dtype=int) - 257 * 158.5) <= 2)
    half.save(tmp_path / "translated.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "translated.png")), np.asarray(half))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", KEPT)
def test_pipeline_map_of_zeros_returns_upright_input_bytes(
    mode: str, size: tuple[int, int], make_model: MakeModel
) -> None:
    image = _image(mode, size)
    image.getexif()[ORIENTATION] = 6
    upright = ImageOps.exif_transpose(image)
    assert upright.size == size[::-1]
    output = uneven(make_model)(image, attention=np.zeros((4, 4)))
    assert output.images[0].mode == mode and output.images[0].size == upright.size
    assert output.images[0].tobytes() == upright.tobytes()
    assert output.attention[0].shape == size and not output.attention[0].any()


def test_pipeline_exif_orientation_is_applied_once(make_model: MakeModel, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    _image("RGB", (37, 61)).save(tmp_path / "phone.jpg", exif=exif)
    opened = Image.open(tmp_path / "phone.jpg")
    image = uneven(make_model)(opened, threshold=1).images[0]
    assert image.size == (61, 37)
    assert image.tobytes() == ImageOps.exif_transpose(opened).tobytes()
    file = io.BytesIO()
    image.save(file, "PNG", exif=image.getexif())
    assert Image.open(file).getexif().get(ORIENTATION, 1) == 1


def _quarters(*values: float) -> npt.NDArray[np.float32]:
    """Return a map of four vertical bands, one for each value."""
    return np.repeat(np.array([values], np.float32), SIDE, axis=0).repeat(SIDE // 4, axis=1)


@pytest.mark.parametrize(
    ("mode", "pixel"),
    [
        ("RGB", (100, 0, 248)),
        ("L", 100),
        ("1", 0),
        ("RGBA", (100, 0, 248, 255)),
        ("LA", (100, 255)),
    ],
)
def test_pipeline_matches_equation_1_in_image_integers(
    mode: str, pixel: int | tuple[int, ...], make_model: MakeModel
) -> None:
    pipeline = AGITPipeline(make_model(shades=(200, 40)))
    image = Image.new(mode, (SIDE, SIDE), pixel)
    output = pipeline(image, threshold=0, attention=_quarters(0, 0.25, 0.5, 1))
    result = np.asarray(output.images[0])[0, ::4].reshape(4, -1)
    # s + a (200 - s) for s = 100, 0 and 248.
    expected = {100: (100, 125, 150, 200), 0: (0, 50, 100, 200), 248: (248, 236, 224, 200)}
    own = (pixel,) if isinstance(pixel, int) else pixel
    for band, value in zip(result.T, own, strict=True):
        bits = [shade > 127 for shade in expected[value]] if mode == "1" else None
        assert tuple(band) == tuple(bits or expected.get(value, (255,) * 4))  # 255: alpha stays
    assert np.all(np.asarray(output.generated[0]) == 200)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "P-keyed"])
def test_pipeline_tiny_attention_changes_no_byte(mode: str, make_model: MakeModel) -> None:
    """Eq. 1 with s_a = 0.0001 moves no byte by half a step, in images with alpha too."""
    image = _image(mode)
    trace = np.full((SIDE, SIDE), 1e-4, np.float32)
    output = AGITPipeline(make_model(shades=(200, 40)))(image, threshold=0, attention=trace)
    after = np.asarray(output.images[0], dtype=int)
    assert np.abs(after - _in_result_mode(mode, image)).max() == 0


def test_pipeline_cmyk_tiny_attention_changes_one_byte_at_most(make_model: MakeModel) -> None:
    image = _image("CMYK")
    trace = np.full((SIDE, SIDE), 1e-4, np.float32)
    output = AGITPipeline(make_model(shades=(200, 40)))(image, threshold=0, attention=trace)
    before, after = (np.asarray(p.convert("RGB"), dtype=int) for p in (image, output.images[0]))
    assert np.abs(after - before).max() <= 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pipeline_full_attention_returns_generated(
    size: tuple[int, int], make_model: MakeModel
) -> None:
    pipeline = AGITPipeline(make_model(attention="ones"))
    for threshold in (0, None, 1):
        output = pipeline(_image("RGB", size), threshold=threshold)
        assert output.images[0].tobytes() == output.generated[0].tobytes()
        assert output.attention[0].min() == 1 and output.raw_attention[0].min() == 1


@pytest.mark.parametrize(
    ("dark", "light", "painted", "expected"),
    [
        (100, 140, 120, (100, 140)),
        (100, 140, 200, (180, 220)),
        (0, 255, 200, (72, 255)),  # 327.5 is clipped
    ],
)
def test_pipeline_large_image_keeps_detail(
    dark: int, light: int, painted: int, expected: tuple[int, int], make_model: MakeModel
) -> None:
    """A fine chequerboard is an even grey at the networks' size; only that grey changes."""
    white = np.indices((64, 64)).sum(0) % 2 == 1
    image = Image.fromarray(np.where(white, light, dark).astype(np.uint8)).convert("RGB")
    output = AGITPipeline(make_model(attention="ones", shades=(painted, 40)))(image)
    pixels = np.asarray(output.images[0], dtype=int)[8:-8, 8:-8]
    white = white[8:-8, 8:-8]
    assert np.abs(pixels[~white] - expected[0]).max() <= 3
    assert np.abs(pixels[white] - expected[1]).max() <= 3


def test_pipeline_to_selects_direction(make_model: MakeModel) -> None:
    pipeline = AGITPipeline(make_model(maps=(0.25, 0.5), shades=(200, 40)))
    image = Image.new("RGB", (20, 30), (100, 100, 100))
    for to, value, share in (("zebra", 125, 0.25), (None, 125, 0.25), ("horse", 70, 0.5)):
        output = pipeline(image, to=to)
        assert set(np.asarray(output.images[0]).ravel()) == {value}
        np.testing.assert_allclose(output.attention[0], share, rtol=1e-6)
    with pytest.raises(ValueError, match="cow") as raised:
        pipeline(image, to="cow")
    assert "'zebra'" in str(raised.value) and "'horse'" in str(raised.value)


def test_pipeline_threshold_zeroes_smaller_attention_only(
    make_model: MakeModel,
) -> None:
    at = np.float32(0.3)
    below, above = (np.nextafter(at, np.float32(end)) for end in (0, 1))
    pipeline = AGITPipeline(make_model(attention_threshold=0.3))
    own = _quarters(at, below, above, 1)
    image = _image("RGB")
    (final,) = pipeline(image, threshold=0.3, attention=own).attention
    assert final[0, ::4].tolist() == [at, 0, above, 1]
    for threshold, kept in ((None, [at, 0, above, 1]), (0, own[0, ::4]), (1, [0, 0, 0, 1])):
        (final,) = pipeline(image, threshold=threshold, attention=own).attention
        assert final[0, ::4].tolist() == list(kept)


def test_pipeline_threshold_applies_after_upsampling(make_model: MakeModel) -> None:
    pipeline, image = uneven(make_model), _image("RGB", (64, 48))
    plain = pipeline(image, threshold=0)
    assert np.array_equal(plain.attention[0], plain.raw_attention[0])
    (raw,) = plain.raw_attention
    assert np.count_nonzero((raw > 0.2) & (raw < 0.6)) > 100
    cut = pipeline(image, threshold=0.6)
    assert np.array_equal(cut.raw_attention[0], raw)
    assert np.array_equal(cut.attention[0], np.where(raw < np.float32(0.6), 0, raw))
    (default,) = pipeline(image).attention  # the config's 0.1
    assert np.array_equal(default, np.where(raw < np.float32(0.1), 0, raw))


def test_pipeline_maps_are_upsampled_bilinearly(make_model: MakeModel) -> None:
    """For an even image at four times the networks' size, between pixel centres."""
    pipeline = uneven(make_model)
    grey = Image.new("RGB", (4 * SIDE, 4 * SIDE), (90, 160, 30))
    with torch.no_grad():
        small = pipeline.model.attention_s(
            torch.tensor([90.0, 160, 30]).reshape(1, 3, 1, 1).expand(1, 3, SIDE, SIDE) / 127.5 - 1
        )[0, 0].numpy()
    centres = (np.arange(4 * SIDE) + 0.5) / 4 - 0.5
    across = np.stack([np.interp(centres, np.arange(SIDE), row) for row in small])
    expected = np.stack([np.interp(centres, np.arange(SIDE), c) for c in across.T], axis=1)
    np.testing.assert_allclose(pipeline(grey).raw_attention[0], expected, atol=1e-5)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_pipeline_threshold_out_of_range_is_refused(
    threshold: float, make_model: MakeModel
) -> None:
    with pytest.raises(ValueError, match=f"threshold is {threshold}.*0 and 1"):
        AGITPipeline(make_model())(_image("RGB"), threshold=threshold)


def test_pipeline_attention_option_replaces_network_map(make_model: MakeModel) -> None:
    pipeline = AGITPipeline(make_model(maps=(0.9, 0.9), shades=(200, 40)))
    image = Image.new("RGB", (37, 61), (100, 100, 100))
    left = np.zeros((61, 37), np.float32)
    left[:, :18] = 1
    as_list = [[1.0, 1.0, 0.0, 0.0]] * 4  # of another size: resized to the image's
    as_image = Image.fromarray((left * 255).astype(np.uint8))
    for own in (left, left.astype(bool), as_list, as_image, as_image.convert("1")):
        output = pipeline(image, attention=own)
        pixels = np.asarray(output.images[0])
        assert output.attention[0].shape == (61, 37) and output.attention[0].dtype == np.float32
        assert np.all(pixels[:, :10] == 200) and np.all(pixels[:, 28:] == 100)
        np.testing.assert_allclose(output.raw_attention[0], 0.9, rtol=1e-6)
    assert left.max() == 1 and left.min() == 0  # and is not modified


@pytest.mark.parametrize("mode", ["L", "I;16", "F"])
def test_pipeline_attention_accepts_greyscale_of_any_depth(
    mode: str, make_model: MakeModel
) -> None:
    shares = _quarters(0, 0.2, 0.6, 1)
    white, kind = {"L": (255, np.uint8), "I;16": (65535, np.uint16), "F": (1, np.float32)}[mode]
    drawn = Image.fromarray((shares * white + (0.5 if white > 1 else 0)).astype(kind))
    assert drawn.mode == mode
    output = AGITPipeline(make_model())(_image("RGB"), attention=drawn, threshold=0)
    np.testing.assert_allclose(output.attention[0], shares, atol=1e-6)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (np.zeros((4, 4, 1)), "(4, 4, 1)"),
        (np.zeros((2, 4, 4)), "(2, 4, 4)"),
        (np.zeros(16), "(16,)"),
        (0.5, "()"),
        (np.full((4, 4), 1.001), "1.001"),
        (np.full((4, 4), -0.5), "-0.5"),
        (np.full((4, 4), 128), "128"),
        (np.full((4, 4), np.nan), "nan"),
        (np.zeros((0, 4)), "(0, 4)"),
    ],
)
def test_pipeline_invalid_attention_is_refused(
    own: npt.ArrayLike, message: str, make_model: MakeModel
) -> None:
    with pytest.raises(ValueError, match="attention") as raised:
        AGITPipeline(make_model())(_image("RGB"), attention=own)
    assert message in str(raised.value)


def test_pipeline_list_matches_single_images(make_model: MakeModel) -> None:
    pipeline = uneven(make_model)
    images = [_image(mode, size) for mode in ("RGB", "LA") for size in SIZES]
    together = pipeline(images)
    for index, image in enumerate(images):
        alone = pipeline(image)
        assert together.images[index].tobytes() == alone.images[0].tobytes()
        assert together.generated[index].tobytes() == alone.generated[0].tobytes()
        assert np.array_equal(together.attention[index], alone.attention[0])
        assert np.array_equal(together.raw_attention[index], alone.raw_attention[0])
    assert len(together.images) == len(images) == len(together.overlays())
    for shown, image in zip(together.overlays(), images, strict=True):
        assert shown.mode == "RGB" and shown.size == image.size
    assert pipeline([]).images == []


def test_pipeline_batches_images_of_one_size(make_model: MakeModel) -> None:
    pipeline, seen = AGITPipeline(make_model()), list[int]()
    pipeline.model.generator_st.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    square, wide = Image.new("RGB", (20, 20)), Image.new("RGB", (40, 20))
    output = pipeline([square] * 5 + [wide] + [square] * 2, batch_size=2)
    assert seen == [2, 2, 1, 1, 2] and len(output.images) == 8
    assert [image.size for image in output.images[4:7]] == [(20, 20), (40, 20), (20, 20)]


def test_pipeline_does_not_modify_input(make_model: MakeModel) -> None:
    for mode in MODES:
        image = _image(mode, (20, 24))
        before = image.tobytes()
        AGITPipeline(make_model(attention="ones"))(image)
        assert image.tobytes() == before and image.size == (20, 24)


def test_from_pretrained_saved_model_translates_identically(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model: AGITModel = make_model().train()
    model.save_pretrained(tmp_path)
    before = AGITPipeline(model)(_image("RGB", (20, 24)))
    for device in (None, "cpu"):
        pipeline = AGITPipeline.from_pretrained(tmp_path, device=device)
        assert not pipeline.model.training
        if pipeline.device.type == "cpu":
            after = pipeline(_image("RGB", (20, 24)))
            assert after.images[0].tobytes() == before.images[0].tobytes()


def test_pipeline_edits_and_shortcuts_are_equivalent(make_model: MakeModel) -> None:
    pipeline, image = uneven(make_model), _image("RGB", (40, 30))
    expected = pipeline(image, threshold=0.3, strength=0.5, feather=4.0)
    base = AttentionEdits(threshold=0.3, strength=0.9, feather=4.0)
    found = pipeline(image, edits=base, strength=0.5)
    assert found.images[0].tobytes() == expected.images[0].tobytes()
    assert np.array_equal(found.attention[0], expected.attention[0])
    with pytest.raises(TypeError, match="treshold"):
        pipeline(image, treshold=0.3)


@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_pipeline_output_type_converts_images(output_type: str, make_model: MakeModel) -> None:
    pipeline = uneven(make_model)
    images = [_image("RGB", (40, 30)), _image("L", (20, 24))]
    expected = pipeline(images)
    found = pipeline(images, output_type=output_type)  # type: ignore[arg-type]
    for results, reference in (
        (found.images, expected.images),
        (found.generated, expected.generated),
    ):
        for result, image in zip(results, reference, strict=True):
            pixels = np.asarray(result) if output_type == "np" else result.permute(1, 2, 0).numpy()
            assert pixels.dtype == np.float32
            np.testing.assert_allclose(pixels * 255, np.asarray(image.convert("RGB")), atol=1e-4)
    with pytest.raises(ValueError, match="output_type is 'latent'"):
        pipeline(images, output_type="latent")  # type: ignore[arg-type]


def test_pipeline_arrays_and_tensors_match_pil_images(make_model: MakeModel) -> None:
    pipeline, image = uneven(make_model), _image("RGB", (40, 30))
    pixels = np.asarray(image)
    floats = (pixels / 255).astype(np.float32)
    tensor = torch.from_numpy(floats).permute(2, 0, 1)
    expected = pipeline(image).images[0].tobytes()
    for given in (
        pixels,
        floats,
        tensor,
        tensor.to(torch.float64),
        tensor[None],
        [tensor],
        [pixels],
    ):
        (found,) = pipeline(given).images
        assert found.mode == "RGB" and found.tobytes() == expected
    for batch in (torch.stack([tensor, tensor]), np.stack([pixels, pixels]), [image, tensor]):
        assert [found.tobytes() for found in pipeline(batch).images] == [expected] * 2
    assert pipeline.predict(tensor).render().image.tobytes() == expected


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("nowhere.png", ImageError, "nowhere.png does not exist"),
        ("https://x.org/a.png", ImageError, "download it"),
        (None, TypeError, "The image is None; expected a PIL image, the path"),
        (5, TypeError, "of type int; expected"),
        ({"image": 1}, TypeError, "of type dict"),
        ([None], TypeError, "The image is None"),
        (b"", TypeError, "of type bytes"),
        ([b""], TypeError, "bytes"),
        (np.zeros((0, 20, 3), np.uint8), ImageError, r"\(0, 20, 3\)"),
        (np.zeros((20, 20, 3), np.int64), TypeError, "int64"),
        (np.zeros((20, 20), np.uint8), ImageError, r"\(H, W, 3\).*\(20, 20\)"),
        (torch.zeros(20, 20, 3), ImageError, r"\(3, H, W\).*\(20, 20, 3\)"),
        (torch.full((3, 20, 20), -1.0), ImageError, r"-1.*\[0, 1\]"),
        (np.full((20, 20, 3), 255.0), ImageError, r"255.*\[0, 1\]"),
        (torch.full((3, 20, 20), float("nan")), ImageError, "nan"),
        (torch.zeros(3, 15, 20), ImageError, "20 x 15.*16"),
    ],
)
def test_pipeline_invalid_image_is_refused(
    given: Any, error: type[Exception], message: str, make_model: MakeModel
) -> None:
    with pytest.raises(error, match=message):
        AGITPipeline(make_model())(given)


def test_pipeline_save_pretrained_dtype_loads_as_float32(
    make_model: MakeModel, tmp_path: Path
) -> None:
    pipeline = uneven(make_model)
    pipeline.save_pretrained(tmp_path, dtype=torch.float16)
    loaded = AGITPipeline.from_pretrained(tmp_path, device="cpu", local_files_only=True)
    weights = loaded.model.state_dict()
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    for name, weight in pipeline.model.state_dict().items():
        assert torch.equal(weights[name], weight.half().float())


def test_pipeline_to_moves_torch_backends_only(make_model: MakeModel) -> None:
    pipeline = AGITPipeline(make_model())
    assert pipeline.to("cpu") is pipeline
    assert pipeline.to("meta").device.type == "meta"
    exported = ExportedBackend(pipeline.model.config, Path("nowhere"), "openvino")
    pipeline = AGITPipeline(make_model(), exported)
    assert pipeline.to("cpu").device.type == "cpu"
    with pytest.raises(BackendError, match=r"openvino.*cuda.*backend='torch'"):
        pipeline.to("cuda")


def test_pipeline_takes_paths_and_uint8_tensors(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = AGITPipeline(make_model())
    image = Image.fromarray(np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3))
    image.save(tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    given = [tmp_path / "a.png", str(tmp_path / "a.png"), "~/a.png", tensor, image]
    assert len({found.tobytes() for found in pipeline(given).images}) == 1
    assert pipeline(tmp_path / "a.png").images[0].tobytes() == pipeline(image).images[0].tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("attention", ["network", "features", "ones"])
def test_pipeline_of_converted_model_translates_nearly_alike(
    make_model: MakeModel, dtype: torch.dtype, attention: str
) -> None:
    pipeline = AGITPipeline(make_model(attention=attention))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    before = pipeline(image)
    pipeline.model.to(dtype)
    after = pipeline(image)
    assert after.attention[0].dtype == np.float32
    assert np.abs(after.attention[0] - before.attention[0]).max() < 0.05
    mixed = AGITPipeline(pipeline.model, TorchBackend(pipeline.model, dtype=torch.bfloat16))
    assert mixed(image).images[0].size == image.size
