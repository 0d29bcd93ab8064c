"""From any picture that Pillow opens to the plain RGB that the networks take."""

import numpy as np
from PIL import Image, ImageOps

# Pillow's modes of more than eight bits, and the value each shows as white.
DEEP_MODES = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I": 65535, "F": 1.0}


def to_rgb(picture: Image.Image, shorter_side: int | None = None) -> Image.Image:
    """Turn a picture upright and make it RGB.

    EXIF orientation is applied. Transparent parts show white, since what lies beneath them is often
    noise. Sixteen-bit greys are scaled, which Pillow's own conversion would clip.

    Args:
        picture: Any mode: greyscale, palette, RGBA, CMYK, 16-bit, ...
        shorter_side: Pixels that are needed in the end. A JPEG that was not decoded yet and has at least
            four times as many is decoded at a half, a quarter or an eighth of its size, so that twice as
            many are left for the resizing: a photograph of 12 megapixels takes a fraction of the time.

    Returns:
        An RGB picture, as large as the upright input or smaller by such a factor.

    Raises:
        OSError: If the picture's data are corrupt or truncated.
    """
    if shorter_side is not None:
        picture.draft(None, (2 * shorter_side, 2 * shorter_side))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in DEEP_MODES:
        values = np.asarray(upright, dtype=np.float64) / DEEP_MODES[upright.mode]
        return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        layers = upright.convert("RGBA")
        paper = Image.new("RGBA", layers.size, "white")
        return Image.alpha_composite(paper, layers).convert("RGB")
    return upright.convert("RGB")


def fitted_size(picture: Image.Image, shorter_side: int) -> tuple[int, int]:
    """Width and height of a picture resized to a shorter side, its aspect kept."""
    scale = shorter_side / min(picture.size)
    width, height = (max(shorter_side, round(side * scale)) for side in picture.size)
    return width, height


def random_crop(
    picture: Image.Image,
    size: int,
    flip: bool,
    random: np.random.Generator,
    shorter_side: int | None = None,
) -> Image.Image:
    """Cut a square at a random place of a resized picture and, if `flip`, mirror it with even odds.

    Only the pixels of the square are computed; resizing is antialiased, up or down.

    Args:
        picture: RGB.
        size: Side of the square in pixels.
        flip: Whether half of the squares are mirrored.
        random: Where the chances come from.
        shorter_side: To which the picture is resized; None leaves it as it is.
    """
    width, height = fitted_size(picture, shorter_side or min(picture.size))
    left = int(random.integers(width - size + 1))
    top = int(random.integers(height - size + 1))
    mirrored = random.random() < 0.5
    if (width, height) == picture.size:
        crop = picture.crop((left, top, left + size, top + size))
    else:
        x, y = picture.width / width, picture.height / height
        right, bottom = min((left + size) * x, picture.width), min((top + size) * y, picture.height)
        box = (left * x, top * y, right, bottom)
        crop = picture.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return ImageOps.mirror(crop) if flip and mirrored else crop
