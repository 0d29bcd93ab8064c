"""The command `space`: the Space on this machine."""

from typing import Annotated

import typer

from agit_hub.cli.app import app, show_user_errors
from agit_hub.environment import require_extra


@app.command()
@show_user_errors
def space(
    model: Annotated[
        list[str] | None,
        typer.Option(help="A run, a model's folder or file, or a Hub repo; repeatable."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="[default: GRADIO_SERVER_PORT, or the first free one from 7860 on]",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="0.0.0.0 makes it available on the network.  [default: GRADIO_SERVER_NAME, or "
            "127.0.0.1]"
        ),
    ] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Path below which a proxy serves it, such as /agit.")
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD",
            envvar="AGIT_AUTH",
            help="Ask visitors for them; other users of this machine cannot see a variable.",
        ),
    ] = None,
    share: Annotated[
        bool, typer.Option(help="Create a public link through Gradio's servers, for days.")
    ] = False,
    offer_hub: Annotated[
        bool,
        typer.Option(
            "--offer-hub",
            envvar="AGIT_OFFER_HUB",
            help="List other people's models on the Hub, too; visitors can name any public one.",
        ),
    ] = False,
) -> None:
    """Use a model in the browser: input, attention and translation side by side.

    Without --model, the models that ship with the project. Stop it with Ctrl-C.
    """
    require_extra("space")
    from agit_hub.space.app import run
    from agit_hub.space.server import Server

    run(model, Server(host, port, root_path, auth, share), offer_hub)
