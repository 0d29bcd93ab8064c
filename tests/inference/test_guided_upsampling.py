"""Enlarging in bands, and by the picture's own edges, against literal loops."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from agit_hub.inference.guided_upsampling import BandedUpsampler, bands, slope, upsample_map
from agit_hub.inference.image_processor import to_tensor

Array = npt.NDArray[np.float64]


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _bilinear(plane: Array, width: int, height: int) -> Array:
    """Between pixel middles, borders continued; only for sizes that do not shrink."""

    def along(line: Array, length: int) -> Array:
        middles = (np.arange(length) + 0.5) * len(line) / length - 0.5
        return np.interp(middles, np.arange(len(line)), line)

    tall = np.stack([along(column, height) for column in plane.T], axis=1)
    return np.stack([along(row, width) for row in tall])


@pytest.mark.parametrize("size", [(40, 70), (16, 12), (17, 90), (9, 5), (7, 50)], ids=str)
@pytest.mark.parametrize("rows", [1, 7, 13])
def test_a_band_is_bit_for_bit_what_it_is_in_the_whole(size: tuple[int, int], rows: int) -> None:
    enlarged = BandedUpsampler(_random(1, 4, 12, 16), size)
    whole = enlarged.rows(0, size[1])
    assert whole.shape == (4, size[1], size[0])
    for top in range(0, size[1], rows):
        bottom = min(top + rows, size[1])
        assert torch.equal(enlarged.rows(top, bottom), whole[:, top:bottom])


@pytest.mark.parametrize("size", [(16, 12), (40, 70), (17, 90), (160, 13)], ids=str)
def test_enlarging_is_bilinear(size: tuple[int, int]) -> None:
    planes = _random(1, 2, 12, 16)
    result = BandedUpsampler(planes, size).rows(0, size[1]).numpy()
    for plane, found in zip(planes[0].double().numpy(), result, strict=True):
        np.testing.assert_allclose(found, _bilinear(plane, *size), atol=1e-6)


def test_shrinking_takes_every_pixel_into_account() -> None:
    """To a half: weights 1, 3, 3, 1 of a triangle that covers four pixels each way."""
    plane = np.zeros((1, 1, 8, 8), np.float32)
    plane[0, 0, 3, 3] = 1
    small = BandedUpsampler(torch.from_numpy(plane), (4, 4)).rows(0, 4)[0].numpy()
    weights = np.array([0, 3, 1, 0]) / 8
    np.testing.assert_allclose(small, np.outer(weights, weights), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (10, 33), (100, 7), (5000, 3)], ids=str)
@pytest.mark.parametrize("pixels", [1, 64, 1000, 2**19])
def test_bands_cover_each_row_once(size: tuple[int, int], pixels: int) -> None:
    width, height = size
    found = bands(width, height, pixels)
    assert [row for top, bottom in found for row in range(top, bottom)] == list(range(height))
    for top, bottom in found:
        assert bottom - top == 1 or (bottom - top) * width <= pixels
    # No more of them than are needed.
    assert len(found) == -(-height // max(1, pixels // width))


def test_a_large_picture_has_more_than_one_band() -> None:
    found = bands(4000, 3000)
    assert len(found) > 1 and max(bottom - top for top, bottom in found) * 4000 <= 2**19


def _literal_slope(attention: Array, guide: Array, radius: int, epsilon: float) -> Array:
    """For each window a ridge regression of the map on the colours; then the windows' mean."""
    height, width = attention.shape

    def window(y: int, x: int) -> tuple[slice, slice]:
        return (
            slice(max(0, y - radius), y + radius + 1),
            slice(max(0, x - radius), x + radius + 1),
        )

    slopes = np.empty((3, height, width))
    for y, x in np.ndindex(height, width):
        colours = guide[:, *window(y, x)].reshape(3, -1)
        values = attention[window(y, x)].ravel()
        count = values.size
        # Least squares with the offset free: rows of sqrt(n eps) hold the slope alone down.
        ridge = np.sqrt(count * epsilon) * np.eye(3)
        design = np.block([[colours.T, np.ones((count, 1))], [ridge, np.zeros((3, 1))]])
        wanted = np.concatenate([values, np.zeros(3)])
        slopes[:, y, x] = np.linalg.lstsq(design, wanted, rcond=None)[0][:3]
    averaged = np.empty_like(slopes)
    for y, x in np.ndindex(height, width):
        averaged[:, y, x] = slopes[:, *window(y, x)].mean(axis=(1, 2))
    return averaged


@pytest.mark.parametrize(("radius", "epsilon"), [(4, 1e-3), (1, 1e-2), (2, 1e-3)])
def test_the_slope_is_a_ridge_regression_in_each_window(radius: int, epsilon: float) -> None:
    guide = _random(1, 3, 12, 15, seed=1)
    attention = (0.6 * guide[:, :1] + 0.4 * _random(1, 1, 12, 15, seed=2)).clamp(0, 1)
    expected = _literal_slope(
        attention[0, 0].double().numpy(), guide[0].double().numpy(), radius, epsilon
    )
    found = slope(attention, guide, radius, epsilon)
    assert found.shape == (1, 3, 12, 15)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-4)


