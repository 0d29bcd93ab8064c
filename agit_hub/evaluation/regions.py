"""Distances of objects and of backgrounds alone: the rest of each image is painted over by its mask."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from agit_hub.evaluation.image_metrics import Mask

_GREY = 128  # the middle of a byte's range, and exactly 0 to Inception


class Region(NamedTuple):
    """What of each image a KID is measured on."""

    metric: str
    title: str
    protocol: str
    """What is painted over, for the measurement's protocol."""
    keeps: bool | None
    """The masks' value where pixels are kept; None keeps all."""


_HOW = (
    f"is painted mid-grey ({_GREY}), of translations by their input's mask and of real images by "
    "their own"
)
WHOLE = Region("kid", "KID (lower is better)", "", None)
BY_MASK = (
    Region(
        "kid_foreground",
        "KID of the objects alone (lower is better)",
        f"what lies outside the mask {_HOW}",
        True,
    ),
    Region(
        "kid_background",
        "KID of the backgrounds alone (lower is better)",
        f"what lies inside the mask {_HOW}",
        False,
    ),
)


def regions_of(masked: bool) -> tuple[Region, ...]:
    """The regions that can be measured: without masks whole images alone."""
    return (WHOLE, *BY_MASK) if masked else (WHOLE,)


def paint_over(
    region: Region, images: Sequence[Image.Image], masks: Sequence[Mask | None]
) -> list[Image.Image]:
    """Paint everything outside a region mid-grey.

    Args:
        region: What is kept.
        images: RGB.
        masks: True on the objects, each of its image's size; looked at where the region goes by them.

    Raises:
        ValueError: If the region goes by masks and an image has none.
    """
    if region.keeps is None:
        return list(images)
    return [_painted(image, mask, region.keeps) for image, mask in zip(images, masks, strict=True)]


def _painted(image: Image.Image, mask: Mask | None, keeps: bool) -> Image.Image:
    if mask is None:
        raise ValueError("An image has no mask, and its domain is said to have one for each.")
    pixels = np.array(image)
    pixels[mask != keeps] = _GREY
    return Image.fromarray(pixels)
