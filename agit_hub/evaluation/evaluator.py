"""Measures a model on pictures of both domains, under one protocol, in one pass over each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agit_hub.errors import EvaluationError
from agit_hub.evaluation import image_metrics
from agit_hub.evaluation.datasets import FEWEST, EvalDataset, EvalImage
from agit_hub.evaluation.features import FeatureExtractor
from agit_hub.evaluation.image_metrics import Mask
from agit_hub.evaluation.kid_fid import Kid, average, fid, kid, kid_floor, target_similarity
from agit_hub.evaluation.protocols import Protocol
from agit_hub.evaluation.regions import WHOLE, Region, paint_over, regions_of
from agit_hub.evaluation.results import MetricResult
from agit_hub.evaluation.summary import (
    PictureResult,
    Writer,
    attention_figures,
    classifier_figures,
    preservation_figures,
)
from agit_hub.inference.attention_maps import Map
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.prediction import Prediction, Rendering
from agit_hub.models.equations import composite
from agit_hub.visualization import heat_map

Classifier = Callable[[Sequence[Image.Image], Sequence[Mask | None], str], Sequence[float]]
"""(RGB pictures, their masks, a label) -> for each in [0, 1] how surely it shows the label."""
Progress = Callable[[int, int, str], None]
"""Told (done, of how many, what) after each picture."""

_CHUNK = 16
_THUMBNAIL = 128


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured of a model."""

    protocol: str
    measurements: list[MetricResult]
    pictures: list[PictureResult]
    unreadable: list[str]
    """Pictures that were left out."""


class _Direction:
    """One direction's pictures as they are gathered."""

    def __init__(self) -> None:
        self.results: list[PictureResult] = []
        self.curves: list[image_metrics.Curve] = []
        self.features: dict[str, list[Tensor]] = {}
        """By region, in chunks."""


