"""Shares of visitors: how many requests, bytes and seconds one address may take from the others."""

import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from cachetools import LRUCache
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from agit_hub.errors import SpaceError
from agit_hub.space.limits import (
    MAX_BUSY_SECONDS,
    MAX_CALLS,
    MAX_IN_FLIGHT,
    MAX_UPLOADED_MEGABYTES,
    WINDOW_SECONDS,
)

_REMEMBERED = 10_000  # addresses

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
InFlight = Callable[[], Iterable[Any]]
"""Returns the requests that are queued or running; each has `client` and `headers`."""


class Allowance:
    """How much each address has spent of a limit, which comes back evenly over `WINDOW_SECONDS`.

    Args:
        limit: What an address may have spent; one that has less may exceed it once.
        clock: Seconds.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._spent = LRUCache[str, tuple[float, float]](_REMEMBERED)
        self._lock = Lock()

    def wait(self, address: str) -> float:
        """Return the seconds until an address may spend again; 0 if it may now."""
        with self._lock:
            return max(0.0, self._now(address) - self._limit) * WINDOW_SECONDS / self._limit

    def spend(self, address: str, amount: float) -> None:
        """Note what an address has spent."""
        with self._lock:
            self._spent[address] = self._now(address) + amount, self._clock()

    def _now(self, address: str) -> float:
        spent, at = self._spent.get(address, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - at) * self._limit / WINDOW_SECONDS)


class Visitors:
    """What visitors have taken."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._busy = Allowance(MAX_BUSY_SECONDS, clock)
        self._calls = Allowance(MAX_CALLS, clock)
        self._bytes = Allowance(MAX_UPLOADED_MEGABYTES * 10**6, clock)
        self._clock = clock

    @contextmanager
    def computing(self, address: str) -> Iterator[None]:
        """Measure the time of a request.

        Raises:
            SpaceError: If the address has used up its share.
        """
        if wait := self._busy.wait(address):
            raise SpaceError(
                f"You have used {MAX_BUSY_SECONDS} seconds of this Space's processor within "
                f"{WINDOW_SECONDS // 60} minutes: try again in {wait + 1:.0f} seconds."
            )
        start = self._clock()
        try:
            yield
        finally:
            self._busy.spend(address, self._clock() - start)

    def call(self, address: str) -> str | None:
        """Count a call, and return why it is refused, if it is."""
        if wait := self._calls.wait(address):
            return (
                f"You have made {MAX_CALLS} calls within {WINDOW_SECONDS // 60} minutes: try again in "
                f"{wait + 1:.0f} seconds."
            )
        self._calls.spend(address, 1)
        return None

    def upload(self, address: str, num_bytes: int) -> str | None:
        """Count the bytes of an upload, and return why it is refused, if it is."""
        if wait := self._bytes.wait(address):
            return (
                f"You have sent {MAX_UPLOADED_MEGABYTES} MB within {WINDOW_SECONDS // 60} minutes: try "
                f"again in {wait + 1:.0f} seconds."
            )
        self._bytes.spend(address, num_bytes)
        return None


class VisitorMiddleware:
    """Refuses requests of visitors that take more than their share, before Gradio reads them.

    Args:
        app: The application.
        visitors: What they have taken.
        in_flight: The requests that Gradio has accepted and not answered.
    """

    def __init__(self, app: Any, visitors: Visitors, in_flight: InFlight) -> None:
        self._app, self._visitors, self._in_flight = app, visitors, in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, as any ASGI application."""
        reason = None
        if scope["type"] == "http" and scope["method"] == "POST":
            address, path = visitor_address(HTTPConnection(scope)), scope["path"].rstrip("/")
            if path.endswith("/queue/join") or "/call/" in path:
                reason = self._too_many(address) or self._visitors.call(address)
            reason = reason or self._visitors.upload(address, 0)
            receive = self._counted(address, receive)
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"detail": reason, "error": reason}, 429)(scope, receive, send)

    def _too_many(self, address: str) -> str | None:
        own = sum(visitor_address(request) == address for request in self._in_flight())
        if own < MAX_IN_FLIGHT:
            return None
        return f"You have {own} requests in this Space already: wait for their results."

    def _counted(self, address: str, receive: Receive) -> Receive:
        async def counted() -> MutableMapping[str, Any]:
            message = await receive()
            self._visitors.upload(address, len(message.get("body", b"")))
            return message

        return counted


def visitor_address(request: Any) -> str:
    """Return a visitor's address: of the connection, or what a proxy of the host's network states."""
    client = getattr(request, "client", None)
    host = str(client.host) if client is not None else ""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded if forwarded and _is_private(host) else host


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:  # a name, or nothing
        return not host
