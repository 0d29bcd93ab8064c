"""What a person may change about attention: pure functions from the network's map to the final one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from agit_hub.data.images import DEEP_MODES
from agit_hub.errors import EditError
from agit_hub.inference.image_processor import Map

Mask = npt.ArrayLike | Image.Image
Point = tuple[float, float]
Box = tuple[float, float, float, float]

# A wider blur would take minutes on a large picture.
MAX_FEATHER = 500
# Pixels that touch at a corner belong to one object.
_TOUCHING = np.ones((3, 3), dtype=bool)
# A feather's Gaussian is cut at two sigma.
_CUT = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionEdits:
    """How the network's map becomes the final one; the steps are taken in this order.

    A mask is a map (H, W) in [0, 1], booleans, or a greyscale picture, scaled to the picture's size.
    Places are pixels of the upright picture: x to the right, y downwards.

    Raises:
        EditError: If a value is out of range, or a mask is not one.
    """

    attention: Mask | None = None
    """A map of one's own in place of the network's."""
    invert: bool = False
    """Attend to what the map leaves out: 1 - map."""
    threshold: float | None = None
    """tau in [0, 1]: attention below it becomes exactly 0. None takes the model's own, 0 keeps all."""
    points: Sequence[Point] = ()
    """Keep only the objects at these places: connected parts of what is attended to."""
    every_point: bool = True
    """Whether a point where no attention is paid is an error; else it keeps nothing."""
    region: Mask | Box | None = None
    """Limit attention to a mask, or to a box (left, top, right, bottom)."""
    paint: Mask | None = None
    """Attend here as well, at least as much as the mask says."""
    erase: Mask | None = None
    """Attend less here: not at all where the mask is 1."""
    feather: float = 0.0
    """Pixels over which the map's edge fades: nothing further than that from the map changes."""
    strength: float = 1.0
    """Factor in [0, 1] on the whole map."""

    def __post_init__(self) -> None:
        if self.threshold is not None:
            _check_number("threshold", self.threshold, 1, "between 0 and 1")
        _check_number("strength", self.strength, 1, "between 0 and 1")
        _check_number("feather", self.feather, MAX_FEATHER, f"0 to {MAX_FEATHER} pixels")
        for point in self.points:
            if np.shape(point) != (2,):
                raise EditError(f"points holds {point!r}; a point is (x, y), in pixels.")
        # Once here instead of once for every picture.
        for name in ("attention", "region", "paint", "erase"):
            mask = getattr(self, name)
            if name == "region" and _is_box(mask):
                try:
                    finite = np.isfinite(np.asarray(mask, dtype=float)).all()
                except (TypeError, ValueError):
                    finite = False
                if not finite:
                    raise EditError(f"region is {mask!r}; a box has four numbers.")
            elif mask is not None:
                object.__setattr__(self, name, as_map(mask, name))


def steer(network: Map, edits: AttentionEdits, threshold: float) -> Map:
    """Make the final map of compositing.

    Args:
        network: The network's map at the picture's size, (H, W) in [0, 1].
        edits: What is wanted.
        threshold: The model's own tau, in [0, 1].

    Returns:
        (H, W) in [0, 1]; exactly 0 where the picture is to stay.

    Raises:
        EditError: If no attention is paid at one of the points.
    """
    size = network.shape[1], network.shape[0]
    own = edits.attention
    attention = network if own is None else fit_map(as_map(own, "attention"), size)
    if edits.invert:
        attention = 1 - attention
    attention = above(attention, threshold if edits.threshold is None else edits.threshold)
    if len(edits.points):
        attention = objects_at(attention, edits.points, edits.every_point)
    if edits.region is not None:
        attention = attention * _region(edits.region, size)
    if edits.paint is not None:
        attention = np.maximum(attention, fit_map(as_map(edits.paint, "paint"), size))
    if edits.erase is not None:
        attention = attention * (1 - fit_map(as_map(edits.erase, "erase"), size))
    if edits.feather:
        attention = feathered(attention, edits.feather)
    return attention * np.float32(edits.strength) if edits.strength != 1 else attention


