"""Operations on attention maps: masks of any kind as maps, thresholds, objects, boxes, feathering."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from agit_hub.data.images import DEEP_MODES
from agit_hub.data.masks import array_map, fits, mask_map, read_mask
from agit_hub.errors import EditError, MaskError

Map = npt.NDArray[np.float32]
"""Attention, (H, W) in [0, 1]."""

# A blur that reaches one pixel.
_NEIGHBOURS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 8
# A feather's Gaussian is truncated at two sigma.
_TRUNCATE = 2


def as_map(mask: Any, name: str) -> Map:
    """Convert a mask to float32 (H, W) in [0, 1].

    Args:
        mask: An array, or a greyscale image of any depth.
        name: Of the argument, for the message.

    Raises:
        EditError: If its shape or its values are not a map's.
    """
    if isinstance(mask, Image.Image):
        white = DEEP_MODES.get(mask.mode)
        grey = mask if white else mask.convert("L")
        mask = np.asarray(grey, dtype=np.float32) / np.float32(white or 255)
    try:
        array = np.asarray(mask, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise EditError(
            f"{name} is {mask!r}; it must be a map: an array (height, width) or a greyscale image."
        ) from error
    if array.ndim != 2 or array.size == 0:
        raise EditError(f"{name} has shape {array.shape}; a map has shape (height, width).")
    if not (array.min() >= 0 and array.max() <= 1):
        raise EditError(
            f"{name} ranges from {array.min():g} to {array.max():g}; a map must be in [0, 1] "
            "(divide bytes by 255)."
        )
    return array


def as_mask(mask: Any) -> Map:
    """Convert a mask to float32 (H, W) in [0, 1], 1 where translation is allowed.

    Args:
        mask: The path of an image, or an image, as `agit_hub.data.masks.mask_map` reads it; or an array
            (H, W) of bytes, truth values, or floats in [0, 1].

    Raises:
        EditError: If it is none of these, or cannot be read.
    """
    try:
        if isinstance(mask, str | Path):
            return read_mask(Path(mask).expanduser())
        if isinstance(mask, Image.Image):
            return mask_map(mask)
    except MaskError as error:
        raise EditError(str(error)) from error
    array = np.asarray(mask)
    is_whole = array.ndim == 2 and array.size and array.dtype.kind in "bu"
    return as_map(array_map(array) if is_whole else array, "mask")


def fit_mask(mask: Map, size: tuple[int, int]) -> Map:
    """Resize a mask to an image's size (width, height); a pixel whose own mask is 0 stays 0.

    Raises:
        EditError: If their aspect ratios differ.
    """
    own = mask.shape[1], mask.shape[0]
    if not fits(own, size):
        raise EditError(
            f"The mask is {own[0]} x {own[1]} pixels and its image {size[0]} x {size[1]}: their aspect "
            "ratios differ."
        )
    if own == size:
        return mask
    nearest = Image.fromarray(mask > 0).resize(size, Image.Resampling.NEAREST)
    return np.where(np.asarray(nearest), resize_map(mask, size), np.float32(0))


def resize_map(mask: Any, size: tuple[int, int]) -> Map:
    """Resize a map to a size (width, height) in pixels."""
    own: Map = mask
    if own.shape[::-1] == size:
        return own
    resized = Image.fromarray(own).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized, dtype=np.float32), 0, 1)


def is_box(region: Any) -> bool:
    """Return whether a region is a box (left, top, right, bottom) instead of a mask.

    Raises:
        EditError: If it has four values that are not the edges of a box.
    """
    if region is None or isinstance(region, Image.Image) or np.shape(region) != (4,):
        return False
    try:
        finite = np.isfinite(np.asarray(region, dtype=float)).all()
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise EditError(f"region is {region!r}; a box has four numbers.")
    left, top, right, bottom = _round_box(region)
    if not (left < right and top < bottom):
        raise EditError(f"region is {region!r}; a box is (left, top, right, bottom), in pixels.")
    return True


def box_map(box: Any, size: tuple[int, int]) -> Map:
    """Return a map of a size (width, height) that is 1 inside a box, in pixels, and 0 outside.

    Raises:
        EditError: If the box is outside the image.
    """
    left, top, right, bottom = _round_box(box)
    width, height = size
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise EditError(f"region is {box!r}, outside an image of {width} x {height} pixels.")
    inside = np.zeros((height, width), np.float32)
    inside[max(top, 0) : bottom, max(left, 0) : right] = 1
    return inside


def apply_threshold(attention: Map, threshold: float) -> Map:
    """Set a map to exactly 0 below a threshold; other values stay as they are."""
    return np.where(attention < np.float32(threshold), np.float32(0), attention)


def feather_edges(attention: Map, pixels: float) -> Map:
    """Blur the edges of a map over a distance in pixels; farther away it stays exactly 0."""
    if pixels < 1:
        return attention
    # The blur is separable, so it reaches farthest along the diagonal.
    radius = int(pixels / 2**0.5)
    if radius == 0:
        near = ndimage.convolve(attention, _NEIGHBOURS, mode="nearest")
        return np.asarray(np.clip(near, 0, 1), dtype=np.float32)
    blurred = ndimage.gaussian_filter(attention, radius / _TRUNCATE, radius=radius, mode="nearest")
    # Rounding may exceed 1 slightly.
    return np.asarray(np.clip(blurred, 0, 1), dtype=np.float32)


def _round_box(box: Any) -> list[int]:
    return [round(float(edge)) for edge in np.asarray(box)]
