"""ZeroGPU on this machine: the real `spaces` package in the Space, and a scheduler here."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from gradio_client import Client

from tests.space.conftest import SPACE, Started, serve


@dataclass
class Scheduler:
    """The part of ZeroGPU that is not in the package: it assigns GPUs, over HTTP."""

    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Calls in their order: path and parameters."""
    assigned: dict[str, int] = field(default_factory=dict)
    """GPUs by the token of the call that has them."""
    unavailable: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, parameters: dict[str, str]) -> tuple[int, dict[str, object]]:
        """Status and content."""
        with self.lock:
            self.calls.append((path, parameters))
            if path == "/release":
                del self.assigned[parameters["allowToken"]]
            if path != "/schedule":
                return 200, {}
            if self.unavailable:
                return 503, {}
            token = f"token-{len(self.calls)}"
            free = min(set(range(len(self.assigned) + 1)) - set(self.assigned.values()))
            self.assigned[token] = free
            # `idle`: the worker that this GPU had before is still there.
            return 200, {"idle": True, "nvidiaIndex": free, "nvidiaUUID": "0", "allowToken": token}

    def end_workers(self) -> None:
        """End the workers, as the platform does: they wait for calls even when the app has ended."""
        for path, parameters in self.calls:
            if path == "/allow":
                with suppress(ProcessLookupError):
                    os.kill(int(parameters["pid"]), signal.SIGKILL)

    def seconds(self) -> list[int]:
        """Return for how long a GPU was requested, each time."""
        return [
            int(parameters["durationSeconds"])
            for path, parameters in self.calls
            if path == "/schedule"
        ]


class Emulated(NamedTuple):
    """A Space that runs as on ZeroGPU."""

    started: Started
    client: Client
    scheduler: Scheduler


@contextmanager
def zerogpu(
    folder: Path, app: Path = SPACE / "app.py", python: str = sys.executable, **variables: str
) -> Iterator[Emulated]:
    """Start a Space as on ZeroGPU; its files go into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "cgroup").write_text("0::/space\n")
    settings = {
        "AGIT_APP": str(app),
        "SPACES_ZERO_GPU": "true",
        "ZEROGPU_OFFLOAD_DIR": str(folder / "tensors"),
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(folder / "cgroup"),
        **variables,
    }
    scheduler = Scheduler()
    program = Path(__file__).with_name("zerogpu_app.py")
    with (
        _listening(scheduler) as address,
        serve(
            folder / "files", program, python, SPACES_ZERO_DEVICE_API_URL=address, **settings
        ) as started,
    ):
        try:
            client = Client(started.address, verbose=False, download_files=folder / "results")
            yield Emulated(started, client, scheduler)
        finally:
            scheduler.end_workers()


@contextmanager
def _listening(scheduler: Scheduler) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            url = urlsplit(self.path)
            parameters = {name: value[0] for name, value in parse_qs(url.query).items()}
            status, content = scheduler.answer(url.path, parameters)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Not on the test's output: `calls` has it all."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
