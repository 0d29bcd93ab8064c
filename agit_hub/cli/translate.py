"""The command `translate`: images and videos as files, folders and patterns."""

import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agit_hub.cli.app import (
    FAILURE,
    INTERRUPTED,
    Device,
    Dtype,
    Revision,
    app,
    check_device,
    check_label,
    show_user_errors,
)
from agit_hub.environment import check_writable, require
from agit_hub.errors import UserError
from agit_hub.inference.edits import AttentionEdits

if TYPE_CHECKING:
    from agit_hub.inference.batch import FileResult, TranslateOptions
    from agit_hub.inference.inputs import Job
    from agit_hub.inference.mask_files import MaskUse
    from agit_hub.inference.pipeline import AGITPipeline


def _add_edit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's `**edits` by an option for each field of `AttentionEdits` with a flag."""
    signature = inspect.signature(command)
    options = []
    for each in fields(AttentionEdits):
        option = each.metadata["option"]
        if not option.flag:
            continue
        kind: Any = each.type
        default = each.default
        if option.metavar:
            kind, default = (list[str] if default == () else str) | None, None
        info = typer.Option(option.flag, help=option.help, metavar=option.metavar or None)
        options.append(
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, info],
            )
        )
    *others, _ = signature.parameters.values()
    command.__signature__ = signature.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
    return command


@app.command()
@show_user_errors
@_add_edit_options
def translate(
    paths: Annotated[
        list[str],
        typer.Argument(help="Images, videos, folders of them, or patterns such as '*.jpg'."),
    ],
    model: Annotated[str, typer.Option(help="A run, a model's folder or file, or a Hub repo.")],
    to: Annotated[str, typer.Option(help="The label to translate to.")],
    out: Annotated[Path, typer.Option(help="The folder for results.")],
    maps: Annotated[bool, typer.Option("--maps", help="Write attention: NAME.map.png.")] = False,
    panels: Annotated[
        bool,
        typer.Option("--panels", help="Write input, attention and output: NAME.panel.png."),
    ] = False,
    format: Annotated[
        Literal["png", "jpeg", "webp", "tiff"],
        typer.Option(
            help="Of images. PNG (TIFF for CMYK and for more than 16 bits) keeps pixels without "
            "attention unchanged, bit by bit; JPEG does not."
        ),
    ] = "png",
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Where images may change: white; black stays as it is. A file for all, also for all "
            "frames of a video, or a folder with a mask named like each image."
        ),
    ] = None,
    mask_as: Annotated[
        Literal["region", "attention"],
        typer.Option(
            help="region multiplies attention by --mask; attention takes it in place of the network's."
        ),
    ] = "region",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results instead of skipping them.")
    ] = False,
    keep_location: Annotated[
        bool,
        typer.Option("--keep-location", help="Keep where a photograph was taken in its EXIF data."),
    ] = False,
    smoothing: Annotated[
        float, typer.Option(help="Temporal smoothing of videos where they are still, 0 to 1.")
    ] = 0.9,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 1,
    device: Device = None,
    backend: Annotated[
        Literal["auto", "torch", "compile", "onnx", "openvino"],
        typer.Option(
            help="What runs the networks. auto is the fastest that `agit export` has written files "
            "for; onnx and openvino export them first if needed."
        ),
    ] = "auto",
    dtype: Annotated[
        Dtype, typer.Option(help="Precision of the generators; float16 is faster on some hardware.")
    ] = "float32",
    revision: Revision = None,
    **edits: Any,
) -> None:
    """Translate images and videos.

    Folders keep their structure. Existing results are skipped, so the same command continues after an
    interruption. Videos become H.264 in MP4, with their audio.
    """
    from agit_hub.inference.batch import TranslateOptions

    extras: list[Any] = ["map"] * maps + ["panel"] * panels
    try:
        options = TranslateOptions(
            to=to,
            edits=_parse_edits(edits),
            smoothing=smoothing,
            batch_size=batch_size,
            format=format,
            extras=extras,
            overwrite=overwrite,
            keep_location=keep_location,
        )
        jobs, options = _plan(paths, out, options, mask, mask_as)
        check_device(device)
        pipe = _load(model, to, revision=revision, device=device, backend=backend, dtype=dtype)
        _summarize(_translate(pipe, options, jobs), to, out)
    except KeyboardInterrupt:
        print(
            f"Interrupted: files in {out}{os.sep} are complete; the same command continues from there.",
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED) from None


