"""The command `export`: a model as files that need no PyTorch."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from agit_hub.cli.app import Dtype, Revision, app, show_user_errors
from agit_hub.environment import check_writable, require_extra


@app.command()
@show_user_errors
def export(
    model: Annotated[str, typer.Argument(help="A run, a model's folder or file, or a Hub repo.")],
    format: Annotated[
        Literal["onnx", "openvino"], typer.Option(help="onnx, or openvino for its two files.")
    ] = "onnx",
    dtype: Annotated[
        Dtype, typer.Option(help="float16: smaller files, a little less exact.")
    ] = "float32",
    out: Annotated[
        Path | None,
        typer.Option(help="A folder; default: a cache that `agit translate` and pipelines use."),
    ] = None,
    revision: Revision = None,
) -> None:
    """Export a model to ONNX or OpenVINO files, one per direction, and check them against PyTorch.

    Each takes images of any size whose sides are multiples of 4, and returns translation, attention and
    the generator's output. Its metadata state labels, threshold and ranges.
    """
    import torch

    from agit_hub.backends.auto import exported_folder
    from agit_hub.backends.export import export as export_files
    from agit_hub.models.agit import AGITModel

    if out is not None:
        check_writable(out, "--out")
    require_extra(format)
    loaded = AGITModel.from_pretrained(model, revision=revision)
    torch_dtype = getattr(torch, dtype)
    folder = out or exported_folder(loaded, format, torch_dtype)
    for exported in export_files(loaded, folder, format, torch_dtype):
        print(
            f"{exported.path}: to {exported.to}; differs from PyTorch by at most "
            f"{exported.maximum:.2g} of 255, by {exported.mean:.2g} on average"
        )
