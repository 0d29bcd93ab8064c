"""Between pictures and tensors, and pictures of attention: heat maps, overlays, labelled grids."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from agit_hub.config import MIN_SIZE, SIZE_MULTIPLE

Map = npt.NDArray[np.float32]

# How many times as long as high a picture may be before the networks see it smaller.
LONGEST = 4

# Dark blue over magenta to pale yellow: lightness rises steadily, so it also reads in grey.
_HEAT = np.array(
    [(8, 6, 36), (72, 16, 110), (160, 40, 110), (232, 90, 74), (252, 172, 84), (252, 250, 190)],
    dtype=np.float32,
)
_PAPER = (250, 250, 248)
_INK = (40, 40, 44)
_GAP = 4


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture -> (1, 3, H, W) float32 in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return from_bytes(pixels.unsqueeze(0))


def from_bytes(pixels: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1], any shape."""
    return pixels.float() / 127.5 - 1


def to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1] -> an RGB picture; values beyond the range are cut."""
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def to_map(attention: Tensor) -> Map:
    """(1, H, W) in [0, 1] -> a float32 array (H, W)."""
    array: Map = attention.detach().float().squeeze(0).cpu().numpy()
    return array


def working_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """The size at which the networks see a picture: its aspect kept, sides multiples of 4.

    Args:
        width: Of the picture, in pixels.
        height: Likewise.
        shorter_side: What the shorter side becomes: the model's `image_size`. A strip more than
            `LONGEST` times as long as it is high becomes smaller, for the networks' work is bounded.

    Returns:
        (width, height) in pixels, 16 or more.
    """
    scale = min(shorter_side / min(width, height), LONGEST * shorter_side / max(width, height))

    def fit(side: int) -> int:
        return max(MIN_SIZE, round(side * scale / SIZE_MULTIPLE) * SIZE_MULTIPLE)

    return fit(width), fit(height)


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
