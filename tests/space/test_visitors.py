"""Shares of visitors, and what they are told."""

import asyncio
from collections.abc import Iterator, MutableMapping
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from agit_hub.errors import AgitError, SpaceError
from agit_hub.space.limits import (
    MAX_BUSY_SECONDS,
    MAX_CALLS,
    MAX_IN_FLIGHT,
    MAX_UPLOADED_MEGABYTES,
    WINDOW_SECONDS,
)
from agit_hub.space.messages import guarded, visitor_message
from agit_hub.space.visitors import VisitorMiddleware, Visitors, visitor_address


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _request(host: str, forwarded: str = "") -> Any:
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    return SimpleNamespace(client=SimpleNamespace(host=host), headers=headers)


def test_computing_beyond_the_share_is_refused_until_it_is_back() -> None:
    clock = Clock()
    visitors = Visitors(clock)
    with visitors.computing("a"):
        clock.seconds += MAX_BUSY_SECONDS + 30
    with (
        pytest.raises(SpaceError, match=r"used 600 seconds .* within 10 minutes: .* in 31 seconds"),
        visitors.computing("a"),
    ):
        pass
    with visitors.computing("b"):  # somebody else's share is untouched
        pass
    clock.seconds += 31 * WINDOW_SECONDS / MAX_BUSY_SECONDS
    with visitors.computing("a"):
        pass


def test_uploads_beyond_the_share_are_refused() -> None:
    visitors = Visitors(Clock())
    assert visitors.upload("a", MAX_UPLOADED_MEGABYTES * 10**6 + 1) is None
    assert "You have sent 1000 MB within 10 minutes" in (visitors.upload("a", 1) or "")
    assert visitors.upload("b", 1) is None


def test_calls_beyond_the_share_are_refused_until_it_is_back() -> None:
    clock = Clock()
    visitors = Visitors(clock)
    assert {visitors.call("a") for _ in range(MAX_CALLS + 1)} == {None}
    assert "You have made 6000 calls within 10 minutes" in (visitors.call("a") or "")
    assert visitors.call("b") is None
    clock.seconds += 1
    assert visitors.call("a") is None


def _post(middleware: VisitorMiddleware, path: str, body: bytes = b"") -> int:
    """Return the status of a request of the visitor 8.8.8.8."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [],
        "client": ("8.8.8.8", 1),
    }
    asyncio.run(middleware(scope, receive, send))  # type: ignore[arg-type]
    return int(sent[0]["status"])


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/x/gradio_api/call/translate/"])
def test_requests_in_flight_are_limited_for_each_visitor(path: str) -> None:
    waiting = [_request("8.8.8.8")] * (MAX_IN_FLIGHT - 1) + [_request("9.9.9.9")] * 50
    middleware = VisitorMiddleware(_answer, Visitors(), lambda: waiting)
    assert _post(middleware, path) == 200
    waiting.append(_request("8.8.8.8"))
    assert _post(middleware, path) == 429
    assert _post(middleware, "/gradio_api/upload") == 200


def test_middleware_counts_the_bytes_that_arrive() -> None:
    middleware = VisitorMiddleware(_answer, Visitors(Clock()), list)
    megabytes = bytes(10**8)
    statuses = [_post(middleware, "/gradio_api/upload", megabytes) for _ in range(12)]
    assert statuses == [200] * 11 + [429]


@pytest.mark.parametrize(
    ("host", "forwarded", "expected"),
    [
        ("8.8.8.8", "", "8.8.8.8"),
        ("8.8.8.8", "1.1.1.1", "8.8.8.8"),  # not a proxy of the host's
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),  # what a visitor states comes first
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_visitor_address_is_that_of_the_nearest_proxy(
    host: str, forwarded: str, expected: str
) -> None:
    assert visitor_address(_request(host, forwarded)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SpaceError("/home/joe/.cache/hub/models--a/config.json is bad."), "config.json is bad."),
        (SpaceError("'/home/joe/gradio/ab/a.png' is bad."), "'a.png' is bad."),
        (
            SpaceError("user/model is bad: https://a.org/b/c"),
            "user/model is bad: https://a.org/b/c",
        ),
        (OSError(28, "No space left", "/home/joe/a.png"), "a.png: the disk is full"),
        (AgitError("C:\\Users\\joe\\a.png is bad."), "a.png is bad."),
        (KeyError("/home/joe/secret"), "Something went wrong here"),
    ],
)
def test_visitor_message_shows_no_path_of_the_host(error: Exception, expected: str) -> None:
    message = visitor_message(error)
    assert message.startswith(expected) and "joe" not in message


def test_guarded_messages_are_text_and_not_html() -> None:
    def fail() -> None:
        raise SpaceError("<img src=x> is no label & 'no' file")

    with pytest.raises(gr.Error) as raised:
        guarded(fail, Visitors())()
    assert raised.value.message == "&lt;img src=x> is no label &amp; 'no' file".replace(">", "&gt;")


def test_guarded_steps_are_counted_over_all_and_when_stopped() -> None:
    clock = Clock()
    visitors = Visitors(clock)

    def steps() -> Iterator[int]:
        for number in range(9):
            clock.seconds += 300
            yield number

    run = guarded(steps, visitors)()
    assert [next(run) for _ in range(3)] == [0, 1, 2]
    run.close()
    with pytest.raises(gr.Error, match="used 600 seconds"):
        list(guarded(steps, visitors)())


def test_guarded_steps_that_fail_show_a_message() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise SpaceError("/home/joe/film.mp4 is bad.")

    run = guarded(fail, Visitors())()
    assert next(run) == 1
    with pytest.raises(gr.Error) as raised:
        next(run)
    assert raised.value.message == "film.mp4 is bad."
