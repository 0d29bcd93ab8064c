"""KID of objects or backgrounds alone: the rest of each image is painted over by its mask."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from agit_hub.evaluation.image_metrics import Mask

_GREY = 128  # the middle of a byte's range, and exactly 0 to Inception


class Region(NamedTuple):
    """A part of each image that a KID is measured on."""

    metric: str
    title: str
    protocol: str
    """What is painted over, for the result's protocol."""
    keeps: bool | None
    """The mask value whose pixels are kept; None keeps all."""


_HOW = (
    f"is painted mid-grey ({_GREY}), of translations by their input's mask and of real images by "
    "their own"
)
WHOLE = Region("kid", "KID (lower is better)", "", None)
BY_MASK = (
    Region(
        "kid_foreground",
        "KID of the objects alone (lower is better)",
        f"everything outside the mask {_HOW}",
        True,
    ),
    Region(
        "kid_background",
        "KID of the backgrounds alone (lower is better)",
        f"everything inside the mask {_HOW}",
        False,
    ),
)


def paint_over(
    region: Region, images: Sequence[Image.Image], masks: Sequence[Mask | None]
) -> list[Image.Image]:
    """Return copies of RGB images with everything outside a region painted mid-grey.

    Raises:
        ValueError: If the region needs masks and an image has none.
    """
    if region.keeps is None:
        return list(images)
    painted = []
    for image, mask in zip(images, masks, strict=True):
        if mask is None:
            raise ValueError("An image has no mask although its dataset is marked as masked.")
        pixels = np.array(image)
        pixels[mask != region.keeps] = _GREY
        painted.append(Image.fromarray(pixels))
    return painted