def test_the_windows_are_nine_pixels_wide_and_need_a_variance_of_a_thousandth() -> None:
    guide, attention = _random(1, 3, 12, 12, seed=3), _random(1, 1, 12, 12, seed=4)
    expected = _literal_slope(
        attention[0, 0].double().numpy(), guide[0].double().numpy(), radius=4, epsilon=1e-3
    )
    np.testing.assert_allclose(slope(attention, guide)[0].numpy(), expected, atol=1e-4)


def _seen(picture: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    return to_tensor(picture.resize(size, Image.Resampling.BICUBIC))


def _noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_on_an_even_picture_the_map_is_enlarged_bilinearly() -> None:
    picture = Image.new("RGB", (70, 53), (90, 160, 30))
    attention = _random(1, 1, 16, 20)
    found = upsample_map(attention, _seen(picture, (20, 16)), picture)
    assert found.dtype == np.float32 and found.shape == (53, 70)
    expected = _bilinear(attention[0, 0].double().numpy(), 70, 53)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 16), (16, 16), (20, 60), (90, 16), (18, 14)], ids=str)
def test_a_picture_no_larger_than_what_the_networks_saw_is_no_guide(size: tuple[int, int]) -> None:
    """As tall, as wide, or smaller: there is no detail that they did not see."""
    attention = _random(1, 1, 16, 20)
    found = upsample_map(attention, _seen(_noise(*size), (20, 16)), _noise(*size))
    plain = BandedUpsampler(attention, size).rows(0, size[1])[0].numpy()
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_nothing_goes_beyond_what_the_networks_said_right_there() -> None:
    picture, attention = _noise(80, 64), _random(1, 1, 16, 20)
    found = upsample_map(attention, _seen(picture, (20, 16)), picture)
    values = np.pad(attention[0, 0].double().numpy(), 1, mode="edge")
    around = np.stack([values[y : y + 16, x : x + 20] for y in range(3) for x in range(3)])
    least, most = (_bilinear(plane, 80, 64) for plane in (around.min(0), around.max(0)))
    assert np.all(found >= least - 1e-5) and np.all(found <= most + 1e-5)
    # Which is a test only where the picture's detail moves the map at all, and up to the bounds.
    plain = _bilinear(attention[0, 0].double().numpy(), 80, 64)
    assert np.abs(found - plain).max() > 0.05
    assert np.isclose(found, most, atol=1e-5).any() and np.isclose(found, least, atol=1e-5).any()


def _width_of_transition(row: npt.ArrayLike) -> int:
    values = np.asarray(row)
    return int(np.count_nonzero((values > 0.1) & (values < 0.9)))


@pytest.mark.parametrize("edge", [124, 128, 131])
def test_a_maps_edge_goes_where_the_pictures_edge_is(edge: int) -> None:
    """One object, blue on orange, eight times as large as the networks see it."""
    pixels = np.empty((256, 256, 3), np.uint8)
    pixels[:, :edge], pixels[:, edge:] = (230, 120, 20), (20, 60, 200)
    picture = Image.fromarray(pixels)
    seen = _seen(picture, (32, 32))
    # The share of each of the networks' pixels that the object covers.
    cover = np.clip((np.arange(32) * 8 + 8 - edge) / 8, 0, 1).astype(np.float32)
    attention = torch.from_numpy(np.tile(cover, (32, 1)))[None, None]
    found = upsample_map(attention, seen, picture)[128]
    plain = _bilinear(attention[0, 0].double().numpy(), 256, 256)[128]
    assert _width_of_transition(plain) >= 6
    assert _width_of_transition(found) <= _width_of_transition(plain) / 3
    assert abs(int(np.argmax(found > 0.5)) - edge) <= 1
    assert not found[: edge - 24].any() and np.all(found[edge + 24 :] == 1)


def test_a_tall_picture_is_enlarged_without_seams() -> None:
    """More than one band: an even picture's map is bilinear all the way down."""
    picture = Image.new("RGB", (1024, 1100), (10, 200, 90))
    assert len(bands(*picture.size)) > 2
    attention = _random(1, 1, 20, 16)
    found = upsample_map(attention, _seen(picture, (16, 20)), picture)
    expected = _bilinear(attention[0, 0].double().numpy(), 1024, 1100)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_goes_in_is_left_as_it_was() -> None:
    picture, attention = _noise(50, 40), _random(1, 1, 16, 20)
    seen = _seen(picture, (20, 16))
    before = attention.clone(), seen.clone(), picture.tobytes()
    upsample_map(attention, seen, picture)
    assert torch.equal(attention, before[0]) and torch.equal(seen, before[1])
    assert picture.tobytes() == before[2]
