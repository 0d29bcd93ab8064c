"""Eq. 1 in every mode, against values computed by hand and a reference in NumPy."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageCms

from agit_hub.inference.compositing import composite_image, generated_image, to_upright
from agit_hub.inference.guided_upsampling import row_bands
from tests.modes import KEPT, MODES, noise

ORIENTATION = 0x0112
STEP = (80, -40, 20)  # the networks' change of red, green and blue, in bytes


def _noise(mode: str, size: tuple[int, int] = (24, 30)) -> Image.Image:
    return noise(mode, size, seed=3)


def _even(*step: float) -> torch.Tensor:
    """Return the same change everywhere, given in bytes."""
    return torch.tensor(step).reshape(1, 3, 1, 1).expand(1, 3, 4, 4) / 127.5


def _change(height: int = 20, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand((1, 3, height, width), generator=generator) * 2 - 1


def _patches(size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return a map of zeros and of random values, pixel by pixel."""
    random = np.random.default_rng(4)
    values = random.random((size[1], size[0])).astype(np.float32)
    return np.where(random.random(values.shape) < 0.5, np.float32(0), values)


@pytest.mark.parametrize("mode", MODES)
def test_to_upright_mode_holds_any_colour(mode: str) -> None:
    image = _noise(mode)
    image.info["dpi"] = (72, 72)
    before = image.tobytes()
    turned = to_upright(image)
    assert turned.mode == MODES[mode] and turned.size == image.size
    assert turned.info["dpi"] == (72, 72)
    expected = image if mode in KEPT or mode == "I;16B" else image.convert(MODES[mode])
    assert np.array_equal(np.asarray(turned), np.asarray(expected))
    assert image.tobytes() == before and image.mode == mode.removesuffix("-keyed")


@pytest.mark.parametrize("mode", ["LAB", "RGBX", "RGBa"])
def test_to_upright_rare_modes_become_rgb_or_rgba(mode: str) -> None:
    image = Image.new(mode, (16, 16))
    assert to_upright(image).mode == ("RGBA" if mode == "RGBa" else "RGB")


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "P"])
def test_to_upright_applies_exif_orientation(mode: str) -> None:
    image = _noise(mode)
    before = np.asarray(to_upright(image))
    image.getexif()[ORIENTATION] = 6  # a quarter clockwise
    assert np.array_equal(np.asarray(to_upright(image)), np.rot90(before, -1))


@pytest.mark.parametrize("mode", MODES)
def test_composite_image_zero_attention_keeps_every_bit(mode: str) -> None:
    image = to_upright(_noise(mode))
    before = np.array(image)
    attention = _patches(image.size)
    result = composite_image(image, _change() * 2, attention)
    after = np.asarray(result)
    assert result.mode == MODES[mode] and result.size == image.size
    assert np.array_equal(after[attention == 0], before[attention == 0])
    changed = (after != before).reshape(*attention.shape, -1).any(-1)[attention > 0]
    assert changed.mean() > (0 if mode == "1" else 0.2)  # few bits cross the middle
    if "A" in image.getbands():
        assert np.array_equal(after[..., -1], before[..., -1])
    assert np.array_equal(np.asarray(image), before)  # the input is left as it was


