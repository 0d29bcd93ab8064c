"""From the networks' working size to a picture's own: bands of rows, and maps led by the picture."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from agit_hub.inference.image_processor import Map

# Half the side, in the networks' pixels, of the windows in which map and picture are compared; and
# how much the picture must vary there, in [0, 1] squared, for its detail to count.
RADIUS = 4
EPSILON = 1e-3


class BandedUpsampler:
    """Some small planes as they are at a picture's size, computed a band of rows at a time.

    Bilinear, antialiased where it shrinks. Every band is exactly what it would be in the whole.

    Args:
        planes: (1, C, h, w).
        size: (width, height) in pixels.
    """

    def __init__(self, planes: Tensor, size: tuple[int, int]) -> None:
        self._width, height = size
        # Upright first: planes as tall as the picture, but still as narrow as the networks' view.
        self._tall = _resized(planes, (planes.shape[-1], height))

    def rows(self, top: int, bottom: int) -> Tensor:
        """The rows from `top` to `bottom`: (C, bottom - top, width)."""
        band = self._tall[..., top:bottom, :]
        return _resized(band, (self._width, bottom - top))[0]


def bands(width: int, height: int, pixels: int = 2**19) -> list[tuple[int, int]]:
    """The (top, bottom) of bands of rows that together make a picture, of about so many pixels each."""
    rows = max(1, pixels // width)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def upsample_map(attention: Tensor, seen: Tensor, picture: Image.Image) -> Map:
    """Enlarge a map with the picture as its guide: its edges go where the picture's edges are.

    The map is enlarged bilinearly, and then given the detail that the picture has beyond what the
    networks saw of it, in the proportion `slope` in which the two go together locally:
    up(map) + up(slope) . (picture - up(seen)). Scaled down again, it is the network's map. The slope is
    that of the guided filter (He, Sun and Tang, 2013) on a colour guide, found at the networks' size
    (He and Sun, 2015); the filter itself would also blur the map where the picture is even. Nowhere
    does the result go beyond what the networks said right there and next to it.

    Args:
        attention: The network's map, (1, 1, h, w) in [0, 1].
        seen: What the networks saw, (1, 3, h, w) in [-1, 1].
        picture: The picture itself, RGB.

    Returns:
        (H, W) in [0, 1].
    """
    pixels = torch.as_tensor(np.array(picture))
    width, height = picture.size
    guided = height > seen.shape[-2] and width > seen.shape[-1]
    planes = [attention]
    if guided:
        guide = (seen + 1) / 2
        least, most = -F.max_pool2d(-attention, 3, 1, 1), F.max_pool2d(attention, 3, 1, 1)
        planes += [least, most, slope(attention, guide), guide]
    enlarged = BandedUpsampler(torch.cat(planes, dim=1), (width, height))
    result = torch.empty(height, width)
    for top, bottom in bands(width, height):
        band = enlarged.rows(top, bottom)
        rows = band[0]
        if guided:
            detail = pixels[top:bottom].permute(2, 0, 1) / 255 - band[6:9]
            rows = (rows + (band[3:6] * detail).sum(0)).clamp(band[1], band[2])
        result[top:bottom] = rows.clamp(0, 1)
    return np.asarray(result.numpy())


def slope(
    attention: Tensor, guide: Tensor, radius: int = RADIUS, epsilon: float = EPSILON
) -> Tensor:
    """How much a map rises with each colour of a guide, around each pixel (Eq. 19 of He et al., 2013).

    Args:
        attention: (1, 1, h, w) in [0, 1].
        guide: (1, 3, h, w) in [0, 1].
        radius: Of the windows, in pixels: 2 * radius + 1 a side.
        epsilon: How much a guide must vary in a window to count, squared units.

    Returns:
        (1, 3, h, w).
    """

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)

    colour = mean(guide)
    pairs = (guide[:, :, None] * guide[:, None]).flatten(1, 2)  # (1, 9, h, w)
    spread = mean(pairs) - (colour[:, :, None] * colour[:, None]).flatten(1, 2)
    joint = mean(guide * attention) - colour * mean(attention)
    n, _, h, w = spread.shape
    matrices = spread.reshape(n, 3, 3, h, w).permute(0, 3, 4, 1, 2) + epsilon * torch.eye(3)
    solved = torch.linalg.solve(matrices, joint.permute(0, 2, 3, 1))
    return mean(solved.permute(0, 3, 1, 2))


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    width, height = size
    if planes.shape[-2:] == (height, width):
        return planes
    return F.interpolate(
        planes, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
