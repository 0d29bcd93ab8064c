"""Eq. 1 in every mode, by numbers made by hand and by a whole picture in numpy."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageCms

from agit_hub.inference.compositing import composite_image, generated_image, upright
from agit_hub.inference.guided_upsampling import bands
from tests.modes import KEPT, MODES, noise

ORIENTATION = 0x0112
STEP = (80, -40, 20)  # what the networks want to add to red, green and blue, in bytes


def _noise(mode: str, size: tuple[int, int] = (24, 30)) -> Image.Image:
    return noise(mode, size, seed=3)


def _even(*step: float) -> torch.Tensor:
    """The same change everywhere, given in bytes."""
    return torch.tensor(step).reshape(1, 3, 1, 1).expand(1, 3, 4, 4) / 127.5


def _change(height: int = 20, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand((1, 3, height, width), generator=generator) * 2 - 1


def _patches(size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A map of zeros, of ones and of everything between, pixel by pixel."""
    random = np.random.default_rng(4)
    values = random.random((size[1], size[0])).astype(np.float32)
    return np.where(random.random(values.shape) < 0.5, np.float32(0), values)


@pytest.mark.parametrize("mode", MODES)
def test_upright_pictures_are_in_a_mode_that_holds_any_colour(mode: str) -> None:
    picture = _noise(mode)
    picture.info["dpi"] = (72, 72)
    before = picture.tobytes()
    turned = upright(picture)
    assert turned.mode == MODES[mode] and turned.size == picture.size
    assert turned.info["dpi"] == (72, 72)
    expected = picture if mode in KEPT or mode == "I;16B" else picture.convert(MODES[mode])
    assert np.array_equal(np.asarray(turned), np.asarray(expected))
    assert picture.tobytes() == before and picture.mode == mode.removesuffix("-keyed")


@pytest.mark.parametrize("mode", ["LAB", "RGBX", "RGBa"])
def test_rarer_modes_become_rgb_or_rgba(mode: str) -> None:
    picture = Image.new(mode, (16, 16))
    assert upright(picture).mode == ("RGBA" if mode == "RGBa" else "RGB")


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "P"])
def test_upright_pictures_are_turned_by_their_exif(mode: str) -> None:
    picture = _noise(mode)
    before = np.asarray(upright(picture))
    picture.getexif()[ORIENTATION] = 6  # a quarter clockwise
    assert np.array_equal(np.asarray(upright(picture)), np.rot90(before, -1))


@pytest.mark.parametrize("mode", MODES)
def test_where_attention_is_0_every_bit_stays(mode: str) -> None:
    picture = upright(_noise(mode))
    before = np.array(picture)
    attention = _patches(picture.size)
    result = composite_image(picture, _change() * 2, attention)
    after = np.asarray(result)
    assert result.mode == MODES[mode] and result.size == picture.size
    assert np.array_equal(after[attention == 0], before[attention == 0])
    changed = (after != before).reshape(*attention.shape, -1).any(-1)[attention > 0]
    assert changed.mean() > (0 if mode == "1" else 0.2)  # few bits cross the middle
    if "A" in picture.getbands():
        assert np.array_equal(after[..., -1], before[..., -1])
    assert np.array_equal(np.asarray(picture), before)  # the input is left as it was


