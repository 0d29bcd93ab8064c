"""A small web server for the page of a run."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agit_hub.environment import describe
from agit_hub.errors import AgitError, InputPathError
from agit_hub.run_page.page import render_page
from agit_hub.run_page.status import read_status
from agit_hub.runs import RunFolder

_FIRST_PORT = 7870
_PORTS = 100
# Of the folder only what the page shows: checkpoints and settings of trackers are nobody's business.
_SERVED = re.compile(r"/(samples/step-\d+\.png|evaluation/(last|best)/evaluation\.png)")


class _Handler(SimpleHTTPRequestHandler):
    """Serves the page as the run is now, whether or not the training writes it."""

    def __init__(self, *args: Any, run: RunFolder, **kwargs: Any) -> None:
        self._run = run
        super().__init__(*args, directory=str(run.path), **kwargs)

    def do_GET(self) -> None:
        """Answer with the page, the run's status, or an image."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer like `do_GET`, without content."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path in ("/", "/index.html"):
            try:
                self._send(render_page(self._run), "text/html", with_body)
            except AgitError as error:  # the run was deleted, for example
                self.send_error(404, "Not found", str(error))
        elif path == "/status.json":
            self._send(json.dumps(asdict(read_status(self._run))), "application/json", with_body)
        elif _SERVED.fullmatch(path):
            super().do_GET() if with_body else super().do_HEAD()
        else:
            self.send_error(404)

    def _send(self, text: str, kind: str, with_body: bool) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the page asks for the status every few seconds."""


@contextmanager
def serving(run: RunFolder, host: str, port: int | None) -> Iterator[ThreadingHTTPServer]:
    """Listen for requests of the page; `serve_forever` answers them.

    Args:
        run: The run.
        host: Address to listen on.
        port: The port, or None for the first free one from 7870 on.

    Raises:
        RunFolderError: If it is not a run folder.
        ConfigError: If another version wrote it.
        InputPathError: If the address cannot be listened on.
    """
    render_page(run)  # what is wrong with the folder is said before the server starts
    ports = [port] if port is not None else range(_FIRST_PORT, _FIRST_PORT + _PORTS)
    server = None
    for each in ports:
        try:
            server = ThreadingHTTPServer((host, each), partial(_Handler, run=run))
            break
        except OSError as error:
            problem = error
    if server is None:
        where = f"{host}:{port}" if port is not None else host
        raise InputPathError(
            f"The page cannot be served on {where}: {describe(problem)} (--host, --port)."
        ) from problem
    server.daemon_threads = True
    with server:
        yield server
