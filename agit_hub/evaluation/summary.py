"""From what was measured of each picture to the figures of a direction, each with its protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np
from PIL import Image

from agit_hub.evaluation.datasets import EvalDataset
from agit_hub.evaluation.image_metrics import THRESHOLDS, Curve
from agit_hub.evaluation.results import MetricResult


@dataclass(frozen=True)
class PictureResult:
    """What was measured of one picture."""

    name: str
    direction: str
    figures: dict[str, float]
    """By metric; what cannot be measured of this picture is absent."""
    shown: tuple[Image.Image, ...] = field(repr=False, compare=False)
    """Input, map and translation, and the mask if there is one; small."""


class Writer:
    """Fills in what all figures of a direction have in common."""

    def __init__(self, own: EvalDataset, direction: str, count: int) -> None:
        self._own = own
        self._direction = direction
        self._count = count

    def one(
        self, metric: str, title: str, value: float, protocol: str, **more: float | None
    ) -> MetricResult:
        """A figure, with floor, ceiling, std or standard_error as given."""
        how = f"{self._count} pictures, each once, whole, {self._own.size}; {protocol}"
        return MetricResult(
            metric, title, value, self._own.dataset, self._own.split, how, self._direction, **more
        )

    def mean(
        self, metric: str, title: str, values: Sequence[float], protocol: str, **more: float | None
    ) -> list[MetricResult]:
        """The mean over pictures; nothing if it could be measured of none."""
        if not values:
            return []
        spread = stdev(values) if len(values) > 1 else None
        error = None if spread is None else spread / len(values) ** 0.5
        how = f"mean over pictures; {protocol}"
        return [
            self.one(metric, title, fmean(values), how, std=spread, standard_error=error, **more)
        ]


def attention_figures(
    writer: Writer, results: Sequence[PictureResult], curves: Sequence[Curve], tau: float
) -> list[MetricResult]:
    """How well maps find objects, beside maps that need no looking; and how much they cover."""
    of = _columns(results)
    plain = "the network's map at the picture's own size"
    found = writer.mean(
        "attention_area",
        "Share of pixels at or above tau",
        of("attention_area"),
        f"{plain}, tau {tau:g}",
    )
    if not curves:
        return found
    curve = np.stack(curves).mean(axis=0)
    best = int(curve.argmax())
    ones = fmean(of("iou_of_ones"))
    box = fmean(of("iou_of_box"))
    beside = f"doing nothing: a map of ones (a box in the middle reaches {box:.3f})"
    return [
        *writer.mean("attention_iou", "Attention IoU at 0.5 (higher is better)", of("attention_iou"),
                     f"{plain}, above 0.5; {beside}", ceiling=ones),
        writer.one("attention_iou_best", "Attention IoU at the best threshold (higher is better)",
                   float(curve[best]),
                   f"mean over pictures; {plain}, above {THRESHOLDS[best]:.2f}: the best "
                   f"single threshold on these very pictures; {beside}", ceiling=ones),
        *writer.mean("attention_average_precision", "Attention average precision (higher is better)",
                     of("attention_average_precision"),
                     f"{plain}, each pixel's value as its score; doing nothing: the objects' share",
                     ceiling=fmean(of("object_share"))),
        *writer.mean("attention_pointing", "Maps that peak on an object (higher is better)",
                     of("attention_pointing"), f"{plain}; doing nothing: the objects' share",
                     ceiling=fmean(of("object_share"))),
        *found,
    ]  # fmt: skip


def preservation_figures(
    writer: Writer, results: Sequence[PictureResult], cut: str
) -> list[MetricResult]:
    """What became of the background, and of the way back."""
    of = _columns(results)
    outside = f"{cut}; outside the true mask"
    return [
        *writer.mean("background_change", "Change outside the object (lower is better)",
                     of("background_change"),
                     f"{outside}, mean absolute change as a share of the full range"),
        *writer.mean("background_psnr", "PSNR outside the object, dB (higher is better)",
                     of("background_psnr"), f"{outside}; 100 where nothing changed"),
        *writer.mean("background_ssim", "SSIM outside the object (higher is better)",
                     of("background_ssim"), outside),
        *writer.mean("identical", "Share of pixels bit-identical to the input", of("identical"), cut),
        *writer.mean("cycle_error", "Cycle error (lower is better)", of("cycle_error"),
                     "mean |s - s''| at the networks' size, as a share of the full range"),
    ]  # fmt: skip


def classifier_figures(
    writer: Writer, results: Sequence[PictureResult], how: str
) -> list[MetricResult]:
    """What a classifier takes translations for; nothing if none was asked."""
    of = _columns(results)
    taken = of("taken_for_target")
    if not taken:
        return []
    return writer.mean(
        "taken_for_target",
        "Taken for the target's by a classifier (higher is better)",
        taken,
        f"{how}; doing nothing: on the inputs",
        ceiling=fmean(of("untouched_taken_for_target")),
    )


def _columns(results: Sequence[PictureResult]) -> Callable[[str], list[float]]:
    """Every picture's value of a metric, of those that have one."""
    return lambda metric: [r.figures[metric] for r in results if metric in r.figures]