class Evaluator:
    """Measures models on the same pictures, whose own features are computed once.

    Args:
        source: Pictures of the source domain.
        target: Of the target domain.
        protocol: How KID and FID are measured.
        device: Where features are computed.
        threshold: tau of the translations; None takes the model's own.
        classifier: Says how surely a picture shows a label; its `description`, if it has one, stands in
            the figure's protocol.
        with_fid: Whether FID is measured too, which takes its time.
        with_regions: Whether KID is measured of objects and of backgrounds alone too, where both domains
            have masks; it takes features of three times as many images.

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
        self._sets = (source, target)
        self._protocol = protocol
        self._extract = FeatureExtractor(protocol, torch.device(device))
        self._threshold = threshold
        self._classifier = classifier
        self._with_fid = with_fid
        self._regions = regions_of(with_regions and source.masked and target.masked)
        self._real: dict[str, dict[str, Tensor]] = {}
        """Of each label's own images, by region."""
        self._yardsticks: dict[tuple[str, str], dict[str, float | None]] = {}

    def __call__(self, pipeline: AGITPipeline, progress: Progress | None = None) -> Evaluation:
        """Measure a model in both directions.

        Args:
            pipeline: The model. Its labels are those of the pictures.
            progress: Told after each picture.
        """
        total = sum(map(len, self._sets))
        done = 0

        def step(name: str) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total, name)

        found = [
            self._translate(pipeline, own, other.label, step)
            for own, other in (self._sets, self._sets[::-1])
        ]
        measurements = [
            measurement
            for direction, own, other in zip(found, self._sets, self._sets[::-1], strict=True)
            for measurement in self._summary(pipeline, direction, own, other)
        ]
        return Evaluation(
            str(self._protocol),
            measurements,
            [result for direction in found for result in direction.results],
            [name for own in self._sets for name in own.unreadable],
        )

    def _translate(
        self, pipeline: AGITPipeline, own: EvalDataset, to: str, step: Callable[[str], None]
    ) -> _Direction:
        direction = _Direction()
        real: dict[str, list[Tensor]] = {}
        tau = self._tau(pipeline)
        edits = AttentionEdits(threshold=tau)
        for chunk in _chunks(own):
            predictions = [_proposal(pipeline, specimen, to) for specimen in chunk]
            renderings = [proposal.render(edits) for proposal in predictions]
            translations = [rendering.image for rendering in renderings]
            masks = [specimen.mask for specimen in chunk]
            self._add_features(direction.features, translations, masks)
            if own.label not in self._real:
                self._add_features(real, [specimen.picture for specimen in chunk], masks)
            scores = self._scores(chunk, translations, to)
            for n, (specimen, proposal, rendering) in enumerate(
                zip(chunk, predictions, renderings, strict=True)
            ):
                figures = _figures(specimen, proposal, rendering, tau)
                figures["cycle_error"] = _cycle_error(pipeline, proposal, own.label)
                figures |= {name: float(values[n]) for name, values in scores.items()}
                if specimen.mask is not None:
                    curve = image_metrics.iou_curve(proposal.raw_attention, specimen.mask)
                    direction.curves.append(curve)
                shown = _thumbnails(specimen, rendering)
                direction.results.append(
                    PictureResult(specimen.name, f"{own.label} to {to}", figures, shown)
                )
                step(specimen.name)
        if len(direction.results) < FEWEST:
            raise EvaluationError(
                f"Only {len(direction.results)} of {len(own)} {own.label} pictures can be read: {FEWEST} "
                "or more are needed."
            )
        if real:
            self._real[own.label] = {region: torch.cat(found) for region, found in real.items()}
        return direction

    def _add_features(
        self,
        to: dict[str, list[Tensor]],
        images: Sequence[Image.Image],
        masks: Sequence[Mask | None],
    ) -> None:
        for region in self._regions:
            found = self._extract(paint_over(region, images, masks))
            to.setdefault(region.metric, []).append(found)

    def _tau(self, pipeline: AGITPipeline) -> float:
        return pipeline.threshold if self._threshold is None else self._threshold

    def _scores(
        self, chunk: Sequence[EvalImage], translations: Sequence[Image.Image], to: str
    ) -> dict[str, Sequence[float]]:
        if self._classifier is None:
            return {}
        masks = [specimen.mask for specimen in chunk]
        untouched = [specimen.picture for specimen in chunk]
        return {
            "taken_for_target": self._classifier(translations, masks, to),
            "untouched_taken_for_target": self._classifier(untouched, masks, to),
        }

    def _summary(
        self, pipeline: AGITPipeline, direction: _Direction, own: EvalDataset, other: EvalDataset
    ) -> list[MetricResult]:
        fakes = {region: torch.cat(found) for region, found in direction.features.items()}
        near = target_similarity(
            self._real[other.label][WHOLE.metric], fakes[WHOLE.metric]
        ).tolist()
        for result, value in zip(direction.results, near, strict=True):
            result.figures["target_similarity"] = value
        writer = Writer(own, f"{own.label} to {other.label}", len(direction.results))
        found = self._distances(writer, fakes, own, other)
        tau = self._tau(pipeline)
        cut = f"attention below {tau:g} cut to 0"
        if pipeline.model.config.attention != "ones":
            found += attention_figures(writer, direction.results, direction.curves, tau)
        return (
            found
            + preservation_figures(writer, direction.results, cut)
            + self._taken(writer, direction, cut)
        )

    def _taken(self, writer: Writer, direction: _Direction, cut: str) -> list[MetricResult]:
        judge = getattr(self._classifier, "description", "a classifier of one's own")
        return classifier_figures(writer, direction.results, f"{cut}; {judge}")

    def _distances(
        self, writer: Writer, fakes: dict[str, Tensor], own: EvalDataset, other: EvalDataset
    ) -> list[MetricResult]:
        whole, *parts = [
            self._kid_of(region, writer, fakes[region.metric], own, other)
            for region in self._regions
        ]
        fids = [self._fid(writer, fakes[WHOLE.metric], own, other)] if self._with_fid else []
        return [whole, *fids, *parts]

    def _kid_of(
        self, region: Region, writer: Writer, fakes: Tensor, own: EvalDataset, other: EvalDataset
    ) -> MetricResult:
        protocol = self._protocol
        inputs, real = (self._real[side.label][region.metric] for side in (own, other))
        key = own.label, region.metric
        if key not in self._yardsticks:
            self._yardsticks[key] = {
                "floor": kid_floor(real, protocol).mean,
                "ceiling": self._kid(inputs, inputs, real).mean,
            }
        found = self._kid(fakes, inputs, real)
        painted = f"{region.protocol}; " if region.protocol else ""
        how = (
            f"{protocol}; {painted}{found.subsets} subsets of {found.subset_size}; floor: real against "
            "real; doing nothing: the inputs; standard error by bootstrap over pictures"
        )
        return writer.one(
            region.metric, region.title, found.mean, how, **self._yardsticks[key],
            std=found.std, standard_error=found.standard_error,
        )  # fmt: skip

    def _fid(
        self, writer: Writer, fakes: Tensor, own: EvalDataset, other: EvalDataset
    ) -> MetricResult:
        inputs, real = (self._real[side.label][WHOLE.metric] for side in (own, other))
        key = own.label, "fid"
        if key not in self._yardsticks:
            self._yardsticks[key] = {"ceiling": fid(real, inputs)}
        how = f"{self._protocol}, against the target alone; biased upwards for few pictures"
        value = fid(real, fakes)
        return writer.one("fid", "FID (lower is better)", value, how, **self._yardsticks[key])

    def _kid(self, fakes: Tensor, inputs: Tensor, real: Tensor) -> Kid:
        against_target = kid(real, fakes, self._protocol)
        if self._protocol.reference == "target":
            return against_target
        return average(against_target, kid(inputs, fakes, self._protocol))