@pytest.mark.parametrize("mode", MODES)
def test_a_map_of_zeros_copies_the_picture(mode: str) -> None:
    picture = upright(_noise(mode))
    result = composite_image(picture, _change(), np.zeros((30, 24), np.float32))
    assert result is not picture and result.tobytes() == picture.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_profile_and_info_are_kept(mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = _noise(mode)
    picture.info |= {"icc_profile": profile, "dpi": (300, 300), "comment": b"Sunday"}
    result = composite_image(upright(picture), _change(), _patches(picture.size))
    assert result.info["icc_profile"] == profile
    assert result.info["dpi"] == (300, 300) and result.info["comment"] == b"Sunday"
    if mode in ("RGB", "RGBA", "P", "PA"):
        file = io.BytesIO()
        result.save(file, "PNG", icc_profile=result.info["icc_profile"])
        assert Image.open(file).info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("mode", "before", "step", "after"),
    [
        # 100 + 40, 0 - 20 cut at 0, 248 + 10 cut at 255.
        ("RGB", (100, 0, 248), STEP, (140, 0, 255)),
        ("RGBA", (100, 0, 248, 60), STEP, (140, 0, 255, 60)),
        # What lies beneath a wholly transparent pixel is blended as well.
        ("RGBA", (100, 0, 248, 0), STEP, (140, 0, 255, 0)),
        # (140, 80, 110) as a grey: 0.299 * 140 + 0.587 * 80 + 0.114 * 110 = 101.36.
        ("L", 100, STEP, 101),
        ("LA", (100, 60), STEP, (101, 60)),
        # Inks are what is missing from 255.
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
def test_half_attention_goes_half_the_way(mode: str, before: Any, step: Any, after: Any) -> None:
    if mode == "I;16B":
        picture = Image.frombytes(mode, (16, 16), np.full(256, before, ">u2").tobytes())
    elif mode in ("P", "PA"):
        palette = Image.new("P", (16, 16))
        palette.putpalette(before)
        picture = palette.convert(mode)
    else:
        picture = Image.new(mode, (16, 16), before)
    attention = np.zeros((16, 16), np.float32)
    attention[:, 8:] = 0.5
    source = upright(picture)
    result = composite_image(source, _even(*step), attention)
    assert result.getpixel((7, 3)) == source.getpixel((7, 3))
    assert result.getpixel((8, 3)) == pytest.approx(after, abs=1e-6)


@pytest.mark.parametrize(("mode", "kind", "odd"), [("I", np.int32, 70000), ("F", np.float32, 2.5)])
def test_values_beyond_white_and_black_stay_as_well(mode: str, kind: Any, odd: float) -> None:
    """Scans of a scientist: only where there is attention are they cut."""
    values = np.tile(np.array([odd, -5, odd, -5], kind), (16, 4))
    attention = np.zeros((16, 16), np.float32)
    attention[:, 2:4] = 0.5
    picture = Image.fromarray(values)
    assert picture.mode == mode
    after = np.asarray(composite_image(picture, _even(0, 0, 0), attention))
    assert after[0, :6].tolist() == [odd, -5, 1.0 if mode == "F" else 65535, 0, odd, -5]


def _literal(picture: Image.Image, change: torch.Tensor, attention: Any) -> npt.NDArray[np.uint8]:
    """Eq. 1 for a whole RGB picture in double precision, the change enlarged between middles."""
    width, height = picture.size
    pixels = np.asarray(picture, dtype=np.float64)
    result = np.empty(pixels.shape)
    for colour, plane in enumerate(change[0].double().numpy()):
        y = (np.arange(height) + 0.5) * plane.shape[0] / height - 0.5
        x = (np.arange(width) + 0.5) * plane.shape[1] / width - 0.5
        tall = np.stack([np.interp(y, np.arange(len(line)), line) for line in plane.T], axis=1)
        step = np.stack([np.interp(x, np.arange(len(line)), line) for line in tall]) * 127.5
        own = pixels[..., colour]
        result[..., colour] = own + attention.astype(np.float64) * step
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def test_bands_do_not_show() -> None:
    picture = _noise("RGB", (1024, 1100))
    assert len(bands(*picture.size)) > 2
    attention, change = _patches(picture.size), _change()
    attention[:600] = 0  # a band that is passed over, and one that is so in part
    expected = _literal(picture, change, attention).astype(int)
    found = np.asarray(composite_image(picture, change, attention), dtype=int)
    off = np.abs(found - expected)
    # Single precision may round a half the other way, now and then.
    assert off.max() <= 1 and off.mean() < 1e-4
    assert np.array_equal(found[:600], np.asarray(picture)[:600])


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "I;16", "F", "1"])
def test_a_tall_picture_is_what_its_parts_are(mode: str) -> None:
    """Under an even change, so that a part alone is changed as it is within the whole."""
    size = (1024, 1030)
    picture, attention, change = _noise(mode, size), _patches(size), _even(60, 60, 60)
    whole = composite_image(picture, change, attention)
    for top in (0, 500, 1000):
        box = (0, top, 1024, top + 30)
        part = composite_image(picture.crop(box), change, attention[top : top + 30])
        assert part.tobytes() == whole.crop(box).tobytes()


def test_the_generators_whole_picture_is_the_sum() -> None:
    picture = _noise("RGB")
    before = np.asarray(picture, dtype=int)
    found = np.asarray(generated_image(picture, _even(*STEP)))
    assert np.array_equal(found, np.clip(before + STEP, 0, 255))
