"""Summarizes per-image metrics into one direction's results, each with its protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np
from PIL import Image

from agit_hub.evaluation.datasets import EvalDataset
from agit_hub.evaluation.image_metrics import THRESHOLDS, Curve
from agit_hub.evaluation.results import MetricResult

OWN = " (the model's own)"
"""Follows a threshold in a protocol that the caller has not set."""


@dataclass(frozen=True)
class ImageResult:
    """The metrics of one image."""

    name: str
    direction: str
    metrics: dict[str, float]
    """By name, without those that cannot be measured on this image."""
    thumbnails: Sequence[Image.Image] = field(repr=False, compare=False)
    """Input, map and translation, and the mask if there is one."""


class Summary:
    """Builds the results of one direction from its images' metrics."""

    def __init__(self, dataset: EvalDataset, direction: str, images: Sequence[ImageResult]) -> None:
        self._dataset = dataset
        self._direction = direction
        self._images = images

    def values(self, metric: str) -> list[float]:
        """Return a metric's value for every image that has one."""
        return [image.metrics[metric] for image in self._images if metric in image.metrics]

    def single(
        self, metric: str, title: str, value: float, protocol: str, **more: float | None
    ) -> MetricResult:
        """Return a result with the given value; `more` sets its other fields."""
        data = self._dataset
        how = f"{len(self._images)} images, each once, whole, {data.size}; {protocol}"
        return MetricResult(
            metric, title, value, data.dataset, data.split, how, self._direction, **more
        )

    def mean(
        self, metric: str, title: str, protocol: str, baseline: str | None = None
    ) -> list[MetricResult]:
        """Return the mean over images, with the mean of the metric `baseline`; empty without values."""
        values = self.values(metric)
        if not values:
            return []
        std = stdev(values) if len(values) > 1 else None
        more = {"std": std, "standard_error": None if std is None else std / len(values) ** 0.5}
        if baseline is not None:
            more["baseline"] = fmean(self.values(baseline))
        return [self.single(metric, title, fmean(values), f"mean over images; {protocol}", **more)]

    def attention(self, curves: Sequence[Curve], tau: str) -> list[MetricResult]:
        """Summarize how well maps match the objects, and how much they cover.

        `curves` are `iou_curve` of each image with a mask, `tau` is the threshold of the translations.
        """
        how = "the network's map at the image's own size"
        masks = f"; {self._dataset.masks}"
        area = self.mean("attention_area", "Share of pixels at or above tau", f"{how}, tau {tau}")
        if not curves:
            return area
        curve = np.stack(curves).mean(axis=0)
        best = int(curve.argmax())
        box = fmean(self.values("iou_of_box"))
        ones = f"baseline: a map of ones (a box in the middle reaches {box:.3f}){masks}"
        share = f"baseline: the objects' share{masks}"
        return [
            *self.mean("attention_iou", "Attention IoU at 0.5 (higher is better)",
                       f"{how}, above 0.5; {ones}", "iou_of_ones"),
            self.single("attention_iou_best", "Attention IoU at the best threshold (higher is better)",
                        float(curve[best]),
                        f"mean over images; {how}, above the best single threshold on these very "
                        f"images; {ones}",
                        baseline=fmean(self.values("iou_of_ones"))),
            self.single("attention_best_threshold", "Best threshold of attention",
                        float(THRESHOLDS[best]), f"mean over images; {how}{masks}"),
            *self.mean("attention_average_precision", "Attention average precision (higher is better)",
                       f"{how}, each pixel's value as its score; {share}", "object_share"),
            *self.mean("attention_pointing", "Maps that peak on an object (higher is better)",
                       f"{how}; {share}", "object_share"),
            *area,
        ]  # fmt: skip

    def preservation(self, cut: str) -> list[MetricResult]:
        """Summarize the change of the background and the cycle error; `cut` is part of the protocol."""
        outside = f"{cut}; outside the mask ({self._dataset.masks})"
        return [
            *self.mean("background_change", "Change outside the object (lower is better)",
                       f"{outside}, mean absolute change as a share of the full range"),
            *self.mean("background_psnr", "PSNR outside the object, dB (higher is better)",
                       f"{outside}; 100 where nothing changed"),
            *self.mean("background_ssim", "SSIM outside the object (higher is better)", outside),
            *self.mean("identical", "Share of pixels bit-identical to the input", cut),
            *self.mean("cycle_error", "Cycle error (lower is better)",
                       "mean |s - s''| at the networks' size, as a share of the full range"),
        ]  # fmt: skip

    def target_accuracy(self, how: str) -> list[MetricResult]:
        """Summarize the classifier's scores; empty if there was no classifier."""
        return self.mean(
            "target_accuracy",
            "Classified as the target (higher is better)",
            f"{how}; baseline: the inputs (identity)",
            "input_target_accuracy",
        )
