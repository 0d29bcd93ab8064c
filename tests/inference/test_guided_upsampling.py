"""Banded and guided upsampling against literal loops."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from agit_hub.inference.guided_upsampling import (
    BandedUpsampler,
    guided_slope,
    row_bands,
    upsample_map,
)
from agit_hub.inference.image_processor import to_tensor
from tests.modes import noise

Array = npt.NDArray[np.float64]


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _bilinear(plane: Array, width: int, height: int) -> Array:
    """Interpolate between pixel centres with replicated borders; only for sizes that do not shrink."""

    def along(line: Array, length: int) -> Array:
        centres = (np.arange(length) + 0.5) * len(line) / length - 0.5
        return np.interp(centres, np.arange(len(line)), line)

    tall = np.stack([along(column, height) for column in plane.T], axis=1)
    return np.stack([along(row, width) for row in tall])


@pytest.mark.parametrize("size", [(40, 70), (16, 12), (17, 90), (9, 5), (7, 50)], ids=str)
@pytest.mark.parametrize("rows", [1, 7, 13])
def test_banded_upsampler_band_matches_whole_bit_for_bit(size: tuple[int, int], rows: int) -> None:
    enlarged = BandedUpsampler(_random(1, 4, 12, 16), size)
    whole = enlarged.rows(0, size[1])
    assert whole.shape == (4, size[1], size[0])
    for top in range(0, size[1], rows):
        bottom = min(top + rows, size[1])
        assert torch.equal(enlarged.rows(top, bottom), whole[:, top:bottom])


@pytest.mark.parametrize("size", [(16, 12), (40, 70), (17, 90), (160, 13)], ids=str)
def test_banded_upsampler_is_bilinear(size: tuple[int, int]) -> None:
    planes = _random(1, 2, 12, 16)
    result = BandedUpsampler(planes, size).rows(0, size[1]).numpy()
    for plane, found in zip(planes[0].double().numpy(), result, strict=True):
        np.testing.assert_allclose(found, _bilinear(plane, *size), atol=1e-6)


def test_banded_upsampler_shrinking_is_antialiased() -> None:
    """To a half: weights 1, 3, 3, 1 of a triangle that covers four pixels each way."""
    plane = np.zeros((1, 1, 8, 8), np.float32)
    plane[0, 0, 3, 3] = 1
    small = BandedUpsampler(torch.from_numpy(plane), (4, 4)).rows(0, 4)[0].numpy()
    weights = np.array([0, 3, 1, 0]) / 8
    np.testing.assert_allclose(small, np.outer(weights, weights), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (10, 33), (100, 7), (5000, 3)], ids=str)
@pytest.mark.parametrize("pixels", [1, 64, 1000, 2**19])
def test_row_bands_cover_each_row_once(size: tuple[int, int], pixels: int) -> None:
    width, height = size
    found = row_bands(width, height, pixels)
    assert [row for top, bottom in found for row in range(top, bottom)] == list(range(height))
    for top, bottom in found:
        assert bottom - top == 1 or (bottom - top) * width <= pixels
    # No more of them than are needed.
    assert len(found) == -(-height // max(1, pixels // width))


def test_row_bands_large_image_has_several() -> None:
    found = row_bands(4000, 3000)
    assert len(found) > 1 and max(bottom - top for top, bottom in found) * 4000 <= 2**19


def _literal_slope(attention: Array, guide: Array, radius: int, epsilon: float) -> Array:
    """Regress the map on the colours in each window by ridge regression, then average windows."""
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
        # Least squares with a free offset: rows of sqrt(n eps) penalize the slope alone.
        ridge = np.sqrt(count * epsilon) * np.eye(3)
        design = np.block([[colours.T, np.ones((count, 1))], [ridge, np.zeros((3, 1))]])
        wanted = np.concatenate([values, np.zeros(3)])
        slopes[:, y, x] = np.linalg.lstsq(design, wanted, rcond=None)[0][:3]
    averaged = np.empty_like(slopes)
    for y, x in np.ndindex(height, width):
        averaged[:, y, x] = slopes[:, *window(y, x)].mean(axis=(1, 2))
    return averaged


@pytest.mark.parametrize(("radius", "epsilon"), [(4, 1e-3), (1, 1e-2), (2, 1e-3)])
def test_guided_slope_is_ridge_regression_per_window(radius: int, epsilon: float) -> None:
    guide = _random(1, 3, 12, 15, seed=1)
    attention = (0.6 * guide[:, :1] + 0.4 * _random(1, 1, 12, 15, seed=2)).clamp(0, 1)
    expected = _literal_slope(
        attention[0, 0].double().numpy(), guide[0].double().numpy(), radius, epsilon
    )
    found = guided_slope(attention, guide, radius, epsilon)
    assert found.shape == (1, 3, 12, 15)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-4)


def test_guided_slope_defaults_are_radius_4_and_epsilon_1e_3() -> None:
    guide, attention = _random(1, 3, 12, 12, seed=3), _random(1, 1, 12, 12, seed=4)
    expected = _literal_slope(
        attention[0, 0].double().numpy(), guide[0].double().numpy(), radius=4, epsilon=1e-3
    )
    np.testing.assert_allclose(guided_slope(attention, guide)[0].numpy(), expected, atol=1e-4)


def _network_input(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    return to_tensor(image.resize(size, Image.Resampling.BICUBIC))


def _noise(width: int, height: int) -> Image.Image:
    return noise("RGB", (width, height), seed=7)


def test_upsample_map_even_image_is_bilinear() -> None:
    image = Image.new("RGB", (70, 53), (90, 160, 30))
    attention = _random(1, 1, 16, 20)
    found = upsample_map(attention, _network_input(image, (20, 16)), image)
    assert found.dtype == np.float32 and found.shape == (53, 70)
    expected = _bilinear(attention[0, 0].double().numpy(), 70, 53)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 16), (16, 16), (20, 60), (90, 16), (18, 14)], ids=str)
def test_upsample_map_small_image_is_not_a_guide(size: tuple[int, int]) -> None:
    """An image as tall or as wide as the networks' input has no further detail."""
    attention = _random(1, 1, 16, 20)
    found = upsample_map(attention, _network_input(_noise(*size), (20, 16)), _noise(*size))
    plain = BandedUpsampler(attention, size).rows(0, size[1])[0].numpy()
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_upsample_map_stays_within_local_range() -> None:
    image, attention = _noise(80, 64), _random(1, 1, 16, 20)
    found = upsample_map(attention, _network_input(image, (20, 16)), image)
    values = np.pad(attention[0, 0].double().numpy(), 1, mode="edge")
    around = np.stack([values[y : y + 16, x : x + 20] for y in range(3) for x in range(3)])
    least, most = (_bilinear(plane, 80, 64) for plane in (around.min(0), around.max(0)))
    assert np.all(found >= least - 1e-5) and np.all(found <= most + 1e-5)
    # The test is meaningful only if the image's detail moves the map, up to the bounds.
    plain = _bilinear(attention[0, 0].double().numpy(), 80, 64)
    assert np.abs(found - plain).max() > 0.05
    assert np.isclose(found, most, atol=1e-5).any() and np.isclose(found, least, atol=1e-5).any()


