"""`agit space`: the Space on one's own machine."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import USER_ERROR, app, end, show_user_errors

# In an installed package, and in a checkout.
_PLACES = (Path(__file__).parents[1] / "space", Path(__file__).parents[2] / "space")


@app.command()
@show_user_errors
def space(
    model: Annotated[
        list[str] | None,
        typer.Option(help="A repo of the Hub or a folder; may be given several times."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="7860 or the next free one if left out.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 shows it to everybody on the network.")
    ] = "127.0.0.1",
    share: Annotated[
        bool, typer.Option(help="A public link that lasts for days, by way of Gradio's servers.")
    ] = False,
) -> None:
    """Show and steer a model in the browser: input, attention and translation side by side.

    Without --model, the small one that comes along. Stop it with Ctrl-C.
    """
    if importlib.util.find_spec("gradio") is None:
        end("gradio is not installed: pip install 'agit-hub[space]'.", USER_ERROR)
    program = next(place / "app.py" for place in _PLACES if (place / "app.py").is_file())
    settings = {"GRADIO_SERVER_NAME": host, "GRADIO_SHARE": str(share)}
    settings |= {"GRADIO_SERVER_PORT": str(port)} if port else {}
    settings |= {"AGIT_MODELS": ",".join(model)} if model else {}
    # In this process' place, so that whoever ends it ends the Space.
    os.execve(sys.executable, [sys.executable, str(program)], os.environ | settings)