def above(attention: Map, threshold: float) -> Map:
    """Set a map (H, W) to exactly 0 below tau, in [0, 1]; what is above keeps its value."""
    return np.where(attention < np.float32(threshold), np.float32(0), attention)


def objects_at(attention: Map, points: Sequence[Point], every: bool = True) -> Map:
    """Keep the connected parts of a map (H, W) that hold the points (x, y), in pixels.

    Raises:
        EditError: If a point lies beyond the picture, or, where `every` one is to hold something,
            where no attention is paid.
    """
    height, width = attention.shape
    parts, _ = ndimage.label(attention > 0, _TOUCHING)
    chosen = []
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise EditError(f"({x:g}, {y:g}) is outside a picture of {width} x {height} pixels.")
        part = parts[int(y), int(x)]
        if every and not part:
            raise EditError(
                f"No attention is paid at ({x:g}, {y:g}): lower the threshold, or choose a place "
                "on the map."
            )
        chosen.append(part)
    # Part 0 is what holds no attention, and stays 0.
    return np.where(np.isin(parts, chosen), attention, np.float32(0))


def feathered(attention: Map, pixels: float) -> Map:
    """Let the edges of a map (H, W) fade over a distance; farther away it stays exactly 0."""
    # Rows and columns are blurred in turn, so it reaches farthest along the diagonal.
    radius = int(pixels / 2**0.5)
    if radius == 0:
        return attention
    blurred = ndimage.gaussian_filter(attention, radius / _CUT, radius=radius, mode="nearest")
    # Rounding may carry ones a little beyond 1.
    return np.asarray(np.clip(blurred, 0, 1), dtype=np.float32)


def as_map(mask: Mask, name: str) -> Map:
    """A mask as float32 (H, W) in [0, 1].

    Args:
        mask: An array, or a greyscale picture of any depth.
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
            f"{name} is no map: it takes an array (height, width) or a greyscale picture, not {mask!r}."
        ) from error
    if array.ndim != 2 or array.size == 0:
        raise EditError(f"{name} has shape {array.shape}; a map is (height, width).")
    if not (array.min() >= 0 and array.max() <= 1):
        raise EditError(
            f"{name} ranges from {array.min():g} to {array.max():g}; a map lies in [0, 1] "
            "(bytes are to be divided by 255)."
        )
    return array


def fit_map(mask: Map, size: tuple[int, int]) -> Map:
    """Scale a map to a size (width, height) in pixels."""
    if (mask.shape[1], mask.shape[0]) == size:
        return mask
    scaled = Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(scaled, dtype=np.float32), 0, 1)


def _check_number(name: str, value: object, high: float, wanted: str) -> None:
    # NaN is in no range.
    if not (isinstance(value, int | float | np.number) and 0 <= value <= high):
        raise EditError(f"{name} is {value!r}; it must be {wanted}.")


def _is_box(region: Mask | Box | None) -> bool:
    return region is not None and not isinstance(region, Image.Image) and np.shape(region) == (4,)


def _region(region: Mask | Box, size: tuple[int, int]) -> Map:
    if not _is_box(region):
        return fit_map(as_map(region, "region"), size)
    left, top, right, bottom = (round(float(edge)) for edge in np.asarray(region))
    width, height = size
    if (
        left < right
        and top < bottom
        and (right <= 0 or bottom <= 0 or left >= width or top >= height)
    ):
        raise EditError(f"region is {region!r}, outside a picture of {width} x {height} pixels.")
    if not (left < right and top < bottom):
        raise EditError(f"region is {region!r}; a box is (left, top, right, bottom), in pixels.")
    inside = np.zeros((size[1], size[0]), np.float32)
    inside[max(top, 0) : bottom, max(left, 0) : right] = 1
    return inside
