"""From a point to an object: the connected part of a map around it, as a click on the page asks for."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from agit_hub.errors import EditError
from agit_hub.inference.attention_maps import Map

# Pixels that touch at a corner belong to one object.
_CONNECTIVITY = np.ones((3, 3), dtype=bool)


def select_objects(
    attention: Map, points: Sequence[tuple[float, float]], strict: bool = True
) -> Map:
    """Keep the connected parts of a map that contain the points (x, y), in pixels.

    Raises:
        EditError: If a point is outside the image or, if `strict`, has no attention.
    """
    height, width = attention.shape
    labels, _ = ndimage.label(attention > 0, _CONNECTIVITY)
    selected = []
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise EditError(f"({x:g}, {y:g}) is outside an image of {width} x {height} pixels.")
        label = labels[int(y), int(x)]
        if strict and not label:
            raise EditError(
                f"No attention at ({x:g}, {y:g}): lower the threshold, or choose a point on the map."
            )
        selected.append(label)
    # Label 0 is what has no attention, and stays 0.
    return np.where(np.isin(labels, selected), attention, np.float32(0))
