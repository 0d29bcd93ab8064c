"""Evaluates a model on images of both domains, under one protocol, in one pass over each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.datasets import MIN_IMAGES, EvalDataset, EvalImage
from agit_hub.evaluation.features import FeatureExtractor
from agit_hub.evaluation.image_metrics import Curve, Mask, image_metrics, iou_curve
from agit_hub.evaluation.kid_fid import Kid, average, fid, kid, reference_kid, target_similarity
from agit_hub.evaluation.protocols import Protocol
from agit_hub.evaluation.regions import BY_MASK, WHOLE, Region, paint_over
from agit_hub.evaluation.results import MetricResult
from agit_hub.evaluation.summary import OWN, ImageResult, Summary
from agit_hub.evaluation.thumbnails import ThumbnailFile
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.prediction import Prediction, Rendering
from agit_hub.models.equations import composite
from agit_hub.visualization import heat_map

Classifier = Callable[[Sequence[Image.Image], Sequence[Mask | None], str], Sequence[float]]
"""(RGB images, their masks, a label) -> the probability in [0, 1] that each shows the label."""
Progress = Callable[[int, int], None]
"""Called with (done, total) after each image."""
FeaturesByRegion = dict[str, Tensor]

_CHUNK = 16
_THUMBNAIL = (128, 128)


@dataclass(frozen=True)
class Evaluation:
    """A model's results."""

    protocol: str
    measurements: list[MetricResult]
    images: list[ImageResult]
    unreadable: list[str]
    """Images that were skipped because they could not be read."""
    notes: list[str]
    """What a reader of the values has to know about the images."""


@dataclass
class _Direction:
    """One direction's translations."""

    images: list[ImageResult] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    features: FeaturesByRegion = field(default_factory=dict)


