"""Results on the disk: without loss, whole or not at all."""

from pathlib import Path
from uuid import uuid4

from PIL import Image

# What PNG holds as it is; TIFF holds the others.
_PNG_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16", "I")


def save_picture(picture: Image.Image, stem: Path) -> Path:
    """Save a picture without loss: as PNG, or as TIFF where PNG does not know its mode.

    The colour profile goes with it. The file appears under its name only when it is complete.

    Args:
        picture: Any mode; HSV, which no common format holds, becomes RGB.
        stem: The file's place and name, without an ending.

    Returns:
        The file.
    """
    kept = picture.convert("RGB") if picture.mode == "HSV" else picture
    kind, ending = ("PNG", ".png") if kept.mode in _PNG_MODES else ("TIFF", ".tif")
    path = stem.with_name(stem.name + ending)
    unfinished = path.with_name(f".{uuid4().hex}.part")
    profile = {"icc_profile": kept.info["icc_profile"]} if "icc_profile" in kept.info else {}
    # Fast rather than small: a photograph's PNG gains little from the deeper search.
    options = {"compress_level": 3} if kind == "PNG" else {"compression": "tiff_lzw"}
    if kept.mode == "F":
        options = {}
    try:
        kept.save(unfinished, kind, **options, **profile)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
