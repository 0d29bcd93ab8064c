"""The commands `evaluate` and `compare`: measure a model, and compare several."""

import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agit_hub.atomic import write_bytes
from agit_hub.cli.app import (
    Device,
    Limit,
    Revision,
    app,
    check_device,
    progress_bar,
    show_user_errors,
)
from agit_hub.cli.dataset_option import DATASET, parse_dataset
from agit_hub.environment import check_writable, require_extra
from agit_hub.errors import EvaluationError

if TYPE_CHECKING:
    from agit_hub.data.config import DomainConfig
    from agit_hub.evaluation.evaluator import Classifier


@app.command()
@show_user_errors
def evaluate(
    model: Annotated[str, typer.Option(help="A run, a model's folder or file, or a Hub repo.")],
    source: Annotated[
        str,
        typer.Option(
            metavar=DATASET,
            help="Source images: a folder, a Hub dataset, or shapes; keys as in `data.source`.",
        ),
    ],
    target: Annotated[str, typer.Option(metavar=DATASET, help="Target images.")],
    masks: Annotated[
        Path | None,
        typer.Option(
            help="A folder of masks named like the images, white on objects; may have a subfolder for "
            "each label."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="Of KID and FID: lite0, inception, inception-clean, inception-legacy, "
            "inception-both, torchvision:NAME or timm:NAME."
        ),
    ] = "lite0",
    weights: Annotated[
        str, typer.Option(help="Of a run: last, or best (the lowest KID in its validation).")
    ] = "last",
    revision: Revision = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Attention below it becomes 0.  [default: the model's]"),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Called with (images, masks, label); returns the probability of the label for each.",
        ),
    ] = None,
    limit: Limit = None,
    side: Annotated[
        int | None,
        typer.Option(help="Resize the shorter side to this first.  [default: own size]"),
    ] = None,
    fid: Annotated[bool, typer.Option(help="Measure FID too.")] = True,
    name: Annotated[str | None, typer.Option(help="The model's name in comparisons.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for the report.  [default: RUN/evaluation/WEIGHTS, if a run]"),
    ] = None,
    device: Device = None,
) -> None:
    """Measure KID and FID, attention against masks, and changes of the background.

    Values are shown with a reference (real against real images) and a baseline (identity).

    Example: agit evaluate --model runs/h2z --source user/pair,split=test --target user/pair,split=test
    """
    require_extra("eval")
    from agit_hub.evaluation.datasets import load_eval_datasets
    from agit_hub.evaluation.evaluator import Evaluator
    from agit_hub.evaluation.protocols import find_protocol
    from agit_hub.evaluation.report import JSON, SHEET, write_report
    from agit_hub.evaluation.results import results_tables, write_results
    from agit_hub.hub.model_source import resolve_model
    from agit_hub.inference.pipeline import AGITPipeline
    from agit_hub.run_page.page import write_page
    from agit_hub.runs import RunFolder

    how = find_protocol(protocol)
    found = resolve_model(model, weights)
    places = parse_dataset(source, "--source"), parse_dataset(target, "--target")
    folder = out or found.folder
    if folder is not None:
        check_writable(folder, "--out" if out else "The folder for the report")
    measure = _load_classifier(classifier)
    check_device(device)
    pipeline = AGITPipeline.from_pretrained(found.weights, revision=revision, device=device)
    config = pipeline.model.config
    ranges = config.value_range(config.target_label), config.value_range(config.source_label)
    images = load_eval_datasets(
        *places, config.labels, config.image_size, masks, limit, side, ranges=ranges
    )
    evaluator = Evaluator(
        *images,
        how,
        device=pipeline.device,
        threshold=threshold,
        classifier=measure or _shapes_classifier(places, config.image_size),
        with_fid=fid,
    )
    for each in images:
        what = f"{len(each)} {each.label} images, split {each.split}, {each.dataset}"
        print(f"Measuring on {what}", *each.notes, sep="\n", file=sys.stderr)
    with progress_bar("Evaluating") as progress:
        evaluation = evaluator(pipeline, progress)
    results = evaluation.measurements
    # Written before anything is printed, which may fail.
    if folder is not None:
        write_report(folder, evaluation, {**found.about, **({"name": name} if name else {})})
    on_card = found.run is not None and found.is_last and out is None
    if found.run is not None and on_card:
        write_results(found.run, results)
    if found.run is not None and out is None:
        write_page(RunFolder(found.run))
    print(f"{found.about['model']}, protocol {how}\n\n{results_tables(results)}\n")
    for skipped in evaluation.unreadable:
        print(f"Skipped as unreadable: {skipped}")
    for note in evaluation.notes:
        print(note)
    if folder is not None:
        print(f"Metrics: {folder / JSON}  Images: {folder / SHEET}")
    if on_card:
        print(f"The card of {found.run} now shows these metrics: agit push {found.run} ...")


@app.command()
@show_user_errors
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Evaluated run folders, or evaluation.json files.")
    ],
    out: Annotated[Path | None, typer.Option(help="A Markdown file to write as well.")] = None,
) -> None:
    """Compare evaluated runs, with means over seeds.

    Example: agit compare runs/seed-0 runs/seed-1 --out comparison.md
    """
    from agit_hub.evaluation import compare as comparison

    if out is not None:
        check_writable(out.parent, "The folder of --out")
    table = comparison.compare(comparison.find_records(runs))
    if out is not None:
        write_bytes(out, f"{table}\n".encode())
    print(table)


def _shapes_classifier(
    places: "tuple[DomainConfig, DomainConfig]", size: int
) -> "Classifier | None":
    from agit_hub.evaluation.shapes_classifier import ShapesClassifier

    return ShapesClassifier(size) if all(place.path == "shapes" for place in places) else None


def _load_classifier(name: str | None) -> "Classifier | None":
    if name is None:
        return None
    try:
        found: Classifier = pkgutil.resolve_name(name)
        if not callable(found):
            raise ValueError("it is not callable")
    except (ImportError, AttributeError, ValueError) as error:
        raise EvaluationError(
            f"The classifier {name!r} cannot be imported ({error}): give MODULE:FUNCTION."
        ) from error
    return found
