"""Results on the disk: pictures in a format that holds them, and files that are whole or not there."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image

from agit_hub.atomic import atomic_path
from agit_hub.data.images import FORMATS, UNREADABLE, to_rgb
from agit_hub.inference.image_processor import Map
from agit_hub.inference.prediction import Rendering

Format = Literal["png", "jpeg", "webp", "tiff"]

PANEL_HEIGHT = 512
# What PNG does not hold, and TIFF does.
_TIFF_ALONE = ("CMYK", "I", "F")
_MODES = {
    ".png": ("1", "L", "LA", "RGB", "RGBA", "I;16"),
    ".jpeg": ("L", "RGB", "CMYK"),
    ".webp": ("RGB", "RGBA"),
    ".tiff": ("1", "L", "LA", "RGB", "RGBA", "I;16", *_TIFF_ALONE),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    # Fast rather than small: a photograph gains little from the deeper search.
    ".png": {"compress_level": 3},
    ".jpeg": {"quality": 95, "subsampling": 0},
    # `exact` keeps the colours beneath what is transparent.
    ".webp": {"lossless": True, "exact": True},
    ".tiff": {"compression": "tiff_adobe_deflate"},
}


def ending(path: Path, wanted: Format) -> str:
    """The ending of a picture's result: as wanted, but `.tiff` for what PNG does not hold.

    Args:
        path: The picture; its header alone is read.
        wanted: The format.
    """
    if wanted == "png":
        try:
            with Image.open(path) as picture:
                if picture.format in FORMATS:
                    return lossless_ending(picture.mode)
        except UNREADABLE:
            pass  # It is told of when the picture is opened.
    return f".{wanted}"


def lossless_ending(mode: str) -> str:
    """`.png`, or `.tiff` for a mode that PNG does not hold."""
    return ".tiff" if mode in _TIFF_ALONE else ".png"


def save(picture: Image.Image, path: Path) -> None:
    """Save a picture with its colour profile and EXIF, but for the orientation: it is upright.

    Args:
        picture: Any mode; one that the format does not hold becomes RGB.
        path: The file; its ending, one of `.png`, `.jpeg`, `.webp` and `.tiff`, is the format.

    Raises:
        OSError: If it cannot be written.
    """
    exif = picture.getexif()
    exif.pop(ExifTags.Base.Orientation, None)
    # An empty profile is none at all, and keeps Pillow from taking the one in `info`.
    profile = picture.info.get("icc_profile") or b""
    if picture.mode not in _MODES[path.suffix]:
        keeps_alpha = path.suffix == ".webp" and picture.has_transparency_data
        # A profile describes the colours of its own kind: a grey's or CMYK's would not fit RGB.
        profile = profile if picture.mode.startswith("RGB") else b""
        picture = picture.convert("RGBA") if keeps_alpha else to_rgb(picture)
    with atomic_path(path) as unfinished:
        picture.save(
            unfinished,
            path.suffix[1:],
            exif=exif.tobytes() if len(exif) else b"",
            icc_profile=profile,
            **_OPTIONS[path.suffix],
        )


def grey(attention: Map) -> Image.Image:
    """A map (H, W) in [0, 1] as a greyscale picture of 8 bits."""
    return Image.fromarray((attention * 255).round().astype(np.uint8))


def small_panel(rendering: Rendering) -> Image.Image:
    """Input, attention over it and output side by side, each `PANEL_HEIGHT` high at the most."""
    height = min(rendering.input.height, PANEL_HEIGHT)
    width = max(1, round(rendering.input.width * height / rendering.input.height))
    return rendering.scaled((width, height)).panel()
