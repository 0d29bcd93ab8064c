"""The command `watch`: the page of a run, while it goes on."""

from pathlib import Path
from typing import Annotated

import typer

from agit_hub.cli.app import app, show_user_errors


@app.command()
@show_user_errors
def watch(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="[default: the first free one from 7870 on]"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 makes it available on the network.")
    ] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the page with all its images to this HTML file instead, to send it to somebody."
        ),
    ] = None,
) -> None:
    """Show the page of a run: progress, health, samples over steps, curves, settings.

    The page follows a training that goes on. A run folder also holds it as index.html, which can be
    opened without a server. Stop it with Ctrl-C.

    Example: agit watch runs/horses
    """
    import webbrowser

    from agit_hub.atomic import write_bytes
    from agit_hub.run_page.page import render_page
    from agit_hub.run_page.server import serving
    from agit_hub.runs import RunFolder

    folder = RunFolder.containing(run) or RunFolder(run)
    if out is not None:
        from agit_hub.hub.card import shareable

        settings = shareable(folder.read_config()) if folder.exists else {}
        page = render_page(folder, settings)
        write_bytes(out, page.encode())
        print(f"Wrote {out} ({len(page) / 1e6:.1f} MB).")
        return
    with serving(folder, host, port) as server:
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{server.server_port}"
        print(f"{folder.path}: {address} (Ctrl-C ends it)", flush=True)
        if open_browser:
            webbrowser.open(address)
        server.serve_forever()
