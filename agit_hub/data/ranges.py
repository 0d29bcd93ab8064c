"""Values of images of more than 8 bits: which are black and white, inferred from a sample."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from agit_hub.data.images import DEEP_MODES, Range

# Depths of sensors and files, in bits.
_BITS = (8, 10, 12, 14, 16)
# A range of floats that is common: of 0 to 1, of a hyperbolic tangent, of bytes.
_FLOATS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
# Shares of the range, and of the values, beyond which images are dark or clipped.
_DARK = 0.1
_CLIPPED = 0.01


class Values(NamedTuple):
    """The values of a sample of images."""

    mode: str
    low: float
    high: float
    bright: float
    """Below it lie 99 % of the values."""
    inside: Sequence[np.ndarray]
    """Some values of each image."""


def read_values(images: Sequence[Image.Image]) -> Values | None:
    """Return the values of images of one of `DEEP_MODES`; None if there is none."""
    arrays = [np.asarray(image, dtype=np.float64) for image in images if image.mode in DEEP_MODES]
    finite = [array[np.isfinite(array)] for array in arrays]
    finite = [array for array in finite if array.size]
    if not finite:
        return None
    low, high = min(a.min() for a in finite), max(a.max() for a in finite)
    thinned = [array[:: max(1, array.size // 4096)] for array in finite]
    bright = float(np.percentile(np.concatenate(thinned), 99))
    mode = next(image.mode for image in images if image.mode in DEEP_MODES)
    return Values(mode, float(low), float(high), bright, thinned)


def infer_range(values: Values) -> Range:
    """Return the values that are black and white: the smallest usual range that holds all values."""
    low, high = values.low, values.high
    if values.mode == "F":
        for usual in _FLOATS:
            if usual[0] <= low and high <= usual[1]:
                return usual
    if low >= 0:
        for bits in _BITS:
            if high <= 2**bits - 1:
                return 0, 2**bits - 1
    return (low if low < 0 else 0, high) if low != high else (low, low + 1)


def describe_range(values: Values, chosen: Range, inferred: bool) -> list[str]:
    """Return what is said about a range: which it is, and whether images are dark or clipped in it."""
    low, high = chosen
    how = (
        "inferred, data.value_range sets another"
        if inferred
        else "as data.value_range or the model says"
    )
    sentences = [
        f"values of images with more than 8 bits run from {values.low:g} to {values.high:g}: {low:g} "
        f"is taken as black and {high:g} as white ({how})"
    ]
    outside = [np.mean((array < low) | (array > high)) for array in values.inside]
    if (share := float(np.mean(outside))) > _CLIPPED:
        sentences.append(
            f"warning: {share:.0%} of these values are clipped to black or white: set data.value_range"
        )
    if (values.bright - low) / (high - low) < _DARK:
        sentences.append(
            f"warning: these images are nearly black, with 99 % of the values below {values.bright:g}: "
            "set data.value_range"
        )
    return sentences
