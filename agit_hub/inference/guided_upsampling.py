"""Upsampling from the networks' size to an image's, in bands of rows, and guided by the image."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from agit_hub.inference.attention_maps import Map

# Half the side, in the networks' pixels, of the windows in which map and image are compared; and how
# much the image must vary there, in [0, 1] squared, for its detail to count.
RADIUS = 4
EPSILON = 1e-3


class BandedUpsampler:
    """Resizes small planes to an image's size, a band of rows at a time.

    Bilinear, antialiased where it shrinks. Every band is bit for bit what it is in the whole.

    Args:
        planes: (1, C, h, w).
        size: (width, height) in pixels.
    """

    def __init__(self, planes: Tensor, size: tuple[int, int]) -> None:
        self._width, height = size
        # Vertically first: planes as tall as the image, but still as narrow as the networks' input.
        self._tall = _resize(planes, (planes.shape[-1], height))

    def rows(self, top: int, bottom: int) -> Tensor:
        """Return the rows from `top` to `bottom`: (C, bottom - top, width)."""
        band = self._tall[..., top:bottom, :]
        return _resize(band, (self._width, bottom - top))[0]


def row_bands(width: int, height: int, pixels: int = 2**19) -> list[tuple[int, int]]:
    """Divide an image into bands of rows (top, bottom) of at most about `pixels` pixels each."""
    rows = max(1, pixels // width)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def upsample_map(attention: Tensor, network_input: Tensor, image: Image.Image) -> Map:
    """Upsample a map with the image as its guide: its edges follow the image's edges.

    The map is upsampled bilinearly, and then gets the detail that the image has beyond the networks'
    input, in the proportion `slope` in which the two vary together locally:
    up(map) + up(slope) . (image - up(input)). Downsampled again, it is the network's map. The slope is
    that of the guided filter (He, Sun and Tang, 2013) on a colour guide, computed at the networks' size
    (He and Sun, 2015); the filter itself would also blur the map where the image is even. The result
    never exceeds the range of the network's map at that place and next to it.

    Args:
        attention: The network's map, (1, 1, h, w) in [0, 1].
        network_input: (1, 3, h, w) in [-1, 1].
        image: The image itself, RGB.

    Returns:
        (H, W) in [0, 1].
    """
    pixels = torch.as_tensor(np.array(image))
    width, height = image.size
    guided = height > network_input.shape[-2] and width > network_input.shape[-1]
    planes = [attention]
    if guided:
        guide = (network_input + 1) / 2
        least, most = -F.max_pool2d(-attention, 3, 1, 1), F.max_pool2d(attention, 3, 1, 1)
        planes += [least, most, guided_slope(attention, guide), guide]
    upsampled = BandedUpsampler(torch.cat(planes, dim=1), (width, height))
    result = torch.empty(height, width)
    for top, bottom in row_bands(width, height):
        band = upsampled.rows(top, bottom)
        rows = band[0]
        if guided:
            detail = pixels[top:bottom].permute(2, 0, 1) / 255 - band[6:9]
            rows = (rows + (band[3:6] * detail).sum(0)).clamp(band[1], band[2])
        result[top:bottom] = rows.clamp(0, 1)
    return np.asarray(result.numpy())


def guided_slope(
    attention: Tensor, guide: Tensor, radius: int = RADIUS, epsilon: float = EPSILON
) -> Tensor:
    """Regress a map on a guide's colours around each pixel (Eq. 19 of He et al., 2013).

    Args:
        attention: (1, 1, h, w) in [0, 1].
        guide: (1, 3, h, w) in [0, 1].
        radius: Of the windows, in pixels: 2 * radius + 1 a side.
        epsilon: How much the guide must vary in a window to count, squared units.

    Returns:
        How much the map rises with each colour, (1, 3, h, w).
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)

    colour = mean(guide)
    pairs = (guide[:, :, None] * guide[:, None]).flatten(1, 2)  # (1, 9, h, w)
    covariance = mean(pairs) - (colour[:, :, None] * colour[:, None]).flatten(1, 2)
    joint = mean(guide * attention) - colour * mean(attention)
    n, _, h, w = covariance.shape
    matrices = covariance.reshape(n, 3, 3, h, w).permute(0, 3, 4, 1, 2) + epsilon * torch.eye(3)
    solved = torch.linalg.solve(matrices, joint.permute(0, 2, 3, 1))
    return mean(solved.permute(0, 3, 1, 2))


def _resize(planes: Tensor, size: tuple[int, int]) -> Tensor:
    width, height = size
    if planes.shape[-2:] == (height, width):
        return planes
    return F.interpolate(
        planes, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
