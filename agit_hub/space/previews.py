"""Previews of a rendering for the page: small enough to be sent while a slider moves."""

import io
from typing import NamedTuple

import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from agit_hub.data.images import to_rgb
from agit_hub.inference.attention_maps import Map
from agit_hub.inference.prediction import Rendering
from agit_hub.visualization import fit_size, overlay

PREVIEW = 1280  # pixels of the longer side on the page; files and API have the image's own size
HEAT_MAP_OPACITY = 0.8  # where attention is 1
# PNG takes ten times as long as JPEG, and the network ten times as long to carry it.
_LOSSLESS_PIXELS = 500_000
_JPEG = {"quality": 95, "subsampling": 0}
_LINE, _SHADOW = (255, 255, 255), (20, 12, 40)


class Preview(NamedTuple):
    """Files of what the page shows."""

    input: str
    attention: str
    """The heat map over the input, with an outline of what is attended to."""
    output: str


def save_preview(rendering: Rendering) -> Preview:
    """Write what the page shows of a rendering, and return the files."""
    small = preview(rendering)
    return Preview(_save(small.input), _save(attention_view(small)), _save(small.image))


def preview(rendering: Rendering) -> Rendering:
    """Return a rendering small enough for the page."""
    return rendering.resize(fit_size(rendering.input.size, PREVIEW))


def attention_view(rendering: Rendering) -> Image.Image:
    """Draw a heat map over the input, and a line around what is attended to, RGB.

    The line is inside: pixels without attention are the input's.
    """
    attention = rendering.attention
    view = overlay(to_rgb(rendering.input), attention, HEAT_MAP_OPACITY)
    for colour, edge in zip((_SHADOW, _LINE), outlines(attention), strict=True):
        view.paste(colour, mask=Image.fromarray(edge))
    return view


def outlines(attention: Map) -> tuple[np.ndarray, np.ndarray]:
    """Return two bands of pixels inside the edge of what is attended to: booleans (H, W).

    The second touches the edge, and the first is inside of it; the image's border is no edge. Both are
    wider in larger images.
    """
    inside = attention > 0
    width = max(1, max(attention.shape) // 500)
    middle = _shrunk(inside, width)
    return middle & ~_shrunk(middle, width), inside & ~middle


def _shrunk(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Return a mask without the pixels that are at most so far from its edge, by rows and columns."""
    for axis in (0, 1):
        padded = np.moveaxis(np.pad(mask, pixels, mode="edge"), axis, 0)
        length = mask.shape[axis]
        result = padded[:length].copy()
        for step in range(1, 2 * pixels + 1):
            result &= padded[step : step + length]
        crop = slice(pixels, pixels + mask.shape[1 - axis])
        mask = np.moveaxis(result[:, crop], 0, axis)
    return mask


def _save(image: Image.Image) -> str:
    """Write an image where Gradio serves it from, named by its content, and return the path."""
    lossless = image.mode == "RGBA" or image.width * image.height <= _LOSSLESS_PIXELS
    data = io.BytesIO()
    if lossless:
        image.save(data, "PNG", compress_level=1)
    else:
        image.save(data, "JPEG", **_JPEG)
    name = "image.png" if lossless else "image.jpg"
    return str(save_bytes_to_cache(data.getvalue(), name, get_upload_folder()))
