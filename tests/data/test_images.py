"""to_rgb, fitted_size and random_crop, against known pixels."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agit_hub.data.images import fitted_size, random_crop, to_rgb

ORIENTATION = 0x0112
Pixels = list[list[tuple[int, ...]]]


def _made(mode: str, *values: Any) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return image


def _keyed(image: Image.Image, transparency: Any) -> Image.Image:
    """Save to a PNG file with a transparent color and reopen it."""
    file = io.BytesIO()
    image.save(file, "PNG", transparency=transparency)
    return Image.open(file)


def _palette() -> Image.Image:
    image = _made("P", 0, 1, 2)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
    return image


def _sixteen_bit_file(*values: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.array([values], np.uint16)).save(file, "PNG")
    opened = Image.open(file)
    assert opened.mode.startswith("I")
    return opened


RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(_made("RGB", (1, 2, 3)), [(1, 2, 3)], id="RGB"),
        pytest.param(_made("L", 0, 77, 255), [BLACK, (77,) * 3, WHITE], id="L"),
        pytest.param(_made("1", 0, 255), [BLACK, WHITE], id="1"),
        # Opaque, transparent, and half transparent: 0.502 * red + 0.498 * white.
        pytest.param(
            _made("RGBA", (255, 0, 0, 255), (9, 9, 9, 0), (255, 0, 0, 128)),
            [RED, WHITE, (255, 127, 127)],
            id="RGBA",
        ),
        pytest.param(
            _made("LA", (40, 255), (40, 0), (0, 51)), [(40,) * 3, WHITE, (204,) * 3], id="LA"
        ),
        pytest.param(_palette(), [(10, 20, 30), (200, 0, 0), (0, 0, 250)], id="P"),
        pytest.param(_keyed(_palette(), 1), [(10, 20, 30), WHITE, (0, 0, 250)], id="P-keyed"),
        pytest.param(_keyed(_made("RGB", RED, BLACK), RED), [WHITE, BLACK], id="RGB-keyed"),
        pytest.param(_keyed(_made("L", 7, 8), 7), [WHITE, (8,) * 3], id="L-keyed"),
        pytest.param(
            _made("CMYK", (0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)),
            [WHITE, (0, 255, 255), BLACK],
            id="CMYK",
        ),
        # 257 16-bit steps are one 8-bit step.
        pytest.param(
            _sixteen_bit_file(0, 257, 257 * 128 + 150, 65535),
            [BLACK, (1,) * 3, (129,) * 3, WHITE],
            id="I;16",
        ),
        pytest.param(
            _made("I", 0, 257 * 10, 65535, 70000), [BLACK, (10,) * 3, WHITE, WHITE], id="I"
        ),
        pytest.param(_made("F", 0.0, 0.2, 1.0, -1.0), [BLACK, (51,) * 3, WHITE, BLACK], id="F"),
    ],
)
def test_to_rgb_each_mode_gives_known_pixels(
    image: Image.Image, expected: list[tuple[int, ...]]
) -> None:
    result = to_rgb(image)
    assert result.mode == "RGB"
    assert [result.getpixel((x, 0)) for x in range(result.width)] == expected


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        # For the stored rows AB / CD / EF, as defined by the EXIF standard.
        (1, ["AB", "CD", "EF"]),
        (2, ["BA", "DC", "FE"]),
        (3, ["FE", "DC", "BA"]),
        (6, ["ECA", "FDB"]),
        (8, ["BDF", "ACE"]),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_to_rgb_exif_orientation_is_applied(
    orientation: int, expected: list[str], mode: str
) -> None:
    stored = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
    deep = Image.fromarray(stored.astype(np.uint16) * 257)
    image = deep if mode == "I;16" else Image.fromarray(stored).convert("RGB")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    upright = to_rgb(Image.open(file))
    letters = [["ABCDEF"[value - 1] for value in row] for row in np.asarray(upright)[..., 0]]
    assert ["".join(row) for row in letters] == expected
    assert upright.getexif().get(ORIENTATION, 1) == 1  # or a viewer would rotate it again


def test_to_rgb_truncated_image_raises() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    with pytest.raises(OSError, match="truncated"):
        to_rgb(Image.open(io.BytesIO(file.getvalue()[:5000])))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 50), (32, 16)),
        ((50, 100), (16, 32)),
        ((8, 4), (32, 16)),
        ((61, 37), (26, 16)),
        ((16, 16), (16, 16)),
        ((1000, 999), (16, 16)),
    ],
)
def test_fitted_size_scales_the_shorter_side(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitted_size(Image.new("RGB", size), 16) == expected


def test_random_crop_downscaling_is_antialiased() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32))).convert("RGB")
    random = np.random.default_rng(0)
    fitted = np.asarray(
        random_crop(stripes, 16, False, random, shorter_side=16).of(stripes), dtype=float
    )
    assert fitted.shape == (16, 16, 3)
    assert np.abs(fitted[:, 2:-2] - 127.5).max() < 12


@pytest.mark.parametrize("size", [(256, 256), (61, 37), (40, 300), (20, 24)])
def test_random_crop_equals_crop_of_the_resized_image(size: tuple[int, int]) -> None:
    image = _blobs(*size)
    whole = image.resize(fitted_size(image, 36), Image.Resampling.BICUBIC)
    for seed in range(20):
        crop = random_crop(image, 32, False, np.random.default_rng(seed), shorter_side=36)
        chances = np.random.default_rng(seed)
        left = int(chances.integers(whole.width - 32 + 1))
        top = int(chances.integers(whole.height - 32 + 1))
        expected = whole.crop((left, top, left + 32, top + 32))
        difference = np.asarray(crop.of(image), dtype=int) - np.asarray(expected, dtype=int)
        assert np.abs(difference).max() <= 2  # each of the two passes rounds


def _placed(width: int, height: int) -> Image.Image:
    """Each pixel encodes its position: red is x, green is y."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1))


