"""From any picture that Pillow opens to the plain RGB that the networks take."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from agit_hub.errors import ImageError

# What is opened for people; other plugins of Pillow are rare, and some start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM")

# Decoding a damaged or hostile file raises almost anything in Pillow's many plugins.
UNREADABLE = Exception

# Pillow's modes of more than eight bits, and the value each shows as white.
DEEP_MODES = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I": 65535, "F": 1.0}


def open_image(
    path: str | Path,
    name: str | None = None,
    *,
    max_pixels: int = 10**8,
    max_bytes: int | None = None,
) -> Image.Image:
    """Open a picture of a person's and decode it, whatever the file may turn out to be.

    Args:
        path: The file.
        name: What the message calls it; the file's own name if left out.
        max_pixels: As many may it have: its header is read before anything is decoded.
        max_bytes: As large may the file be.

    Returns:
        The picture, decoded, in its own mode; of an animation the first frame.

    Raises:
        ImageError: If it is missing, too large, damaged, or no picture.
    """
    path = Path(path)
    name = name or path.name
    try:
        size = path.stat().st_size
        if size == 0:
            raise ImageError(f"{name} is empty.")
        if max_bytes is not None and size > max_bytes:
            raise ImageError(
                f"{name} has {size / 1e6:.1f} MB; {max_bytes / 1e6:.0f} MB is the most taken here."
            )
        Image.init()  # AVIF may be missing from a build of Pillow
        picture = Image.open(path, formats=[kind for kind in FORMATS if kind in Image.OPEN])
        if picture.width * picture.height > max_pixels:
            raise ImageError(
                f"{name} has {picture.width} x {picture.height} pixels; "
                f"{max_pixels / 1e6:.0f} megapixels is the most taken here."
            )
        picture.load()
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture of a known kind ({', '.join(FORMATS)})."
        ) from error
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder.") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read.") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has far too many pixels.") from error
    except UNREADABLE as error:
        raise ImageError(f"{name} is damaged: {error}") from error
    return picture


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