def _proposal(pipeline: AGITPipeline, specimen: EvalImage, to: str) -> Prediction:
    try:
        return pipeline.predict(specimen.picture, to)
    except ValueError as error:
        raise EvaluationError(f"{specimen.name}: {error}") from error


def _figures(
    specimen: EvalImage, proposal: Prediction, rendering: Rendering, tau: float
) -> dict[str, float]:
    """What can be measured of one picture and its translation by themselves."""
    raw = proposal.raw_attention
    before, after = np.asarray(specimen.picture), np.asarray(rendering.image)
    figures = {
        "attention_area": float((raw >= tau).mean()),
        "identical": image_metrics.identical_share(before, after),
    }
    if specimen.mask is None:
        return figures
    figures |= _figures_of_mask(raw, specimen.mask)
    change = image_metrics.change_outside(before, after, specimen.mask)
    if change is not None:
        figures |= {
            "background_change": change.error,
            "background_psnr": change.psnr,
            "background_ssim": change.ssim,
        }
    return figures


def _figures_of_mask(raw: Map, mask: Mask) -> dict[str, float]:
    figures = {
        "attention_iou": image_metrics.iou(raw, mask),
        "iou_of_ones": image_metrics.iou(np.ones_like(raw), mask),
        "iou_of_box": image_metrics.iou(image_metrics.centre_box(*mask.shape), mask),
        "object_share": float(mask.mean()),
    }
    precision = image_metrics.average_precision(raw, mask)
    if precision is not None:
        figures["attention_average_precision"] = precision
        figures["attention_pointing"] = float(image_metrics.points_at_object(raw, mask))
    return figures


@torch.inference_mode()
def _cycle_error(pipeline: AGITPipeline, proposal: Prediction, back_to: str) -> float:
    s = proposal.network_input
    s_prime = composite(s, s + proposal.change, proposal.attention)
    s_cycle = pipeline.model(s_prime.to(pipeline.device), back_to).image.cpu()
    return float((s - s_cycle).abs().mean() / 2)


def _thumbnails(specimen: EvalImage, rendering: Rendering) -> tuple[Image.Image, ...]:
    shown = [specimen.picture, heat_map(rendering.attention), rendering.image]
    if specimen.mask is not None:
        shown.append(Image.fromarray(specimen.mask).convert("RGB"))
    size = (_THUMBNAIL, _THUMBNAIL)
    return tuple(picture.resize(size, Image.Resampling.BICUBIC) for picture in shown)


def _chunks(specimens: EvalDataset) -> Iterator[list[EvalImage]]:
    remaining = iter(specimens)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
