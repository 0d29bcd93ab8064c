"""Images of attention: heat maps, overlays, labelled grids."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from agit_hub.fonts import lettering

Map = npt.NDArray[np.float32]

# Dark blue over magenta to pale yellow: lightness rises steadily, so it also reads in grey.
_COLORMAP = np.array(
    [(8, 6, 36), (72, 16, 110), (160, 40, 110), (232, 90, 74), (252, 172, 84), (252, 250, 190)],
    dtype=np.float32,
)
_BACKGROUND = (250, 250, 248)
_TEXT = (40, 40, 44)
_GAP = 4


def fit_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size (width, height) with neither side longer than `longest`, its aspect kept."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def heat_map(attention: Map) -> Image.Image:
    """Draw a map (H, W) in [0, 1] in colour, in 256 steps from dark for 0 to pale yellow for 1."""
    steps, anchors = np.linspace(0, 1, 256), np.linspace(0, 1, len(_COLORMAP))
    channels = [np.interp(steps, anchors, _COLORMAP[:, channel]) for channel in range(3)]
    # A palette takes a tenth of the time of interpolating at every pixel.
    image = Image.fromarray((attention * 255).round().astype(np.uint8))
    image.putpalette(np.stack(channels, axis=-1).round().astype(np.uint8).tobytes())
    return image.convert("RGB")


def overlay(image: Image.Image, attention: Map, strength: float = 0.6) -> Image.Image:
    """Draw a heat map over an image of the same size, the more opaque the higher attention is.

    Args:
        image: Any mode; drawn as RGB.
        attention: (H, W) in [0, 1].
        strength: Opacity where attention is 1, in [0, 1].
    """
    opacity = Image.fromarray((np.clip(attention, 0, 1) * strength * 255).round().astype(np.uint8))
    return Image.composite(heat_map(attention), image.convert("RGB"), opacity)


def grey_map(attention: Map) -> Image.Image:
    """Draw a map (H, W) in [0, 1] as an 8-bit greyscale image."""
    return Image.fromarray((attention * 255).round().astype(np.uint8))


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Place RGB images of one height next to each other."""
    height = images[0].height
    gap = max(_GAP, height // 64)
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + gap
    return sheet


def stacked(images: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Place RGB images below each other, with a gap in pixels."""
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    sheet = Image.new("RGB", (max(image.width for image in images), height), _BACKGROUND)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height + gap
    return sheet


def labelled_grid(
    columns: Sequence[str], rows: Sequence[Sequence[Image.Image]], tile: int
) -> Image.Image:
    """Draw rows of images beneath a line of headings.

    Args:
        columns: A heading for each column; an empty one is a gap between groups.
        rows: An image for each heading that is not empty.
        tile: Side in pixels to which every image is resized.
    """
    size = max(11, tile // 10)
    head = round(size * 1.8)
    widths = [tile if heading else 3 * _GAP for heading in columns]
    lefts = np.cumsum([_GAP, *(width + _GAP for width in widths)])
    sheet = Image.new("RGB", (int(lefts[-1]), head + len(rows) * (tile + _GAP)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for heading, left in zip(columns, lefts, strict=False):
        font, text = lettering(heading, size)
        draw.text((int(left) + tile / 2, head / 2), text, _TEXT, font, anchor="mm")
    filled = [int(left) for heading, left in zip(columns, lefts, strict=False) if heading]
    for number, row in enumerate(rows):
        for image, left in zip(row, filled, strict=True):
            resized = _resize(image.convert("RGB"), tile)
            sheet.paste(resized, (left, head + number * (tile + _GAP)))
    return sheet


def _resize(image: Image.Image, side: int) -> Image.Image:
    # Whole multiples keep the pixels of small images crisp; other sizes are resampled.
    crisp = side % image.width == 0 and image.width == image.height
    return image.resize(
        (side, side), Image.Resampling.NEAREST if crisp else Image.Resampling.BICUBIC
    )
