"""Images of attention: heat maps, overlays, labelled grids."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Map = npt.NDArray[np.float32]

# Dark blue over magenta to pale yellow: lightness rises steadily, so it also reads in grey.
_HEAT = np.array(
    [(8, 6, 36), (72, 16, 110), (160, 40, 110), (232, 90, 74), (252, 172, 84), (252, 250, 190)],
    dtype=np.float32,
)


_PAPER = (250, 250, 248)


_INK = (40, 40, 44)


_GAP = 4


def heat_map(attention: Map) -> Image.Image:
    """Draw a map (H, W) in [0, 1] in colour, dark for 0 and pale yellow for 1."""
    anchors = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(attention, anchors, _HEAT[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def overlay(picture: Image.Image, attention: Map, strength: float = 0.6) -> Image.Image:
    """Lay a heat map over a picture of the same size, the more opaque the higher attention is.

    Args:
        picture: Any mode; shown as RGB.
        attention: (H, W) in [0, 1].
        strength: Opacity where attention is 1, in [0, 1].
    """
    opacity = Image.fromarray((np.clip(attention, 0, 1) * strength * 255).round().astype(np.uint8))
    return Image.composite(heat_map(attention), picture.convert("RGB"), opacity)


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """RGB pictures of one height next to each other, on paper."""
    height = pictures[0].height
    gap = max(_GAP, height // 64)
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height), _PAPER)
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


def on_top_of_each_other(pictures: Sequence[Image.Image]) -> Image.Image:
    """RGB pictures of one width below each other, on paper."""
    height = sum(picture.height for picture in pictures)
    sheet = Image.new("RGB", (max(picture.width for picture in pictures), height), _PAPER)
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def labelled_grid(
    columns: Sequence[str], rows: Sequence[Sequence[Image.Image]], tile: int
) -> Image.Image:
    """Lay pictures out in rows beneath a line of headings.

    Args:
        columns: A heading for each column; an empty one stands for a gap between groups.
        rows: A picture for each heading that is not empty.
        tile: Side in pixels to which every picture is scaled.
    """
    size = max(11, tile // 10)
    font = ImageFont.load_default(size)
    head = round(size * 1.8)
    widths = [tile if heading else 3 * _GAP for heading in columns]
    lefts = np.cumsum([_GAP, *(width + _GAP for width in widths)])
    sheet = Image.new("RGB", (int(lefts[-1]), head + len(rows) * (tile + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for heading, left in zip(columns, lefts, strict=False):
        draw.text((int(left) + tile / 2, head / 2), heading, _INK, font, anchor="mm")
    filled = [int(left) for heading, left in zip(columns, lefts, strict=False) if heading]
    for number, row in enumerate(rows):
        for picture, left in zip(row, filled, strict=True):
            scaled = _scaled(picture.convert("RGB"), tile)
            sheet.paste(scaled, (left, head + number * (tile + _GAP)))
    return sheet


def _scaled(picture: Image.Image, side: int) -> Image.Image:
    # Whole multiples keep the pixels of small pictures crisp; anything else is resampled.
    crisp = side % picture.width == 0 and picture.width == picture.height
    return picture.resize(
        (side, side), Image.Resampling.NEAREST if crisp else Image.Resampling.BICUBIC
    )
