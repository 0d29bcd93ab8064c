"""Decode any image that Pillow opens into the RGB that the networks take."""

import io
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from agit_hub.errors import ImageError
from agit_hub.image_metadata import without_damaged_exif
from agit_hub.logging import get_logger

_log = get_logger(__name__)
# Formats that `open_image` accepts; Pillow's other plugins are rarely used, and some start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM", "HEIF", "JXL")

# Formats of the extras `heif` and `jxl`, whose plugins add themselves to Pillow.
with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()
with suppress(ImportError):
    import pillow_jxl  # noqa: F401

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
Range = tuple[float, float]
"""The values of an image of more than 8 bits that become black and white."""
# In `Image.info`, which crops and copies keep.
_RANGE = "agit_value_range"


# Formats that Pillow recognises and cannot decode itself, or by starting another program.
_NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


@cache
def image_extensions() -> frozenset[str]:
    """Return the file extensions that Pillow opens: `.jpg`, `.png`, ..."""
    kinds = Image.registered_extensions()
    return frozenset(e for e, k in kinds.items() if k in Image.OPEN and k not in _NOT_DECODED)


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
        if has_wide_channels(image):
            _log.warning("%s has 16 bits in each of its channels: the upper 8 are read.", name)
        image.load()
        sound = without_damaged_exif(image)
        if sound is not image:
            _log.warning("%s has damaged EXIF data, which are left out.", name)
        return sound
    except ImageError:
        raise
    except UNREADABLE as error:
        reasons = (reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        raise ImageError(f"{name} {next(reasons, f'is damaged: {error}')}") from error


def has_wide_channels(image: Image.Image) -> bool:
    """Return whether an undecoded image has 16 bits in several channels, of which Pillow reads 8."""
    tiles: Any = getattr(image, "tile", None)
    raw = str(tiles[0][3]) if tiles else ""
    return image.mode in ("RGB", "RGBA", "LA") and ";16" in raw


def open_encoded(data: Path | bytes) -> Image.Image:
    """Open an image file by its path or its content; only its header is decoded."""
    return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)


def decode_image(
    data: Path | bytes, shorter_side: int | None = None, value_range: Range | None = None
) -> Image.Image:
    """Decode an image file, given by its path or its content, with `to_rgb`.

    Raises:
        Exception: Of almost any type, if the data are damaged.
    """
    with open_encoded(data) as image:
        return to_rgb(image, shorter_side, value_range)


def to_rgb(
    image: Image.Image, shorter_side: int | None = None, value_range: Range | None = None
) -> Image.Image:
    """Apply the EXIF orientation and convert an image to RGB.

    Transparent parts become white, since the colors below them are often noise. Grayscale values of more
    than 8 bits are scaled; Pillow's own conversion would clip them.

    Args:
        image: An image in any mode: grayscale, palette, RGBA, CMYK, 16-bit, ...
        shorter_side: Pixels that are needed in the end. A JPEG that is not decoded yet and at least four
            times as large is decoded at 1/2, 1/4 or 1/8 of its size, so that at least twice
            `shorter_side` remains for the resize: a fraction of the time for a 12-megapixel photograph.
        value_range: Values of an image of more than 8 bits that become black and white; None for the one
            that `set_value_range` gave it, or else for the range of its mode.

    Returns:
        An RGB image, as large as the upright input or smaller by such a factor.

    Raises:
        OSError: If the image data are corrupt or truncated.
    """
    if shorter_side is not None:
        image.draft(None, (2 * shorter_side, 2 * shorter_side))
    upright = ImageOps.exif_transpose(image)
    if upright.mode in DEEP_MODES:
        low, high = value_range or deep_range(upright)
        values = (np.asarray(upright, dtype=np.float64) - low) / (high - low)
        scaled = np.nan_to_num(np.clip(values, 0, 1))
        return Image.fromarray((scaled * 255 + 0.5).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        foreground = upright.convert("RGBA")
        background = Image.new("RGBA", foreground.size, "white")
        return Image.alpha_composite(background, foreground).convert("RGB")
    return upright.convert("RGB")


def set_value_range(image: Image.Image, value_range: Range | None) -> Image.Image:
    """Return an image whose values `to_rgb` scales from a range; only if it has more than 8 bits."""
    if value_range is None or image.mode not in DEEP_MODES:
        return image
    marked = image.copy()
    marked.info[_RANGE] = tuple(value_range)
    return marked


def deep_range(image: Image.Image) -> Range:
    """Return the values that are black and white in an image of one of `DEEP_MODES`."""
    low, high = image.info.get(_RANGE, (0, DEEP_MODES[image.mode]))
    return low, high


def fitted_size(image: Image.Image, shorter_side: int) -> tuple[int, int]:
    """Return the width and height of an image resized to a shorter side, keeping the aspect ratio."""
    scale = shorter_side / min(image.size)
    width, height = (max(shorter_side, round(side * scale)) for side in image.size)
    return width, height


class Crop(NamedTuple):
    """A square of a resized image, perhaps mirrored."""

    resized: tuple[int, int]
    """Width and height of the whole image, resized."""
    left: int
    top: int
    size: int
    """Side in pixels."""
    mirror: bool

    def of(self, image: Image.Image) -> Image.Image:
        """Return the square of an RGB image, or of its mask at whatever size (L, averaged by area).

        Only the pixels of the square are computed; resizing is antialiased in both directions.
        """
        (width, height), left, top, size, mirror = self
        if (width, height) == image.size:
            crop = image.crop((left, top, left + size, top + size))
        else:
            x, y = image.width / width, image.height / height
            right, bottom = min((left + size) * x, image.width), min((top + size) * y, image.height)
            is_mask = image.mode == "L"
            resample = Image.Resampling.BOX if is_mask else Image.Resampling.BICUBIC
            box, gap = (left * x, top * y, right, bottom), None if is_mask else 3.0
            crop = image.resize((size, size), resample, box, reducing_gap=gap)
        return ImageOps.mirror(crop) if mirror else crop


def random_crop(
    image: Image.Image,
    size: int,
    flip: bool,
    random: np.random.Generator,
    shorter_side: int | None = None,
) -> Crop:
    """Choose a random square of a resized image, mirrored with probability 0.5.

    Args:
        image: RGB.
        size: Side of the square in pixels.
        flip: Whether half of the squares are mirrored.
        random: Source of the random numbers.
        shorter_side: Shorter side of the resized image; None keeps the image's size.
    """
    width, height = fitted_size(image, shorter_side or min(image.size))
    left = int(random.integers(width - size + 1))
    top = int(random.integers(height - size + 1))
    mirror = random.random() < 0.5
    return Crop((width, height), left, top, size, flip and mirror)
