"""A small Hugging Face Hub over HTTP on loopback, for tests with the real client libraries.

It serves models, datasets and spaces to `huggingface_hub`, `datasets` and `HfFileSystem`, accepts
pushes, and simulates faults. Point a client at it with `HF_ENDPOINT` (read at import) or with
`HfApi(endpoint=hub.url)`. Xet is not covered: clients must set `HF_HUB_DISABLE_XET=1`, which brings
the classic LFS upload back. Pull requests are not covered either. A new repository has one empty
commit, where the real Hub's holds a `.gitattributes`.

As a process of its own, which prints its address first:

    python -m testing.hub_server --port 0 --folder FOLDER --repo user/name --kind dataset

`GET /_statistics` returns `{"requests": n, "bytes_sent": n}`, `POST /_faults` takes the
arguments of `Hub.fail` as JSON, and `DELETE /_faults` clears them.
"""

import argparse
import asyncio
import http.client
import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast, get_args
from urllib.parse import unquote

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from testing.hub_api.endpoints import Api
from testing.hub_api.faults import Fault, Faults
from testing.hub_api.messages import Call, Request, Response, json_response
from testing.hub_api.storage import Blob, FaultKind, Kind, Receive, Repo, Scope, Send, read


class _Protocol(H11Protocol):
    """Exposes its transport to the application, which closes it for some faults."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}


class _Connection:
    """The connection of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._transport: asyncio.Transport = scope["state"]["transport"]
        self._receive, self._send = receive, send

    @property
    def broken(self) -> bool:
        return self._transport.is_closing()

    async def read(self) -> bytes | None:
        """Read the request's body; None if the client disconnected."""
        parts = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    async def start(self, status: int, headers: Mapping[str, str], length: int) -> None:
        pairs = [*headers.items(), ("Content-Length", str(length))]
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def close(self) -> None:
        """Close the connection after flushing it."""
        self._transport.close()
        await self._wait_disconnected()

    async def stall(self, seconds: float | None) -> None:
        """Wait for that long, or until the client disconnects."""
        try:
            await asyncio.wait_for(self._wait_disconnected(), seconds)
        except TimeoutError:
            return

    async def _wait_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Hub:
    """A server with its state in memory.

    Args:
        tokens: The user of each token.
        page: Number of entries on a page of a listing.
        port: Port to listen on; 0 takes a free one.
    """

    def __init__(
        self, *, tokens: Mapping[str, str] | None = None, page: int = 1000, port: int = 0
    ) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self._api = Api({"hf_test": "user"} if tokens is None else tokens, page)
        self._faults = Faults()
        self._lock = threading.RLock()  # the state is shared by the server's thread and the test's
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path | None],
        *,
        kind: Kind = "dataset",
        branch: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Add, change or delete (None) files in a new commit, and return its hash.

        Creates the repository, for which alone `private` and `gated` apply, and the branch if needed.
        Files given as a path are served from disk, so they must not change.
        """
        blobs = {name: None if f is None else Blob.of(f) for name, f in files.items()}
        with self._lock:
            repo = self._api.repos.get((kind, repo_id))
            if repo is None:
                repo = Repo(kind, repo_id, private, "auto" if gated else False)
                repo.add("main", {}, "initial commit")
                self._api.repos[kind, repo_id] = repo
            return repo.add(branch, blobs, f"Change {len(blobs)} files").oid

    def files(self, repo_id: str, kind: Kind = "model", revision: str = "main") -> dict[str, bytes]:
        """Return the files of a repository."""
        with self._lock:
            commit = self._api.repos[kind, repo_id].at(revision)
        return {path: blob.content() for path, blob in commit.files.items()}

    def grant(self, repo_id: str, user: str, kind: Kind | None = None) -> None:
        """Let a user read a private or gated repository."""
        with self._lock:
            for repo in self._api.repos.values():
                if repo.name == repo_id and kind in (None, repo.kind):
                    repo.granted.add(user)

    def bytes_sent(self, pattern: str = ".*") -> int:
        """Count the body bytes sent for requests whose path matches (as `re.search` does)."""
        return sum(r.sent for r in list(self.requests) if re.search(pattern, r.path))

    @property
    def faults_served(self) -> int:
        """Number of requests that got a fault."""
        return self._faults.served

    def fail(
        self,
        kind: FaultKind,
        *,
        path: str = ".*",
        method: str | None = None,
        times: int | None = 1,
        after: int = 0,
        status: int = 500,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
        share: float = 0.5,
    ) -> None:
        """Queue a fault for requests whose path matches (as `re.search` does).

        - "status" responds with `status` and `headers`, without handling the request.
        - "refuse" closes the connection before reading the request.
        - "drop" sends `share` of the body and closes the connection.
        - "stall" sends `share` of the body, then nothing for `seconds` (None: until the client
          disconnects), and closes the connection.
        - "truncate" sends `share` of the body as if it were complete. HEAD requests are unaffected.

        A drop or stall of an upload, or of a response without body, sends nothing at all, but the
        request is handled: the response to a successful commit is lost.

        `method` None matches any. The first `after` matching requests pass, the next `times`
        (None: all) fail. Of several matching faults the one queued first applies.
        """
        if kind not in get_args(FaultKind):
            raise ValueError(f"Unknown kind of fault: {kind!r}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must be within [0, 1], not {share}")
        pattern, extra = re.compile(path), dict(headers or {})
        fault = Fault(kind, pattern, method, times, after, status, extra, seconds, share)
        self._faults.add(fault)

    def heal(self) -> None:
        """Clear all faults."""
        self._faults.clear()

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self._port))
        port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        config = uvicorn.Config(
            cast(Any, self._serve),
            interface="asgi3",
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        run = self._run(self._server, listener)
        self._thread = threading.Thread(target=asyncio.run, args=(run,), daemon=True)
        self._thread.start()
        # The socket is listening already, so this waits until the server responds.
        probe = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        probe.request("GET", "/_statistics", headers={"Connection": "close"})
        probe.getresponse().read()
        probe.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._loop and self._server and self._thread
        self._server.should_exit = True
        self._loop.call_soon_threadsafe(self._abort_all, self._server)
        self._thread.join(timeout=10)

    async def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    def _abort_all(self, server: uvicorn.Server) -> None:
        # Ends stalls, which would block the shutdown.
        for connection in list(server.server_state.connections):
            cast(_Protocol, connection).transport.abort()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, connection = Call.of(scope), _Connection(scope, receive, send)
        path = unquote(call.raw_path)
        request = Request(call.method, path, call.headers.get("range"), call.token)
        fault = None
        if path not in ("/_statistics", "/_faults"):
            self.requests.append(request)
            fault = self._faults.take(request)
        if fault and fault.kind == "refuse":
            await connection.close()
            return
        body = await connection.read()
        if body is None:
            return
        call.body = body
        await self._deliver(
            connection, request, self._respond(call, fault), fault, uploaded=bool(body)
        )

    def _respond(self, call: Call, fault: Fault | None) -> Response:
        if fault and fault.kind == "status":
            return json_response({"error": "A simulated fault"}, fault.status, fault.headers)
        if call.raw_path == "/_statistics":
            sent = self.bytes_sent()
            return json_response({"requests": len(self.requests), "bytes_sent": sent})
        if call.raw_path == "/_faults":
            return self._control_faults(call)
        with self._lock:
            return self._api.respond(call)

    def _control_faults(self, call: Call) -> Response:
        try:
            if call.method == "DELETE":
                self.heal()
            else:
                self.fail(**call.json())
        except (TypeError, ValueError, re.error) as error:
            return json_response({"error": str(error)}, 400)
        return json_response({})

    async def _deliver(
        self,
        connection: _Connection,
        request: Request,
        response: Response,
        fault: Fault | None,
        *,
        uploaded: bool,
    ) -> None:
        kind = fault.kind if fault else None
        length = response.end - response.start
        breaks = fault is not None and kind in ("drop", "stall")
        silent = breaks and (uploaded or request.method == "HEAD" or length == 0)
        sent = int(length * fault.share) if fault and kind != "status" else length
        if not silent:
            request.status = response.status
            await connection.start(
                response.status, response.headers, sent if kind == "truncate" else length
            )
            if request.method != "HEAD":
                await self._stream(
                    connection,
                    request,
                    read(response.source, response.start, response.start + sent),
                )
        if fault and breaks:
            if kind == "stall":
                await connection.stall(fault.seconds)
            await connection.close()
        elif connection.broken:
            await connection.close()
        else:
            await connection.write(b"", more=False)

    async def _stream(
        self, connection: _Connection, request: Request, chunks: Iterator[bytes]
    ) -> None:
        for chunk in chunks:
            if connection.broken:
                return
            # Counted first: a test may read it as soon as the client has the last byte.
            request.sent += len(chunk)
            await connection.write(chunk, more=True)


def main() -> None:
    """Serve a folder until a signal."""
    parser = argparse.ArgumentParser(description="Serve a folder as a repository of a small Hub.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repo", default="user/name")
    parser.add_argument("--kind", choices=get_args(Kind), default="dataset")
    options = parser.parse_args()
    # Blocked in every thread, so that sigwait below receives them.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with Hub(port=options.port) as hub:
        if options.folder is not None:
            paths = [path for path in options.folder.rglob("*") if path.is_file()]
            files = {path.relative_to(options.folder).as_posix(): path for path in paths}
            hub.commit(options.repo, files, kind=options.kind)
        print(hub.url, flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
