"""Each resizing against its published formula, pixel by pixel."""

import math
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch

from agit_hub.evaluation.features import Resize, resizer
from tests.modes import noise

Array = npt.NDArray[np.float64]
# (width, height): smaller and larger than the 24 pixels of the result, and both.
SIZES = [(9, 7), (50, 40), (16, 61)]
SIDE = 24


def _bilinear(length: int, at: float) -> Array:
    """Return the weights of `length` pixels at a position between two of them."""
    at = min(max(at, 0.0), length - 1.0)
    weights = np.zeros(length)
    low = int(at)
    weights[low] += 1 - (at - low)
    weights[min(low + 1, length - 1)] += at - low
    return weights


def _torch_weights(length: int) -> Array:
    """Pixel centres: output n is at (n + 1/2) * scale - 1/2."""
    scale = length / SIDE
    return np.stack([_bilinear(length, (n + 0.5) * scale - 0.5) for n in range(SIDE)])


def _tensorflow_weights(length: int) -> Array:
    """Corners: output n is at n * scale."""
    return np.stack([_bilinear(length, n * length / SIDE) for n in range(SIDE)])


def _cubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def _pillow_weights(length: int) -> Array:
    """The cubic of a = -1/2, widened by the factor by which an image shrinks."""
    scale = length / SIDE
    wide = max(scale, 1.0)
    rows = []
    for n in range(SIDE):
        centre = (n + 0.5) * scale
        first = max(0, math.floor(centre - 2 * wide + 0.5))
        last = min(length, math.floor(centre + 2 * wide + 0.5))
        row = np.zeros(length)
        for m in range(first, last):
            row[m] = _cubic((m + 0.5 - centre) / wide)
        rows.append(row / row.sum())
    return np.stack(rows)


WEIGHTS = {
    "pillow-float": _pillow_weights,
    "torch-bilinear": _torch_weights,
    "tensorflow-bilinear": _tensorflow_weights,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [*WEIGHTS])
def test_resizer_equals_the_literal_formula(name: Resize, size: tuple[int, int]) -> None:
    image = noise("RGB", size, seed=0)
    found = resizer(name)(image, SIDE)
    assert found.dtype == torch.float32 and found.shape == (3, SIDE, SIDE)
    pixels = np.asarray(image, np.float64)
    across, down = WEIGHTS[name](size[0]), WEIGHTS[name](size[1])
    expected = np.einsum("yh,hwc,xw->cyx", down, pixels, across).clip(0, 255)
    assert np.abs(found.numpy() - expected).max() < 1e-3


def test_pillow_float_clips_and_does_not_round() -> None:
    found = resizer("pillow-float")(noise("RGB", (9, 7), seed=0), SIDE)
    assert found.min() == 0 and found.max() == 255
    assert (found - found.round()).abs().max() > 0.1


@pytest.mark.parametrize("size", SIZES)
def test_pillow_is_pillow_float_rounded(size: tuple[int, int]) -> None:
    image = noise("RGB", size, seed=0).point(lambda value: 64 + value // 2)  # prevents overshoot
    found = resizer("pillow")(image, SIDE)
    assert found.dtype == torch.uint8
    # Pillow rounds between its two passes as well.
    assert (found.float() - resizer("pillow-float")(image, SIDE)).abs().max() < 2


@pytest.mark.parametrize("name", get_args(Resize))
def test_resizer_of_an_image_of_that_side_changes_nothing(name: Resize) -> None:
    image = noise("RGB", (SIDE, SIDE), seed=0)
    found = resizer(name)(image, SIDE).permute(1, 2, 0).numpy()
    assert np.abs(found - np.asarray(image, np.float32)).max() < 1e-4
