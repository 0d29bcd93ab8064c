"""Metrics of a single image: where its attention is, and how its background changed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Curve = npt.NDArray[np.float64]

THRESHOLDS = np.linspace(0, 1, 101)[:-1]
"""Thresholds of `iou_curve`: 0.00, 0.01, ... 0.99."""
_PSNR_OF_NO_CHANGE = 100.0


def iou(attention: Map, mask: Mask, threshold: float = 0.5) -> float:
    """Compute intersection over union of (attention > threshold) with a mask, both (H, W).

    It is 1 if both are empty.
    """
    attended = attention > threshold
    union = np.count_nonzero(attended | mask)
    return np.count_nonzero(attended & mask) / union if union else 1.0


def iou_curve(attention: Map, mask: Mask) -> Curve:
    """Compute `iou` at each of `THRESHOLDS`."""
    inside, outside = (np.sort(attention[where], axis=None) for where in (mask, ~mask))
    cuts = THRESHOLDS.astype(attention.dtype)
    hits, misses = (len(v) - np.searchsorted(v, cuts, side="right") for v in (inside, outside))
    union = len(inside) + misses
    return np.where(union > 0, hits / np.maximum(union, 1), 1.0)


def average_precision(attention: Map, mask: Mask) -> float | None:
    """Compute average precision with the map as each pixel's score; None without an object."""
    from torchmetrics.functional.classification import binary_average_precision

    if not mask.any():
        return None
    # Copies: cached arrays may be read-only.
    return float(binary_average_precision(torch.tensor(attention), torch.tensor(mask).int()))


def points_at_object(attention: Map, mask: Mask) -> bool:
    """Return whether most pixels that reach the map's maximum are on an object (the pointing game)."""
    return bool(mask[attention == attention.max()].mean() > 0.5)


def centre_box(height: int, width: int) -> Map:
    """Return a map that is 1 in a centred box of half the height and half the width, 0 around it."""
    box = np.zeros((height, width), np.float32)
    box[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return box


@dataclass(frozen=True)
class Change:
    """The difference between an input and its translation in some region."""

    error: float
    """Mean absolute change, as a share of the full range."""
    psnr: float
    """Peak signal-to-noise ratio in dB; 100 if nothing changed."""
    ssim: float
    """Structural similarity, 1 if nothing changed."""


def change_outside(before: Pixels, after: Pixels, mask: Mask) -> Change | None:
    """Measure how much the background of an input (H, W, 3) changed in its translation.

    Returns None if the mask (H, W) covers the whole image.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    outside = ~mask
    if not outside.any():
        return None
    difference = (before.astype(np.float64) - after)[outside] / 255
    squared = float(np.square(difference).mean())
    if not squared:
        return Change(0.0, _PSNR_OF_NO_CHANGE, 1.0)
    # SSIM's window reaches a few pixels into the object: there both images show the input's.
    after = np.where(outside[..., None], after, before)
    after_chw, before_chw = (
        torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
        for pixels in (after, before)
    )
    _, similarity = structural_similarity_index_measure(
        after_chw, before_chw, data_range=255.0, return_full_image=True
    )
    return Change(
        float(np.abs(difference).mean()),
        -10 * float(np.log10(squared)),
        float(similarity[0, :, torch.from_numpy(outside)].mean()),
    )


def identical_share(before: Pixels, after: Pixels) -> float:
    """Return the share of pixels that equal the input's in every byte."""
    return float((before == after).all(axis=-1).mean())


def image_metrics(
    before: Pixels, after: Pixels, attention: Map, mask: Mask | None, tau: float
) -> dict[str, float]:
    """Measure an input (H, W, 3) and its translation, as far as the mask (H, W) allows.

    `attention` is the network's map, `tau` the threshold that the translation used.
    """
    metrics = {
        "attention_area": float((attention >= tau).mean()),
        "identical": identical_share(before, after),
    }
    if mask is None:
        return metrics
    metrics |= {
        "attention_iou": iou(attention, mask),
        "iou_of_ones": iou(np.ones_like(attention), mask),
        "iou_of_box": iou(centre_box(*mask.shape), mask),
    }
    precision = average_precision(attention, mask)
    if precision is not None:
        metrics["attention_average_precision"] = precision
        metrics["attention_pointing"] = float(points_at_object(attention, mask))
        # The baseline of both, hence of the same images.
        metrics["object_share"] = float(mask.mean())
    change = change_outside(before, after, mask)
    if change is not None:
        metrics |= {
            "background_change": change.error,
            "background_psnr": change.psnr,
            "background_ssim": change.ssim,
        }
    return metrics
