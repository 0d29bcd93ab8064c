"""Serving the page with the Space's limits."""

import importlib.util
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from agit_hub.errors import SpaceError
from agit_hub.space.limits import MAX_MEGABYTES
from agit_hub.space.page.theme import CSS, THEME
from agit_hub.space.pending_messages import survive_floods
from agit_hub.space.server import Server
from agit_hub.space.visitors import VisitorMiddleware, Visitors

_SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")


def launch(page: gr.Blocks, server: Server, port: int | None, visitors: Visitors) -> None:
    """Serve a page with the Space's limits.

    Raises:
        SpaceError: If a public link is requested and cannot be created.
    """
    page.queue(default_concurrency_limit=2, max_size=100)
    survive_floods(page._queue)

    def in_flight() -> list[Any]:
        return [event.request for event in list(page._queue.event_ids_to_events.values())]

    limits = Middleware(VisitorMiddleware, visitors=visitors, in_flight=in_flight)
    page.launch(
        server_name=server.host,
        server_port=port,
        root_path=server.root_path,
        auth=server.credentials,
        share=server.share or None,
        app_kwargs={"middleware": [limits]},
        # Gradio goes on without a link.
        prevent_thread_lock=server.wants_link,
        theme=THEME,
        css=CSS,
        head=f'<script type="module">{_SCRIPT}</script>',
        # Files that are too large get the Space's message; Gradio refuses much larger ones.
        max_file_size=f"{4 * MAX_MEGABYTES}mb",
        state_session_capacity=200,
        ssr_mode=False,
        show_error=True,
        mcp_server=importlib.util.find_spec("mcp") is not None,
    )
    if server.wants_link:
        if not page.share_url:
            page.close()
            raise SpaceError(
                "No public link could be created: Gradio's servers cannot be reached from here. Leave "
                "out --share (GRADIO_SHARE), or use --host 0.0.0.0 on your own network."
            )
        page.block_thread()
