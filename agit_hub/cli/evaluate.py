"""The commands `evaluate` and `compare`: measure a model, and put several into one table."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agit_hub.cli.app import Errors, app, check_device, show_user_errors

if TYPE_CHECKING:
    from agit_hub.data.config import DomainConfig
    from agit_hub.evaluation.evaluator import Classifier

Place = "PATH[,KEY=VALUE...]"


def _errors() -> tuple[Errors, Errors]:
    from agit_hub.errors import (
        ConfigError,
        DataError,
        DatasetError,
        EvaluationError,
        ModelLoadError,
        RunFolderError,
    )

    mistakes = (ConfigError, DataError, EvaluationError, ModelLoadError, RunFolderError)
    return mistakes, (DatasetError, OSError)


_in_a_sentence = show_user_errors("agit-hub[eval]", _errors)


@app.command()
@_in_a_sentence
def evaluate(
    model: Annotated[str, typer.Option(help="A run folder, a model folder, or a repo of the Hub.")],
    source: Annotated[
        str,
        typer.Option(
            metavar=Place,
            help="Source pictures: a folder, a dataset on the Hub, or shapes; with keys of `data.source` "
            "such as user/pair,split=test,column=imageA.",
        ),
    ],
    target: Annotated[str, typer.Option(metavar=Place, help="Target pictures, likewise.")],
    masks: Annotated[
        Path | None,
        typer.Option(
            help="A folder of masks named like the pictures, white on objects; or with a subfolder "
            "for each label."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="Of KID and FID: lite0, inception (as pytorch-fid resizes), inception-clean (as "
            "clean-fid), inception-legacy, inception-both, torchvision:NAME or timm:NAME."
        ),
    ] = "lite0",
    weights: Annotated[
        str,
        typer.Option(help="Of a run: last, or picked (the best on its validation pictures)."),
    ] = "last",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Attention below it becomes 0; the model's own if left out."
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Called with pictures, masks and a label: how surely each picture shows the label.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="The most pictures of each domain, evenly spaced; all if left out."),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(
            help="Scale pictures to this shorter side first; at their own size if left out."
        ),
    ] = None,
    fid: Annotated[bool, typer.Option(help="Measure FID too.")] = True,
    name: Annotated[str | None, typer.Option(help="What a table calls it.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the report; of a run, its own evaluation folder if left out."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps, cpu, ...; the best if left out.")
    ] = None,
) -> None:
    """Measure a model: KID and FID beside floor and ceiling, attention, background."""
    from rich.console import Console
    from rich.progress import Progress

    from agit_hub.evaluation.evaluator import Evaluator
    from agit_hub.evaluation.opening import load_eval_datasets
    from agit_hub.evaluation.protocols import find_protocol
    from agit_hub.evaluation.report import as_table, write_report
    from agit_hub.evaluation.results import write_results
    from agit_hub.hub.subject import resolve_model
    from agit_hub.inference.pipeline import AGITPipeline

    how = find_protocol(protocol)
    subject = resolve_model(model, weights)
    places = _domain(source, "source"), _domain(target, "target")
    check_device(device)
    pipeline = AGITPipeline.from_pretrained(subject.weights, device=device)
    config = pipeline.model.config
    specimens = load_eval_datasets(*places, config.labels, config.image_size, masks, limit, side)
    judge = _classifier(classifier, places, config.image_size)
    evaluator = Evaluator(
        *specimens, how, device=pipeline.device, threshold=threshold, classifier=judge, with_fid=fid
    )
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Measuring")
        evaluation = evaluator(
            pipeline, lambda done, total, _: bar.update(task, completed=done, total=total)
        )
    about = {**subject.about, **({"name": name} if name else {})}
    print(f"{subject.about['model']}, protocol {how}\n\n{as_table(evaluation.measurements)}\n")
    for picture in evaluation.unreadable:
        print(f"Left out, for it cannot be read: {picture}")
    folder = out or subject.folder
    if folder is not None:
        write_report(folder, evaluation, about)
        print(f"MeanMetrics: {folder / 'evaluation.json'}  Pictures: {folder / 'evaluation.png'}")
    if subject.run is not None and weights == "last" and out is None:
        write_results(subject.run, evaluation.measurements)
        print(f"The card of {subject.run} now shows these figures: agit card {subject.run} ...")


@app.command()
@_in_a_sentence
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders that were evaluated, or evaluation.json files."),
    ],
    out: Annotated[Path | None, typer.Option(help="A Markdown file to write as well.")] = None,
) -> None:
    """Put evaluated runs into one table: seeds, which weights, figures; means over seeds."""
    from agit_hub.evaluation import compare as comparison

    table = comparison.compare(comparison.find_records(runs))
    print(table)
    if out is not None:
        out.write_text(table + "\n", encoding="utf-8")


def _domain(text: str, side: str) -> "DomainConfig":
    """`user/pair,split=test` as a domain's settings; an existing path wins, commas and all."""
    from agit_hub.config import suggest
    from agit_hub.data.config import DomainConfig
    from agit_hub.errors import ConfigError

    known = [key for key in DomainConfig.__dataclass_fields__ if key != "path"]
    if Path(text).expanduser().exists():
        return DomainConfig(path=text)
    path, *rest = text.split(",")
    values: dict[str, Any] = {}
    for item in rest:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(
                f"--{side} holds {item!r}; settings are KEY=VALUE, such as split=test."
            )
        key = key.strip()
        if key not in known:
            raise ConfigError(
                f"--{side} has an unknown key {key!r}.{suggest(key, known)} Keys: {', '.join(known)}."
            )
        values[key] = {"true": True, "false": False}.get(value, value)
    return DomainConfig(path=path, **values)


def _classifier(
    wanted: str | None, places: "tuple[DomainConfig, DomainConfig]", size: int
) -> "Classifier | None":
    from agit_hub.errors import EvaluationError
    from agit_hub.evaluation.shapes_classifier import ShapesClassifier

    if wanted is None:
        return ShapesClassifier(size) if all(place.path == "shapes" for place in places) else None
    module, _, function = wanted.partition(":")
    try:
        found: Classifier = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise EvaluationError(
            f"The classifier {wanted!r} cannot be had ({error}): give MODULE:FUNCTION of a module "
            "that Python finds."
        ) from error
    if not callable(found):
        raise EvaluationError(f"The classifier {wanted!r} is no function: it cannot be called.")
    return found
