"""Requests and responses of a Hub for tests."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from testing.hub_api.storage import Blob, HubError, Scope, Source


@dataclass
class Request:
    """A logged request.

    `status` is 0 until the response starts. `sent` counts the body bytes written to the connection,
    a few megabytes more than received if the client disconnected early.
    """

    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Call:
    """A request as passed to the API's handlers."""

    method: str
    raw_path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    user: str | None = None
    args: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope) -> "Call":
        """Parse a request's head."""
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode()))
        return cls(scope["method"], scope["raw_path"].decode(), query, headers)

    @property
    def base(self) -> str:
        """The URL of this server as the client sees it."""
        return f"http://{self.headers['host']}"

    @property
    def token(self) -> str | None:
        """The request's access token."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body or b"{}")


@dataclass
class Response:
    """A response whose body is part of a source, by default all of it."""

    source: Source
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None

    @property
    def end(self) -> int:
        """The end of the body in the source."""
        if self.stop is None:
            return len(self.source) if isinstance(self.source, bytes) else 0
        return self.stop


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response."""
    body = json.dumps(value, default=str).encode()
    return Response(body, status, {"Content-Type": "application/json", **(headers or {})})


def error_response(error: HubError) -> Response:
    """Return an error response."""
    return json_response({"error": str(error)}, error.status, error.headers)


def file_response(blob: Blob, headers: dict[str, str], byte_range: str | None) -> Response:
    """Return a file, or a range of it."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", byte_range or "")
    if not match or match.groups() == ("", ""):
        return Response(blob.source, 200, headers, 0, blob.size)
    first, last = match.groups()
    start = int(first) if first else max(blob.size - int(last), 0)
    stop = min(int(last) + 1, blob.size) if first and last else blob.size
    if start >= stop:
        return Response(b"", 416, headers | {"Content-Range": f"bytes */{blob.size}"})
    headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
    return Response(blob.source, 206, headers, start, stop)
