"""The command `demo`: example images, translated, on one page."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import Device, app, check_device, check_label, progress_bar, show_user_errors
from agit_hub.environment import check_writable
from agit_hub.errors import UserError


@app.command()
@show_user_errors
def demo(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Your own images.  [default: examples that ship with the package]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A run, a model's folder or file, or a Hub repo.  [default: the first that ships]"
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Label to translate to.  [default: both; of your own images the target]"),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum example images of each label, evenly spaced.")
    ] = 3,
    out: Annotated[Path, typer.Option(help="A folder for the page and its images.")] = Path("demo"),
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    device: Device = None,
) -> None:
    """Translate example images, and write one page that shows them: input, attention, output.

    Example: agit demo my-horse.jpg --to zebra
    """
    import webbrowser

    from agit_hub.demo.page import demo_images, write_demo
    from agit_hub.inference.pipeline import AGITPipeline
    from agit_hub.shipped import shipped_models

    check_writable(out, "--out")
    check_device(device)
    name, place = next(iter(shipped_models().items())) if model is None else (model, model)
    pipe = AGITPipeline.from_pretrained(place, device=device)
    if to is not None:
        check_label(pipe, to)
    found = demo_images(pipe, images or (), to, limit)
    if not found:
        labels = " or ".join(pipe.model.config.labels)
        raise UserError(
            f"No example image of {labels} ships with the package: name your own, as in "
            f"`agit demo photo.jpg --model {name}`."
        )
    with progress_bar("Translating") as progress:
        page = write_demo(pipe, name, found, out, progress)
    shown = sum(map(len, found.values()))
    print(f"{shown} image{'s' * (shown != 1)}, translated by {name}: {page.absolute()}", flush=True)
    if open_browser and not webbrowser.open(page.absolute().as_uri()):
        print("No browser could be started here: open the file yourself.", file=sys.stderr)