def _width_of_transition(row: npt.ArrayLike) -> int:
    values = np.asarray(row)
    return int(np.count_nonzero((values > 0.1) & (values < 0.9)))


@pytest.mark.parametrize("edge", [124, 128, 131])
def test_upsample_map_edge_follows_image_edge(edge: int) -> None:
    """One object, blue on orange, at eight times the networks' size."""
    pixels = np.empty((256, 256, 3), np.uint8)
    pixels[:, :edge], pixels[:, edge:] = (230, 120, 20), (20, 60, 200)
    image = Image.fromarray(pixels)
    seen = _network_input(image, (32, 32))
    # The share of each of the networks' pixels that the object covers.
    cover = np.clip((np.arange(32) * 8 + 8 - edge) / 8, 0, 1).astype(np.float32)
    attention = torch.from_numpy(np.tile(cover, (32, 1)))[None, None]
    found = upsample_map(attention, seen, image)[128]
    plain = _bilinear(attention[0, 0].double().numpy(), 256, 256)[128]
    assert _width_of_transition(plain) >= 6
    assert _width_of_transition(found) <= _width_of_transition(plain) / 3
    assert abs(int(np.argmax(found > 0.5)) - edge) <= 1
    assert not found[: edge - 24].any() and np.all(found[edge + 24 :] == 1)


def test_upsample_map_tall_image_has_no_seams() -> None:
    """Over more than one band, an even image's map is bilinear throughout."""
    image = Image.new("RGB", (1024, 1100), (10, 200, 90))
    assert len(row_bands(*image.size)) > 2
    attention = _random(1, 1, 20, 16)
    found = upsample_map(attention, _network_input(image, (16, 20)), image)
    expected = _bilinear(attention[0, 0].double().numpy(), 1024, 1100)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_upsample_map_does_not_modify_inputs() -> None:
    image, attention = _noise(50, 40), _random(1, 1, 16, 20)
    seen = _network_input(image, (20, 16))
    before = attention.clone(), seen.clone(), image.tobytes()
    upsample_map(attention, seen, image)
    assert torch.equal(attention, before[0]) and torch.equal(seen, before[1])
    assert image.tobytes() == before[2]
