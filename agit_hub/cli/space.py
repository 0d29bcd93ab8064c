"""The command `space`: the Space on this machine."""

from typing import Annotated

import typer

from agit_hub.cli.app import app, show_user_errors


@app.command()
@show_user_errors
def space(
    model: Annotated[
        list[str] | None, typer.Option(help="A Hub repo or a folder; repeatable.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: 7860 or the next free one.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 makes it available on the network.")
    ] = "127.0.0.1",
    share: Annotated[
        bool, typer.Option(help="Create a public link through Gradio's servers, for days.")
    ] = False,
) -> None:
    """Use a model in the browser: input, attention and translation side by side.

    Without --model, a small demo model. Stop it with Ctrl-C.
    """
    from agit_hub.space.app import run

    run(",".join(model or ()), server_name=host, server_port=port, share=share)