def _parse_edits(values: dict[str, Any]) -> AttentionEdits:
    """Return edits of options, whose text holds numbers separated by commas."""
    values["points"] = [_parse_numbers(text, 2, "--point") for text in values["points"] or ()]
    if values["region"]:
        values["region"] = _parse_numbers(values["region"], 4, "--region")
    return AttentionEdits(**values)


def _parse_numbers(text: str, count: int, flag: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(isfinite, numbers)):
        raise UserError(f"{flag} is {text!r}: it takes {count} numbers separated by commas.")
    return numbers


def _plan(
    paths: Sequence[str],
    out: Path,
    options: "TranslateOptions",
    mask: Path | None,
    mask_as: "MaskUse",
) -> "tuple[list[Job], TranslateOptions]":
    """Find the inputs and their masks, and check them before a model is loaded."""
    from agit_hub.data.listing import Skipped
    from agit_hub.inference.batch import check_inputs_kept
    from agit_hub.inference.inputs import plan_jobs
    from agit_hub.inference.mask_files import JobMasks, find_masks, without_masks

    if mask_as == "attention" and (mask is None or options.edits.invert):
        problem = (
            "--mask is missing" if mask is None else "--invert is set: invert the mask instead"
        )
        raise UserError(f"--mask-as is attention, and {problem}.")
    skipped = Skipped()
    jobs = plan_jobs(paths, out, skipped)
    for sentence in skipped.sentences():
        print(sentence, file=sys.stderr)
    if mask is not None:
        images = without_masks(jobs, mask)
        if len(images) < len(jobs):
            count = _count(len(jobs) - len(images), "mask")
            print(f"{count} among the images not translated", file=sys.stderr)
        jobs = images
        options = replace(options, masks=JobMasks(find_masks(mask, jobs), mask_as))
    check_inputs_kept(jobs, options)
    check_writable(out, "--out")
    if any(job.is_video for job in jobs):
        require("av")
        from agit_hub.inference.video import check_encoder

        check_encoder()
    return jobs, options


def _load(model: str, to: str, dtype: str, **options: Any) -> "AGITPipeline":
    import torch

    from agit_hub.inference.pipeline import AGITPipeline

    pipe = AGITPipeline.from_pretrained(model, dtype=getattr(torch, dtype), **options)
    check_label(pipe, to)
    return pipe


def _translate(
    pipe: "AGITPipeline", options: "TranslateOptions", jobs: "Sequence[Job]"
) -> "Iterator[FileResult]":
    """Translate with a progress bar in a terminal; warnings go to stderr."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from agit_hub.inference.batch import BatchTranslator

    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        files = progress.add_task("files", total=len(jobs))
        frames = progress.add_task("frames", visible=False)

        def on_frame(number: int, length: int | None) -> None:
            progress.update(frames, completed=number, total=length, visible=True)

        for result in BatchTranslator(pipe, options, on_frame).run(jobs):
            progress.update(files, advance=1)
            progress.update(frames, visible=False)
            if result.status == "failed":
                console.print(f"warning: {result.error}")
            yield result


def _summarize(results: "Iterable[FileResult]", to: str, out: Path) -> None:
    """Print one line; exit with code 1 if any file failed."""
    counts = Counter(
        (result.job.is_video if result.status == "done" else result.status) for result in results
    )
    images, videos = counts[False], counts[True]
    done = [_count(images, "image")] * bool(images or not videos)
    done += [_count(videos, "video")] * bool(videos)
    skipped, failed = counts["skipped"], counts["failed"]
    kept = f"{skipped} existed already: --overwrite replaces them"
    rest = [kept] * bool(skipped) + [f"{failed} failed"] * bool(failed)
    aside = f" ({', '.join(rest)})" if rest else ""
    print(f"Translated {' and '.join(done)} to {to} -> {out}{os.sep}{aside}.")
    if failed:
        raise typer.Exit(FAILURE)


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
