"""Saving of results: images in a format that holds their mode, in files that are complete or absent."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from agit_hub.atomic import atomic_path
from agit_hub.data.images import FORMATS, UNREADABLE, to_rgb
from agit_hub.image_metadata import exif_bytes, has_nested_data

Format = Literal["png", "jpeg", "webp", "tiff"]

# Modes that TIFF supports and PNG does not.
_TIFF_ONLY = ("CMYK", "I", "F")
_MODES = {
    ".png": ("1", "L", "LA", "RGB", "RGBA", "I;16"),
    ".jpeg": ("L", "RGB", "CMYK"),
    ".webp": ("RGB", "RGBA"),
    ".tiff": ("1", "L", "LA", "RGB", "RGBA", "I;16", *_TIFF_ONLY),
}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # Fast rather than small: a photograph gains little from a higher level.
    ".png": {"compress_level": 3},
    ".jpeg": {"quality": 95, "subsampling": 0},
    # `exact` keeps the colours beneath transparent pixels.
    ".webp": {"lossless": True, "exact": True},
    ".tiff": {"compression": "tiff_adobe_deflate"},
}


def output_suffix(path: Path, format: Format) -> str:
    """Return the suffix of an image's result: of the format, or `.tiff` for what PNG cannot hold.

    Args:
        path: The image, of which only the header is read.
        format: The requested format.
    """
    if format == "png":
        try:
            with Image.open(path) as image:
                if image.format in FORMATS:
                    return lossless_suffix(image.mode)
        except UNREADABLE:
            pass  # reported when the image is opened
    return f".{format}"


def lossless_suffix(mode: str) -> str:
    """Return `.png`, or `.tiff` for a mode that PNG does not support."""
    return ".tiff" if mode in _TIFF_ONLY else ".png"


def save_image(image: Image.Image, path: Path, keep_location: bool = False) -> None:
    """Save an upright image with its resolution, colour profile and EXIF data except the orientation.

    Damaged EXIF data are left out.

    Args:
        image: Any mode; one that the format does not support is converted to RGB.
        path: The file; its suffix, one of `.png`, `.jpeg`, `.webp` and `.tiff`, is the format.
        keep_location: Whether EXIF data may state where the image was taken.

    Raises:
        OSError: If it cannot be written.
    """
    exif = exif_bytes(image, keep_location)
    # Pillow would copy what else a TIFF states, such as XMP.
    image = image.copy() if hasattr(image, "tag_v2") else image
    # An empty profile keeps Pillow from saving the one in `info`.
    profile = image.info.get("icc_profile") or b""
    if image.mode not in _MODES[path.suffix]:
        keep_alpha = path.suffix == ".webp" and image.has_transparency_data
        # A profile is specific to its colour space: one of greys or CMYK is invalid for RGB.
        profile = profile if image.mode.startswith("RGB") else b""
        image = image.convert("RGBA") if keep_alpha else to_rgb(image)
    options = _SAVE_OPTIONS[path.suffix] | _resolution(image, path.suffix)
    if path.suffix == ".tiff" and has_nested_data(exif):
        options["compression"] = None  # the library that compresses fails on them
    with atomic_path(path) as unfinished:
        save = partial(image.save, unfinished, path.suffix[1:], icc_profile=profile, **options)
        try:
            save(exif=exif)
        except Exception:  # data that one format takes and another does not
            if not exif:
                raise
            save(exif=b"")


def _resolution(image: Image.Image, suffix: str) -> dict[str, Any]:
    """Return the option that keeps an image's pixels per inch, if it states them and the format can."""
    try:
        across, down = (float(each) for each in image.info.get("dpi", ()))
    except (TypeError, ValueError, ZeroDivisionError):
        return {}  # damaged
    # JPEG has 16 bits for each.
    if suffix == ".webp" or not (1 <= across < 2**16 and 1 <= down < 2**16):
        return {}
    return {"dpi": (round(across), round(down)) if suffix == ".jpeg" else (across, down)}
