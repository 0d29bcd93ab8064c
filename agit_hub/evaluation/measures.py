"""Measures against true object masks, each for one picture."""

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def iou(attention: npt.NDArray[np.float32], mask: Mask, threshold: float = 0.5) -> float:
    """Intersection over union of (attention > threshold) with a true mask.

    Args:
        attention: A map (H, W) in [0, 1].
        mask: True on the objects, (H, W).
        threshold: In [0, 1].

    Returns:
        In [0, 1]; 1 if both are empty.
    """
    attended = attention > threshold
    union = np.count_nonzero(attended | mask)
    return np.count_nonzero(attended & mask) / union if union else 1.0


def background_change(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], mask: Mask
) -> float:
    """Mean absolute change outside the objects, as a share of the full range.

    Args:
        before: The input, (H, W, 3).
        after: Its translation, (H, W, 3).
        mask: True on the objects, (H, W); something must lie outside.

    Returns:
        In [0, 1].
    """
    difference = np.abs(before.astype(np.int16) - after.astype(np.int16))
    return float(difference[~mask].mean() / 255)
