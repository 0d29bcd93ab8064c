"""Requests and answers of a Hub for tests."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from testing.hub_api.storage import Blob, HubError, Scope, Source


@dataclass
class Request:
    """A request as logged.

    `status` is 0 until an answer is on its way. `sent` counts the body bytes handed to the
    connection, a few megabytes more than arrived if the client left early.
    """

    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Call:
    """A request as the API's handlers see it."""

    method: str
    raw_path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    user: str | None = None
    args: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope) -> "Call":
        """Read a request's head."""
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode()))
        return cls(scope["method"], scope["raw_path"].decode(), query, headers)

    @property
    def base(self) -> str:
        """The address by which the client knows this server."""
        return f"http://{self.headers['host']}"

    @property
    def token(self) -> str | None:
        """The token that came along."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body or b"{}")


@dataclass
class Answer:
    """What to send: a part of a source, all of it by default."""

    source: Source
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None

    @property
    def end(self) -> int:
        """Where in the source the body ends."""
        if self.stop is None:
            return len(self.source) if isinstance(self.source, bytes) else 0
        return self.stop


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    body = json.dumps(value, default=str).encode()
    return Answer(body, status, {"Content-Type": "application/json", **(headers or {})})


def answer_error(error: HubError) -> Answer:
    """Answer with an error."""
    return answer_json({"error": str(error)}, error.status, error.headers)


def answer_file(blob: Blob, headers: dict[str, str], wanted: str | None) -> Answer:
    """Answer with a file, or with the one range of it that is asked for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not match or match.groups() == ("", ""):
        return Answer(blob.source, 200, headers, 0, blob.size)
    first, last = match.groups()
    start = int(first) if first else max(blob.size - int(last), 0)
    stop = min(int(last) + 1, blob.size) if first and last else blob.size
    if start >= stop:
        return Answer(b"", 416, headers | {"Content-Range": f"bytes */{blob.size}"})
    headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
    return Answer(blob.source, 206, headers, start, stop)
