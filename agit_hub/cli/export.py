"""The command `export`: a model as files that need no PyTorch."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import app, show_user_errors


class Format(StrEnum):
    """Of exported files."""

    ONNX = "onnx"
    OPENVINO = "openvino"


@app.command()
@show_user_errors
def export(
    model: Annotated[str, typer.Argument(help="A repo of the Hub such as user/name, or a folder.")],
    format: Annotated[
        Format, typer.Option(help="onnx, or openvino for its own two files.")
    ] = Format.ONNX,
    half: Annotated[
        bool,
        typer.Option(
            "--half", help="Weights of generators in 16 bits: smaller, a little less exact."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder; if left out, a cache, where `agit translate` and pipelines find them."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the repo.")] = None,
) -> None:
    """Write a model as ONNX or OpenVINO files, one a direction, and check them against it.

    Each takes pictures of any size whose sides are multiples of 4, and gives translation, attention and
    the generator's picture. Labels, threshold and ranges stand in its metadata.
    """
    from agit_hub.backends.auto import exported_folder
    from agit_hub.backends.export import export as export_files
    from agit_hub.models.agit import AGITModel

    loaded = AGITModel.from_pretrained(model, revision=revision)
    folder = out or exported_folder(loaded, format.value, half)
    for written in export_files(loaded, folder, format.value, half):
        print(
            f"{written.path}: to {written.to}; differs from PyTorch by at most {written.maximum:.2g} "
            f"of 255, by {written.mean:.2g} on average"
        )
