"""The command `translate`: files, folders, patterns and videos."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agit_hub.cli.app import (
    FAILURE,
    INTERRUPTED,
    USER_ERROR,
    app,
    check_device,
    end,
    show_user_errors,
)

if TYPE_CHECKING:
    from agit_hub.inference.batch import Outcome, TranslateOptions
    from agit_hub.inference.inputs import Job
    from agit_hub.inference.pipeline import AGITPipeline


class Format(StrEnum):
    """Of pictures."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    TIFF = "tiff"


class Backend(StrEnum):
    """What runs the networks."""

    AUTO = "auto"
    TORCH = "torch"
    COMPILE = "compile"
    ONNX = "onnx"
    OPENVINO = "openvino"


Paths = Annotated[
    list[str],
    typer.Argument(help="Pictures, videos, folders of them, or patterns such as '*.jpg'."),
]
Model = Annotated[str, typer.Option(help="A repo of the Hub such as user/name, or a folder.")]
To = Annotated[str, typer.Option(help="The label to translate to.")]
Out = Annotated[Path, typer.Option(help="The folder for results.")]
Threshold = Annotated[
    float | None,
    typer.Option(help="Attention below it becomes 0; the model's own if left out, 0 keeps all."),
]
Feather = Annotated[float, typer.Option(help="Pixels over which edges of attention fade.")]
Invert = Annotated[bool, typer.Option("--invert", help="Attend to all that is else left alone.")]
Strength = Annotated[float, typer.Option(help="Factor on attention, 0 to 1.")]
Region = Annotated[
    str | None, typer.Option(metavar="L,T,R,B", help="Change nothing outside this box, in pixels.")
]
Points = Annotated[
    list[str] | None,
    typer.Option(metavar="X,Y", help="Change only the object here, in pixels; may be repeated."),
]
Maps = Annotated[bool, typer.Option("--maps", help="Write the attention too: NAME.map.png.")]
Panels = Annotated[
    bool,
    typer.Option("--panels", help="Write input, attention and output in a row: NAME.panel.png."),
]
Formats = Annotated[
    Format,
    typer.Option(
        help="Of pictures. PNG (TIFF for CMYK and for more than 16 bits) keeps what is not attended "
        "to as it was, bit by bit; a JPEG cannot promise that."
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Do again what is there already; else it is passed over, whatever its options were.",
    ),
]
Smoothing = Annotated[
    float, typer.Option(help="Of videos: how much of the frames before is kept where all is still.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures that the networks see at once.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...; the best if left out.")]
Backends = Annotated[
    Backend,
    typer.Option(
        help="What runs the networks. auto takes the fastest that `agit export` has written files for; "
        "onnx and openvino write them first, if need be."
    ),
]
Half = Annotated[
    bool, typer.Option("--half", help="16 bits are precise enough: for onnx and openvino.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the model's repo.")]


@app.command()
@show_user_errors
def translate(
    paths: Paths,
    model: Model,
    to: To,
    out: Out,
    threshold: Threshold = None,
    feather: Feather = 0.0,
    invert: Invert = False,
    strength: Strength = 1.0,
    region: Region = None,
    point: Points = None,
    maps: Maps = False,
    panels: Panels = False,
    format: Formats = Format.PNG,
    overwrite: Overwrite = False,
    smoothing: Smoothing = 0.9,
    batch_size: BatchSize = 1,
    device: Device = None,
    backend: Backends = Backend.AUTO,
    half: Half = False,
    revision: Revision = None,
) -> None:
    """Translate pictures and videos.

    Folders keep their structure. What was translated before is passed over, so the same command goes on
    after an interruption. Videos become H.264 in MP4, with their sound.
    """
    edits = {
        "threshold": threshold,
        "feather": feather,
        "invert": invert,
        "strength": strength,
        "region": _box(region) if region else None,
        "points": [_numbers(place, 2, "--point") for place in point or ()],
    }
    settings: dict[str, Any] = {
        "to": to,
        "smoothing": smoothing,
        "batch_size": batch_size,
        "format": format.value,
        "extras": ["map"] * maps + ["panel"] * panels,
        "overwrite": overwrite,
    }
    try:
        jobs, wishes = _plan(paths, out, edits, settings)
        pipe = _load(model, to, revision=revision, device=device, backend=backend.value, half=half)
        _report(_shown(pipe, wishes, jobs), to, out)
    except KeyboardInterrupt:
        print(
            f"Interrupted: what is in {out}{os.sep} is whole, and the same command goes on from there.",
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED) from None


