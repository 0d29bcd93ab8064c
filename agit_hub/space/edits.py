"""Edits of attention from the page's controls or the API's parameters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from agit_hub.data.images import UNREADABLE, open_image
from agit_hub.data.masks import MaskMap, mask_map
from agit_hub.errors import MaskError, SpaceError
from agit_hub.inference.edits import AttentionEdits, Point
from agit_hub.space.limits import MAX_BRUSH_MEGABYTES, MAX_BRUSH_MEGAPIXELS, MAX_FEATHER
from agit_hub.space.uploaded_image import open_upload

PAINT, ERASE = "#22c55e", "#ef4444"
# The fields of `AttentionEdits` that are sliders of the page and parameters of the API, in this order.
SETTINGS = ("threshold", "feather", "strength", "invert")


def make_edits(
    settings: Sequence[object],
    points: Sequence[Point] = (),
    strokes: Image.Image | None = None,
    mask: MaskMap | None = None,
) -> AttentionEdits:
    """Return the edits of the page's controls or the API's parameters.

    A selected object without attention is no error: it disappears while a slider leaves it none, and
    comes back after.

    Args:
        settings: The values of `SETTINGS`, or of the first few.
        points: Selected objects.
        strokes: The brush's layer, RGBA, of any size: green attends, red does not.
        mask: Where the image may change, (h, w) in [0, 1], with the image's aspect ratio.

    Raises:
        UserError: If a value is out of range.
    """
    values = dict(zip(SETTINGS, settings, strict=False))
    feather = values.get("feather", 0)
    if isinstance(feather, int | float) and feather > MAX_FEATHER:
        raise SpaceError(f"feather is {feather}; at most {MAX_FEATHER} pixels are allowed here.")
    paint, erase = _painted_masks(strokes)
    options: dict[str, object] = {**values, "paint": paint, "erase": erase, "mask": mask}
    return AttentionEdits(points=points, strict_points=False, **options)  # type: ignore[arg-type]


def open_strokes(path: str | None) -> Image.Image | None:
    """Open the brush's layer, an upload as any other.

    Raises:
        ImageError: If it is no image, or larger than what the page sends.
    """
    if path is None:
        return None
    return open_image(
        path,
        "The painted layer",
        max_pixels=MAX_BRUSH_MEGAPIXELS * 10**6,
        max_bytes=MAX_BRUSH_MEGABYTES * 10**6,
    )


def open_mask(path: str | None) -> MaskMap | None:
    """Open a mask, an upload as the image itself: (h, w) in [0, 1], 1 where the image may change.

    Raises:
        ImageError: If it is no image, damaged or too large.
        MaskError: If its colours are no greys, or it is black everywhere.
    """
    if path is None:
        return None
    name, image = Path(path).name, open_upload(path)
    try:
        mask = mask_map(image)
    except UNREADABLE as error:
        raise MaskError(f"{name} cannot be read as a mask: {error}.") from error
    if not mask.any():
        raise MaskError(f"{name} is black everywhere: a mask is white where the image may change.")
    return mask


def _painted_masks(strokes: Image.Image | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return where the brush's layer is green, and where it is red, each (h, w) in [0, 1]."""
    if strokes is None:
        return None, None
    layer = np.asarray(strokes.convert("RGBA"))
    opacity, red = layer[..., 3].astype(np.float32) / 255, layer[..., 0] > layer[..., 1]
    paint, erase = np.where(red, 0, opacity), np.where(red, opacity, 0)
    return (paint if paint.any() else None), (erase if erase.any() else None)