class Evaluator:
    """Evaluates models on the same images, whose own features are computed once.

    Args:
        source: Images of the source domain.
        target: Images of the target domain.
        protocol: How KID and FID are measured.
        device: Where features are computed.
        threshold: tau of the translations; None takes the model's own.
        classifier: Scores how likely an image shows a label; its attribute `description`, if any, is
            added to the result's protocol.
        with_fid: Whether to measure FID too, which is slow.
        with_regions: Whether to measure KID on objects and on backgrounds alone too, if both domains
            have masks; this needs features of three times as many images.

    Raises:
        EvaluationError: If the protocol's features are unavailable.
    """

    def __init__(
        self,
        source: EvalDataset,
        target: EvalDataset,
        protocol: Protocol,
        *,
        device: torch.device | str = "cpu",
        threshold: float | None = None,
        classifier: Classifier | None = None,
        with_fid: bool = True,
        with_regions: bool = True,
    ) -> None:
        self._datasets = (source, target)
        self._protocol = protocol
        self._extract = FeatureExtractor(protocol, torch.device(device))
        self._threshold = threshold
        self._classifier = classifier
        self._with_fid = with_fid
        by_mask = with_regions and source.masks is not None and target.masks is not None
        self._regions: tuple[Region, ...] = (WHOLE, *BY_MASK) if by_mask else (WHOLE,)
        self._thumbnails = ThumbnailFile(_THUMBNAIL)
        self._real: dict[str, FeaturesByRegion] = {}
        """Features of the real images, by label."""
        self._bounds: dict[tuple[str, str], dict[str, float | None]] = {}
        """Reference and baseline by source label and metric, which do not depend on the model."""

    def __call__(self, pipeline: AGITPipeline, progress: Progress | None = None) -> Evaluation:
        """Evaluate a model, whose labels must be those of the datasets, in both directions."""
        total, done = sum(map(len, self._datasets)), 0

        def step() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        pairs = (self._datasets, self._datasets[::-1])
        directions = [self._translate(pipeline, own, other.label, step) for own, other in pairs]
        measurements = [
            result
            for direction, (own, other) in zip(directions, pairs, strict=True)
            for result in self._summarize(pipeline, direction, own, other)
        ]
        return Evaluation(
            str(self._protocol),
            measurements,
            [image for direction in directions for image in direction.images],
            [name for dataset in self._datasets for name in dataset.unreadable],
            [
                f"{dataset.empty_masks} of {len(dataset)} {dataset.label} masks show no object."
                for dataset in self._datasets
                if dataset.empty_masks
            ],
        )

    def _translate(
        self, pipeline: AGITPipeline, own: EvalDataset, to: str, step: Callable[[], None]
    ) -> _Direction:
        direction = _Direction()
        fake: dict[str, list[Tensor]] = {}
        real: dict[str, list[Tensor]] = {}
        tau = self._tau(pipeline)
        remaining = iter(own)
        while chunk := list(islice(remaining, _CHUNK)):
            masks = [item.mask for item in chunk]
            predictions = [_predict(pipeline, item, to) for item in chunk]
            renderings = [each.render(AttentionEdits(threshold=tau)) for each in predictions]
            translations = [rendering.image for rendering in renderings]
            self._add_features(fake, translations, masks)
            if own.label not in self._real:
                self._add_features(real, [item.image for item in chunk], masks)
            scores = self._classify(chunk, translations, to)
            for n, (item, prediction, rendering) in enumerate(
                zip(chunk, predictions, renderings, strict=True)
            ):
                raw = prediction.raw_attention
                pixels = np.asarray(item.image), np.asarray(rendering.image)
                metrics = image_metrics(*pixels, raw, item.mask, tau)
                metrics["cycle_error"] = _cycle_error(pipeline, prediction, own.label)
                metrics |= {name: float(values[n]) for name, values in scores.items()}
                if item.mask is not None:
                    direction.curves.append(iou_curve(raw, item.mask))
                thumbnails = self._thumbnails.add(_shown(item, rendering))
                direction.images.append(
                    ImageResult(item.name, f"{own.label} to {to}", metrics, thumbnails)
                )
                step()
        if len(direction.images) < MIN_IMAGES:
            raise EvaluationError(
                f"Only {len(direction.images)} of {len(own)} {own.label} images can be read: "
                f"{MIN_IMAGES} or more are required."
            )
        direction.features = {region: torch.cat(found) for region, found in fake.items()}
        if real:
            self._real[own.label] = {region: torch.cat(found) for region, found in real.items()}
        return direction

    def _tau(self, pipeline: AGITPipeline) -> float:
        return pipeline.threshold if self._threshold is None else self._threshold

    def _add_features(
        self,
        features: dict[str, list[Tensor]],
        images: Sequence[Image.Image],
        masks: Sequence[Mask | None],
    ) -> None:
        for region in self._regions:
            found = self._extract(paint_over(region, images, masks))
            features.setdefault(region.metric, []).append(found)

    def _classify(
        self, chunk: Sequence[EvalImage], translations: Sequence[Image.Image], to: str
    ) -> dict[str, Sequence[float]]:
        if self._classifier is None:
            return {}
        masks = [item.mask for item in chunk]
        return {
            "target_accuracy": self._classifier(translations, masks, to),
            "input_target_accuracy": self._classifier([item.image for item in chunk], masks, to),
        }

    def _summarize(
        self, pipeline: AGITPipeline, direction: _Direction, own: EvalDataset, other: EvalDataset
    ) -> list[MetricResult]:
        features, real = direction.features, self._real[other.label]
        similarity = target_similarity(real[WHOLE.metric], features[WHOLE.metric]).tolist()
        for image, value in zip(direction.images, similarity, strict=True):
            image.metrics["target_similarity"] = value
        summary = Summary(own, f"{own.label} to {other.label}", direction.images)
        tau = self._tau(pipeline)
        shown = f"{tau:g}{OWN if self._threshold is None else ''}"
        cut = f"attention below {shown} cut to 0"
        whole, *parts = [
            self._kid(region, summary, features[region.metric], own.label, other.label, cut)
            for region in self._regions
        ]
        results = [whole]
        if self._with_fid:
            results.append(self._fid(summary, features[WHOLE.metric], own.label, other.label, cut))
        results += parts
        if pipeline.model.config.attention != "ones":
            results += summary.attention(direction.curves, shown)
        classifier = getattr(self._classifier, "description", "a custom classifier")
        return [
            *results,
            *summary.preservation(cut),
            *summary.target_accuracy(f"{cut}; {classifier}"),
        ]

    def _kid(
        self, region: Region, summary: Summary, fakes: Tensor, own: str, other: str, cut: str
    ) -> MetricResult:
        protocol, metric = self._protocol, region.metric
        inputs, real = self._real[own][metric], self._real[other][metric]
        if (own, metric) not in self._bounds:
            self._bounds[own, metric] = {
                "reference": reference_kid(real, protocol).mean,
                "baseline": self._distance(inputs, inputs, real).mean,
            }
        found = self._distance(fakes, inputs, real)
        masks = [dataset.masks for dataset in self._datasets]
        painted = f"{region.protocol} ({'; '.join(map(str, masks))}); " if region.protocol else ""
        how = (
            f"{cut}; {protocol}; {painted}{found.subsets} subsets of {found.subset_size}; reference: "
            "real against real; baseline: the inputs (identity); standard error by bootstrap over images"
        )
        return summary.single(
            metric, region.title, found.mean, how, **self._bounds[own, metric],
            std=found.std, standard_error=found.standard_error,
        )  # fmt: skip

    def _distance(self, fakes: Tensor, inputs: Tensor, real: Tensor) -> Kid:
        to_target = kid(real, fakes, self._protocol)
        if self._protocol.compared_with == "target":
            return to_target
        return average(to_target, kid(inputs, fakes, self._protocol))

    def _fid(self, summary: Summary, fakes: Tensor, own: str, other: str, cut: str) -> MetricResult:
        inputs, real = self._real[own][WHOLE.metric], self._real[other][WHOLE.metric]
        if (own, "fid") not in self._bounds:
            self._bounds[own, "fid"] = {"baseline": fid(real, inputs)}
        how = f"{cut}; {self._protocol}, against the target alone; biased upwards for few images"
        value = fid(real, fakes)
        return summary.single(
            "fid", "FID (lower is better)", value, how, **self._bounds[own, "fid"]
        )


def _predict(pipeline: AGITPipeline, item: EvalImage, to: str) -> Prediction:
    try:
        return pipeline.predict(item.image, to)
    except ValueError as error:
        raise EvaluationError(f"{item.name}: {error}") from error


@torch.inference_mode()
def _cycle_error(pipeline: AGITPipeline, prediction: Prediction, back_to: str) -> float:
    s = prediction.network_input
    s_prime = composite(s, s + prediction.change, prediction.attention)
    s_cycle = pipeline.model(s_prime.to(pipeline.device), back_to).image.cpu()
    return float((s - s_cycle).abs().mean() / 2)


def _shown(item: EvalImage, rendering: Rendering) -> list[Image.Image]:
    images = [item.image, heat_map(rendering.attention), rendering.image]
    if item.mask is not None:
        images.append(Image.fromarray(item.mask).convert("RGB"))
    return images