@pytest.mark.parametrize("mode", MODES)
def test_composite_image_map_of_zeros_returns_copy(mode: str) -> None:
    image = to_upright(_noise(mode))
    result = composite_image(image, _change(), np.zeros((30, 24), np.float32))
    assert result is not image and result.tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_composite_image_keeps_profile_and_info(mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = _noise(mode)
    image.info |= {"icc_profile": profile, "dpi": (300, 300), "comment": b"Sunday"}
    result = composite_image(to_upright(image), _change(), _patches(image.size))
    assert result.info["icc_profile"] == profile
    assert result.info["dpi"] == (300, 300) and result.info["comment"] == b"Sunday"
    if mode in ("RGB", "RGBA", "P", "PA"):
        file = io.BytesIO()
        result.save(file, "PNG", icc_profile=result.info["icc_profile"])
        assert Image.open(file).info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("mode", "before", "step", "after"),
    [
        # 100 + 40, 0 - 20 clipped at 0, 248 + 10 clipped at 255.
        ("RGB", (100, 0, 248), STEP, (140, 0, 255)),
        ("RGBA", (100, 0, 248, 60), STEP, (140, 0, 255, 60)),
        # The colour beneath a transparent pixel is blended as well.
        ("RGBA", (100, 0, 248, 0), STEP, (140, 0, 255, 0)),
        # (140, 80, 110) as a grey: 0.299 * 140 + 0.587 * 80 + 0.114 * 110 = 101.36.
        ("L", 100, STEP, 101),
        ("LA", (100, 60), STEP, (101, 60)),
        # Inks are 255 minus the colour.
        ("CMYK", (155, 255, 7, 0), STEP, (115, 255, 0, 0)),
        ("YCbCr", (100, 128, 128), (80, 80, 80), (140, 128, 128)),
        ("HSV", (0, 0, 100), (80, 80, 80), (0, 0, 140)),
        # A bit turns where the grey crosses the middle.
        ("1", 0, (240, 240, 240), 0),
        ("1", 0, (255, 255, 255), 255),
        ("1", 255, (-240, -240, -240), 255),
        # A grey of 0.299 * 80 - 0.587 * 40 + 0.114 * 20 = 2.72; half of it, 257 steps a byte.
        ("I;16", 20000, STEP, 20350),
        ("I", 20000, STEP, 20350),
        ("F", 0.25, STEP, 0.25 + 1.36 / 255),
        ("I;16", 65500, (255, 255, 255), 65535),
        ("I;16", 100, (-255, -255, -255), 0),
        ("I", 65500, (255, 255, 255), 65535),
        ("F", 0.9, (255, 255, 255), 1.0),
        ("P", (100, 0, 248), STEP, (140, 0, 255)),
        ("PA", (100, 0, 248), STEP, (140, 0, 255, 255)),
        ("I;16B", 20000, STEP, 20350),
    ],
)
def test_composite_image_half_attention_applies_half_the_change(
    mode: str, before: Any, step: Any, after: Any
) -> None:
    if mode == "I;16B":
        image = Image.frombytes(mode, (16, 16), np.full(256, before, ">u2").tobytes())
    elif mode in ("P", "PA"):
        palette = Image.new("P", (16, 16))
        palette.putpalette(before)
        image = palette.convert(mode)
    else:
        image = Image.new(mode, (16, 16), before)
    attention = np.zeros((16, 16), np.float32)
    attention[:, 8:] = 0.5
    source = to_upright(image)
    result = composite_image(source, _even(*step), attention)
    assert result.getpixel((7, 3)) == source.getpixel((7, 3))
    assert result.getpixel((8, 3)) == pytest.approx(after, abs=1e-6)


@pytest.mark.parametrize(("mode", "kind", "odd"), [("I", np.int32, 70000), ("F", np.float32, 2.5)])
def test_composite_image_out_of_range_values_stay_without_change(
    mode: str, kind: Any, odd: float
) -> None:
    """Values beyond white and black are the input's, and are not clipped where it is attended to."""
    values = np.tile(np.array([odd, -5, odd, -5], kind), (16, 4))
    attention = np.zeros((16, 16), np.float32)
    attention[:, 2:4] = 0.5
    image = Image.fromarray(values)
    assert image.mode == mode
    after = np.asarray(composite_image(image, _even(0, 0, 0), attention))
    assert after[0, :6].tolist() == [odd, -5, odd, -5, odd, -5]
    # Darker they become by as much as others: half of the change, of a range to white.
    darker = np.asarray(composite_image(image, _even(-51, -51, -51), attention))
    white = 1.0 if mode == "F" else 65535
    assert darker[0, 2] == pytest.approx(odd - 0.1 * white, abs=1)