def _numbers(text: str, count: int, option: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(isfinite, numbers)):
        end(f"{option} is {text!r}: it takes {count} numbers with commas between.", USER_ERROR)
    return numbers


def _box(text: str) -> tuple[float, ...]:
    left, top, right, bottom = box = _numbers(text, 4, "--region")
    if not (left < right and top < bottom):
        end(f"--region is {text!r}: it takes left,top,right,bottom of a box.", USER_ERROR)
    return box


def _plan(
    paths: Sequence[str], out: Path, edits: dict[str, Any], settings: dict[str, Any]
) -> "tuple[list[Job], TranslateOptions]":
    """Refuse all that can be refused before a model is loaded."""
    from agit_hub.inference.batch import TranslateOptions, check_inputs_stay
    from agit_hub.inference.edits import AttentionEdits
    from agit_hub.inference.inputs import plan
    from agit_hub.inference.temporal_smoothing import TemporalSmoother

    try:
        wishes = TranslateOptions(edits=AttentionEdits(**edits), **settings)
        TemporalSmoother(wishes.smoothing)
        jobs = plan(paths, out)
        check_inputs_stay(jobs, wishes)
    except ValueError as error:
        end(error, USER_ERROR)
    if any(job.is_video for job in jobs) and find_spec("av") is None:
        end("Videos need PyAV: pip install 'agit-hub[video]'.", USER_ERROR)
    return jobs, wishes


def _load(model: str, to: str, **how: Any) -> "AGITPipeline":
    from agit_hub.errors import BackendError, ExportError, ModelLoadError
    from agit_hub.inference.pipeline import AGITPipeline

    check_device(how["device"])
    try:
        pipe = AGITPipeline.from_pretrained(model, **how)
    except (ModelLoadError, BackendError) as error:
        end(error, USER_ERROR)
    except ExportError as error:
        end(error, FAILURE)
    except OSError as error:
        end(f"The model {model} could not be fetched: {error}", FAILURE)
    source, target = pipe.model.config.labels
    if to not in (source, target):
        end(f"--to is {to!r}: this model translates to {target} or to {source}.", USER_ERROR)
    return pipe


def _shown(
    pipe: "AGITPipeline", wishes: "TranslateOptions", jobs: "Sequence[Job]"
) -> "Iterator[Outcome]":
    """Translate beneath a bar, where somebody is there to see it; warnings go to stderr."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from agit_hub.inference.batch import Translator

    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        files = progress.add_task("files", total=len(jobs))
        frames = progress.add_task("frames", visible=False)

        def on_frame(number: int, length: int | None) -> None:
            progress.update(frames, completed=number, total=length, visible=True)

        for outcome in Translator(pipe, wishes, on_frame).outcomes(jobs):
            progress.update(files, advance=1)
            progress.update(frames, visible=False)
            if outcome.state == "failed":
                console.print(f"warning: {outcome.why}")
            yield outcome


def _report(outcomes: "Iterable[Outcome]", to: str, out: Path) -> None:
    """Say in a line what was done; code 1 if anything failed."""
    counts = Counter(
        (outcome.job.is_video if outcome.state == "done" else outcome.state) for outcome in outcomes
    )
    pictures, videos = counts[False], counts[True]
    done = [_counted(pictures, "picture")] * bool(pictures or not videos)
    done += [_counted(videos, "video")] * bool(videos)
    there, failed = counts["there"], counts["failed"]
    rest = [f"{there} {'was' if there == 1 else 'were'} there already"] * bool(there)
    rest += [f"{failed} failed"] * bool(failed)
    aside = f" ({', '.join(rest)})" if rest else ""
    print(f"Translated {' and '.join(done)} to {to} -> {out}{os.sep}{aside}.")
    if failed:
        raise typer.Exit(FAILURE)


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
