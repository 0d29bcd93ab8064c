"""Measures of one picture: where attention lies, and what became of the background."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Curve = npt.NDArray[np.float64]

THRESHOLDS = np.linspace(0, 1, 101)[:-1]
"""At which maps are cut to find the best: 0.00, 0.01, ... 0.99."""
_PSNR_OF_NO_CHANGE = 100.0


def iou(attention: Map, mask: Mask, threshold: float = 0.5) -> float:
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


def iou_curve(attention: Map, mask: Mask) -> Curve:
    """`iou` at each of `THRESHOLDS`."""
    on, off = (np.sort(attention[where], axis=None) for where in (mask, ~mask))
    cuts = THRESHOLDS.astype(attention.dtype)
    hit, missed = (len(v) - np.searchsorted(v, cuts, side="right") for v in (on, off))
    union = len(on) + missed
    return np.where(union > 0, hit / np.maximum(union, 1), 1.0)


def average_precision(attention: Map, mask: Mask) -> float | None:
    """Area under precision over recall of the map as a score for each pixel; None with no object."""
    from torchmetrics.functional.classification import binary_average_precision

    if not mask.any():
        return None
    score = torch.from_numpy(np.ascontiguousarray(attention))
    return float(binary_average_precision(score, torch.from_numpy(mask).int()))


def points_at_object(attention: Map, mask: Mask) -> bool:
    """Whether the map's highest value lies on an object, wherever it is reached (the pointing game)."""
    return bool(mask[attention == attention.max()].mean() > 0.5)


def centre_box(height: int, width: int) -> Map:
    """The map of one who does not look: 1 in a box of half the height and half the width, 0 around it."""
    box = np.zeros((height, width), np.float32)
    box[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return box


@dataclass(frozen=True)
class Change:
    """How far a translation departs from its input in some region."""

    error: float
    """Mean absolute change, as a share of the full range."""
    psnr: float
    """Peak signal-to-noise ratio in dB; 100 where nothing changed."""
    ssim: float
    """Structural similarity, 1 where nothing changed."""


def change_outside(before: Pixels, after: Pixels, mask: Mask) -> Change | None:
    """How far the background was changed.

    Args:
        before: The input, (H, W, 3).
        after: Its translation, (H, W, 3).
        mask: True on the objects, (H, W).

    Returns:
        None if nothing lies outside.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    outside = ~mask
    if not outside.any():
        return None
    difference = (before.astype(np.float64) - after)[outside] / 255
    squared = float(np.square(difference).mean())
    # Its window reaches a few pixels into the object, as that of any SSIM over a region does.
    one, other = (
        torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
        for pixels in (after, before)
    )
    _, similar = structural_similarity_index_measure(
        one, other, data_range=255.0, return_full_image=True
    )
    return Change(
        float(np.abs(difference).mean()),
        -10 * float(np.log10(squared)) if squared else _PSNR_OF_NO_CHANGE,
        float(similar[0, :, torch.from_numpy(outside)].mean()),
    )


def identical_share(before: Pixels, after: Pixels) -> float:
    """The share of pixels whose every byte is the input's."""
    return float((before == after).all(axis=-1).mean())
