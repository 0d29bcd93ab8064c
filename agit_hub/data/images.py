"""Decode any image that Pillow opens into the RGB that the networks take."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from agit_hub.errors import ImageError
from agit_hub.metadata import without_damaged_exif

# Formats that `open_image` accepts; Pillow's other plugins are rarely used, and some start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM")

# Decoding a damaged or malicious file raises almost any exception in Pillow's many plugins.
UNREADABLE = Exception

_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "does not exist.",
    IsADirectoryError: "is a folder.",
    PermissionError: "cannot be read: permission denied.",
    UnidentifiedImageError: f"is not an image in a known format ({', '.join(FORMATS)}).",
    Image.DecompressionBombError: "has far too many pixels.",
}

# Pillow modes with more than eight bits, and the value of white in each.
DEEP_MODES = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I": 65535, "F": 1.0}


def image_extensions() -> set[str]:
    """Return the file extensions that Pillow opens: `.jpg`, `.png`, ..."""
    return {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def open_image(
    path: str | Path,
    name: str | None = None,
    *,
    max_pixels: int = 10**8,
    max_bytes: int | None = None,
) -> Image.Image:
    """Open and decode an image file from an untrusted source.

    Args:
        path: The file.
        name: How error messages refer to the file; defaults to its name.
        max_pixels: Largest accepted number of pixels, checked in the header before decoding.
        max_bytes: Largest accepted file size.

    Returns:
        The decoded image in its own mode; the first frame of an animation. Of damaged EXIF data only the
        orientation is left.

    Raises:
        ImageError: If the file is missing, too large, damaged, or not an image.
    """
    path = Path(path)
    name = name or path.name
    try:
        size = path.stat().st_size
        if size == 0:
            raise ImageError(f"{name} is empty.")
        if max_bytes is not None and size > max_bytes:
            raise ImageError(
                f"{name} has {size / 1e6:.1f} MB; {max_bytes / 1e6:.0f} MB is the limit."
            )
        Image.init()  # AVIF may be missing from a build of Pillow
        image = Image.open(path, formats=[kind for kind in FORMATS if kind in Image.OPEN])
        if image.width * image.height > max_pixels:
            raise ImageError(
                f"{name} has {image.width} x {image.height} pixels; "
                f"{max_pixels / 1e6:.0f} megapixels is the limit."
            )
        image.load()
        return without_damaged_exif(image)
    except ImageError:
        raise
    except UNREADABLE as error:
        reasons = (reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        raise ImageError(f"{name} {next(reasons, f'is damaged: {error}')}") from error


def decode_image(data: bytes, shorter_side: int | None = None) -> Image.Image:
    """Decode the bytes of an image file with `to_rgb`.

    Raises:
        Exception: Of almost any type, if the data are damaged.
    """
    with Image.open(io.BytesIO(data)) as image:
        return to_rgb(image, shorter_side)


def to_rgb(image: Image.Image, shorter_side: int | None = None) -> Image.Image:
    """Apply the EXIF orientation and convert an image to RGB.

    Transparent parts become white, since the colors below them are often noise. 16-bit grayscale values
    are scaled; Pillow's own conversion would clip them.

    Args:
        image: An image in any mode: grayscale, palette, RGBA, CMYK, 16-bit, ...
        shorter_side: Pixels that are needed in the end. A JPEG that is not decoded yet and at least four
            times as large is decoded at 1/2, 1/4 or 1/8 of its size, so that at least twice
            `shorter_side` remains for the resize: a fraction of the time for a 12-megapixel photograph.

    Returns:
        An RGB image, as large as the upright input or smaller by such a factor.

    Raises:
        OSError: If the image data are corrupt or truncated.
    """
    if shorter_side is not None:
        image.draft(None, (2 * shorter_side, 2 * shorter_side))
    upright = ImageOps.exif_transpose(image)
    if upright.mode in DEEP_MODES:
        values = np.asarray(upright, dtype=np.float64) / DEEP_MODES[upright.mode]
        return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        foreground = upright.convert("RGBA")
        background = Image.new("RGBA", foreground.size, "white")
        return Image.alpha_composite(background, foreground).convert("RGB")
    return upright.convert("RGB")


def fitted_size(image: Image.Image, shorter_side: int) -> tuple[int, int]:
    """Return the width and height of an image resized to a shorter side, keeping the aspect ratio."""
    scale = shorter_side / min(image.size)
    width, height = (max(shorter_side, round(side * scale)) for side in image.size)
    return width, height


def random_crop(
    image: Image.Image,
    size: int,
    flip: bool,
    random: np.random.Generator,
    shorter_side: int | None = None,
) -> Image.Image:
    """Crop a random square of a resized image and flip it horizontally with probability 0.5.

    Only the pixels of the square are computed; resizing is antialiased in both directions.

    Args:
        image: RGB.
        size: Side of the square in pixels.
        flip: Whether half of the squares are flipped.
        random: Source of the random numbers.
        shorter_side: Shorter side of the resized image; None keeps the image's size.
    """
    width, height = fitted_size(image, shorter_side or min(image.size))
    left = int(random.integers(width - size + 1))
    top = int(random.integers(height - size + 1))
    mirror = random.random() < 0.5
    if (width, height) == image.size:
        crop = image.crop((left, top, left + size, top + size))
    else:
        x, y = image.width / width, image.height / height
        right, bottom = min((left + size) * x, image.width), min((top + size) * y, image.height)
        box = (left * x, top * y, right, bottom)
        crop = image.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return ImageOps.mirror(crop) if flip and mirror else crop