def test_random_crop_reaches_every_position_and_flips_half() -> None:
    random = np.random.default_rng(0)
    places, mirrored, count = set(), 0, 600
    for _ in range(count):
        placed = _placed(20, 18)
        crop = np.asarray(random_crop(placed, 16, flip=True, random=random).of(placed), dtype=int)
        assert crop.shape == (16, 16, 3)
        flipped = crop[0, 0, 0] > crop[0, 1, 0]
        mirrored += flipped
        straight = crop[:, ::-1] if flipped else crop
        left, top = straight[0, 0, :2]
        places.add((left, top))
        expected = np.asarray(_placed(20, 18))[top : top + 16, left : left + 16]
        assert np.array_equal(straight, expected)
    assert places == {(left, top) for left in range(5) for top in range(3)}
    # Five standard deviations of a fair coin.
    assert abs(mirrored - count / 2) < 5 * (count / 4) ** 0.5


def test_random_crop_without_flip_never_flips() -> None:
    random = np.random.default_rng(0)
    image = _placed(16, 16)
    crops = [random_crop(image, 16, flip=False, random=random) for _ in range(40)]
    assert {crop.of(image).tobytes() for crop in crops} == {image.tobytes()}


def _blobs(width: int, height: int) -> Image.Image:
    """Return an image of smooth colors, like a photograph."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def test_to_rgb_large_jpeg_is_decoded_at_reduced_size(tmp_path: Path) -> None:
    _blobs(1200, 900).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as opened:
        whole = to_rgb(opened)
    with Image.open(tmp_path / "a.jpg") as opened:
        reduced = to_rgb(opened, shorter_side=100)
    # 900 / 4 = 225 leaves at least twice 100, and 900 / 8 would not.
    assert whole.size == (1200, 900) and reduced.size == (300, 225)
    images = [np.asarray(p.resize((133, 100)), dtype=float) for p in (whole, reduced)]
    assert images[0].shape == images[1].shape == (100, 133, 3)
    assert np.abs(images[0] - images[1]).mean() < 1


def test_to_rgb_slightly_larger_jpeg_is_decoded_at_full_size(tmp_path: Path) -> None:
    _blobs(256, 256).save(tmp_path / "a.jpg")
    for needed in (286, 129, 71):  # 71 is needed for 64 pixels; half of 256 is less than twice 71
        with Image.open(tmp_path / "a.jpg") as opened:
            assert to_rgb(opened, shorter_side=needed).size == (256, 256)


def test_to_rgb_large_rotated_jpeg_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _blobs(1200, 900).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert to_rgb(opened, shorter_side=100).size == (225, 300)
