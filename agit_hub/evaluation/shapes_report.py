"""How well a model does on `shapes`, where the true masks are known.

python -m agit_hub.evaluation.shapes_report runs/shapes/model
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image

from agit_hub.data import shapes
from agit_hub.evaluation.judge import ObjectJudge
from agit_hub.evaluation.measurements import Measurement, write_measurements
from agit_hub.evaluation.measures import Mask, background_change, iou
from agit_hub.image_processor import heat_map, labelled_grid
from agit_hub.pipeline import AGITPipeline, TranslationOutput

# Training draws at seed 0: at this one no scene has been seen.
EVALUATION_SEED = 1


@dataclass(frozen=True)
class DirectionReport:
    """Means over the pictures of one direction; everything at threshold 0, the network's own map."""

    source: str
    target: str
    iou: float
    """Of (map > 0.5) with the true mask."""
    iou_everything: float
    """The same of a map that is 1 everywhere: what needs no looking."""
    background_change: float
    """Outside the objects, as a share of the full range."""
    taken_for_target: float
    """Share of the translations whose objects the judge takes for the target's."""
    taken_for_target_untouched: float
    """The same of the inputs themselves: what doing nothing gives."""


@dataclass(frozen=True)
class ShapesReport:
    """Both directions, and how far the judge can be trusted."""

    pictures: int
    judge_accuracy: float
    directions: list[DirectionReport]

    def __str__(self) -> str:
        lines = [
            f"On {self.pictures} unseen pictures of each domain "
            f"(judge: {self.judge_accuracy:.1%} right on held-out drawings)",
            f"{'':20}{'IoU of map > 0.5':>24}{'background change':>20}{'taken for target':>24}",
        ]
        for d in self.directions:
            attended = f"{d.iou:.3f} (all ones {d.iou_everything:.3f})"
            taken = f"{d.taken_for_target:.1%} (untouched {d.taken_for_target_untouched:.1%})"
            name = f"{d.source} -> {d.target}"
            lines.append(f"{name:20}{attended:>24}{d.background_change:>20.4f}{taken:>24}")
        return "\n".join(lines)


def as_measurements(report: ShapesReport) -> list[Measurement]:
    """The figures one by one, each with what makes it readable."""
    drawn = f"{report.pictures} drawings at seed {EVALUATION_SEED}, unseen in training"
    plain = f"{drawn}; network's map alone (threshold 0), mean over pictures"
    found = []
    for d in report.directions:
        figures = (
            ("attention_iou", "Attention IoU (higher is better)", d.iou, d.iou_everything,
             f"{plain}; IoU of map > 0.5 with the true mask; ceiling: a map of ones"),
            ("background_change", "Change outside the object (lower is better)",
             d.background_change, None,
             f"{plain}; mean absolute change outside the true mask, as a share of the full range"),
            ("taken_for_target", "Objects taken for the target's (higher is better)",
             d.taken_for_target, d.taken_for_target_untouched,
             f"{plain}; share that a small CNN trained on real drawings alone, "
             f"{report.judge_accuracy:.1%} right on held-out ones, assigns to the target"),
        )  # fmt: skip
        found += [
            Measurement(metric, title, value, "shapes (built in)", "unseen", protocol,
                        f"{d.source} to {d.target}", ceiling=ceiling)
            for metric, title, value, ceiling, protocol in figures
        ]  # fmt: skip
    return found


def evaluate_on_shapes(
    pipeline: AGITPipeline, count: int = 64, seed: int = EVALUATION_SEED
) -> ShapesReport:
    """Measure a model whose labels are those of `shapes`.

    Args:
        pipeline: The model.
        count: Pictures of each domain.
        seed: Of the drawings; another than training's.

    Raises:
        ValueError: If the model's labels are others, or there are no pictures.
    """
    labels = pipeline.model.config.labels
    if set(labels) != set(shapes.LABELS):
        raise ValueError(
            f"The model translates between {' and '.join(labels)}; shapes has "
            f"{' and '.join(shapes.LABELS)}."
        )
    if count < 1:
        raise ValueError(f"count is {count}; at least one picture is needed.")
    size = pipeline.model.config.image_size
    judge = ObjectJudge(size)
    directions = []
    for source, target in (shapes.LABELS, shapes.LABELS[::-1]):
        pictures, masks = _draw(source, count, size, seed)
        output = pipeline(pictures, to=target, threshold=0)
        everything = np.ones((size, size), np.float32)
        pairs = list(zip(pictures, output.images, masks, strict=True))
        directions.append(
            DirectionReport(
                source,
                target,
                iou=fmean(iou(a, m) for a, m in zip(output.raw_attention, masks, strict=True)),
                iou_everything=fmean(iou(everything, mask) for mask in masks),
                background_change=fmean(
                    background_change(np.asarray(b), np.asarray(a), m) for b, a, m in pairs
                ),
                taken_for_target=judge.share(target, output.images, masks),
                taken_for_target_untouched=judge.share(target, pictures, masks),
            )
        )
    return ShapesReport(count, judge.accuracy, directions)


def picture_of_results(
    pipeline: AGITPipeline, rows: int = 4, size: int = 128, seed: int = EVALUATION_SEED
) -> Image.Image:
    """Unseen pictures with their attention and translation, both ways, as one picture."""
    columns: list[str] = []
    halves: list[tuple[list[Image.Image], TranslationOutput]] = []
    model_size = pipeline.model.config.image_size
    for source, target in (shapes.LABELS, shapes.LABELS[::-1]):
        pictures, _ = _draw(source, rows, model_size, seed)
        halves.append((pictures, pipeline(pictures, to=target)))
        columns += [source, "attention", f"to {target}", ""]
    cells = [
        [
            picture
            for pictures, output in halves
            for picture in (pictures[n], heat_map(output.attention[n]), output.images[n])
        ]
        for n in range(rows)
    ]
    return labelled_grid(columns[:-1], cells, tile=size)


def _draw(label: str, count: int, size: int, seed: int) -> tuple[list[Image.Image], list[Mask]]:
    drawn = [shapes.draw(label, index, size, seed) for index in range(count)]
    return [picture for picture, _ in drawn], [mask for _, mask in drawn]


def main() -> int:
    """Print the report of a model; write it, and the picture, beside the model if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model folder or repo")
    parser.add_argument("--count", type=int, default=64, help="pictures of each domain")
    parser.add_argument("--out", type=Path, help="folder for evaluation.json and evaluation.png")
    arguments = parser.parse_args()
    try:
        pipeline = AGITPipeline.from_pretrained(arguments.model)
        report = evaluate_on_shapes(pipeline, arguments.count)
    except ValueError as error:  # which a ModelLoadError is, too
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(report), indent=2) + "\n"
        (arguments.out / "evaluation.json").write_text(text, encoding="utf-8")
        write_measurements(arguments.out, as_measurements(report))
        picture_of_results(pipeline).save(arguments.out / "evaluation.png")
        print(f"Figures: {arguments.out}/evaluation.json  Pictures: {arguments.out}/evaluation.png")
    source, target = pipeline.model.config.labels
    print(
        "Use it:\n"
        "  from agit_hub import AGITPipeline\n"
        "  from agit_hub.data import shapes\n"
        f"  picture, _ = shapes.draw({source!r}, 7, size=64, seed=1)\n"
        f"  pipe = AGITPipeline.from_pretrained({arguments.model!r})\n"
        f'  pipe(picture, to={target!r}).images[0].save("translated.png")'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