def _literal(image: Image.Image, change: torch.Tensor, attention: Any) -> npt.NDArray[np.uint8]:
    """Eq. 1 for a whole RGB image in double precision, the change enlarged between centres."""
    width, height = image.size
    pixels = np.asarray(image, dtype=np.float64)
    result = np.empty(pixels.shape)
    for colour, plane in enumerate(change[0].double().numpy()):
        y = (np.arange(height) + 0.5) * plane.shape[0] / height - 0.5
        x = (np.arange(width) + 0.5) * plane.shape[1] / width - 0.5
        tall = np.stack([np.interp(y, np.arange(len(line)), line) for line in plane.T], axis=1)
        step = np.stack([np.interp(x, np.arange(len(line)), line) for line in tall]) * 127.5
        own = pixels[..., colour]
        result[..., colour] = own + attention.astype(np.float64) * step
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def test_composite_image_bands_match_whole_image() -> None:
    image = _noise("RGB", (1024, 1100))
    assert len(row_bands(*image.size)) > 2
    attention, change = _patches(image.size), _change()
    attention[:600] = 0  # a band without attention, and one with some
    expected = _literal(image, change, attention).astype(int)
    found = np.asarray(composite_image(image, change, attention), dtype=int)
    off = np.abs(found - expected)
    # Single precision occasionally rounds a half the other way.
    assert off.max() <= 1 and off.mean() < 1e-4
    assert np.array_equal(found[:600], np.asarray(image)[:600])


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "I;16", "F", "1"])
def test_composite_image_tall_image_matches_its_parts(mode: str) -> None:
    """With an even change, so that a part changes as it does within the whole."""
    size = (1024, 1030)
    image, attention, change = _noise(mode, size), _patches(size), _even(60, 60, 60)
    whole = composite_image(image, change, attention)
    for top in (0, 500, 1000):
        box = (0, top, 1024, top + 30)
        part = composite_image(image.crop(box), change, attention[top : top + 30])
        assert part.tobytes() == whole.crop(box).tobytes()


def test_generated_image_is_sum_of_input_and_change() -> None:
    image = _noise("RGB")
    before = np.asarray(image, dtype=int)
    found = np.asarray(generated_image(image, _even(*STEP)))
    assert np.array_equal(found, np.clip(before + STEP, 0, 255))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_composite_image_keeps_the_transparent_colour_for_its_pixels_alone(mode: str) -> None:
    key: Any = (20, 30, 40) if mode == "RGB" else 20
    pixels = np.full((16, 16), 19) if mode != "RGB" else np.tile((20, 30, 39), (16, 16, 1))
    pixels[:8] = key
    image = Image.fromarray(pixels.astype(np.uint16 if mode == "I;16" else np.uint8))
    image.info["transparency"] = key
    # One unit up: others would become the key's colour.
    step = _even(0, 0, 1) if mode == "RGB" else _even(*[1 / 257 if mode == "I;16" else 1] * 3)
    result = composite_image(to_upright(image), step, np.ones((16, 16), np.float32))
    after = np.asarray(result)
    assert result.mode == mode and result.info["transparency"] == key
    is_key = (after == key) if mode != "RGB" else (after == key).all(axis=-1)
    assert is_key[:8].all() and not is_key[8:].any()


@pytest.mark.parametrize(
    ("inks", "step", "after"),
    [
        # Black by black ink alone stays that: no change, and a change that is darker still.
        ((0, 0, 0, 255), (0, 0, 0), (0, 0, 0, 255)),
        ((9, 8, 7, 255), (-50, -50, -50), (9, 8, 7, 255)),
        # Lighter than black ink allows: it goes back to 255 - 51.
        ((0, 0, 0, 255), (51, 51, 51), (0, 0, 0, 204)),
        # Below it, coloured inks change: 204 of light, of which cyan takes 51.
        ((0, 0, 0, 51), (-51, 0, 0), (64, 0, 0, 51)),
    ],
)
def test_composite_image_cmyk_keeps_black_ink(
    inks: tuple[int, ...], step: tuple[int, ...], after: tuple[int, ...]
) -> None:
    image = Image.new("CMYK", (16, 16), inks)
    result = composite_image(image, _even(*step), np.ones((16, 16), np.float32))
    assert result.getpixel((5, 5)) == after
