"""Calls whose answers nobody reads leave nothing behind, and do not end the Space."""

from collections.abc import Iterator
from threading import Event

import gradio as gr
import httpx
import pytest
from gradio.queueing import Queue
from gradio_client import Client

from agit_hub.space import pending_messages
from agit_hub.space.pending_messages import PendingMessages, survive_floods

SESSIONS = 4


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Queue, Event]]:
    """Serve an endpoint that waits, with messages for few sessions."""
    monkeypatch.setattr(PendingMessages.__init__, "__defaults__", (SESSIONS,))
    ready = Event()

    def echo(text: str) -> str:
        ready.wait(20)
        return text

    with gr.Blocks() as page:
        gr.api(echo, api_name="echo")
    page.queue(default_concurrency_limit=1)
    survive_floods(page._queue)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield url, page._queue, ready
    ready.set()
    page.close()


def test_flood_of_unread_calls_does_not_stop_the_queue(
    address: tuple[str, Queue, Event],
) -> None:
    url, queue, ready = address
    for number in range(5 * SESSIONS):
        sent = httpx.post(f"{url}gradio_api/call/echo", json={"data": [str(number)]})
        assert sent.status_code == 200
    assert len(queue.pending_messages_per_session) == SESSIONS
    assert len(queue.pending_event_ids_session) <= SESSIONS
    ready.set()
    assert Client(url, verbose=False).predict("still here", api_name="/echo") == "still here"
    assert not queue.stopped


def test_messages_of_a_dropped_session_go_nowhere() -> None:
    queue = Queue(True, gr.Blocks(), 1, None, None, 1)
    messages = pending_messages.PendingMessages(queue, 2)
    for session in "abc":
        queue.pending_event_ids_session[session] = {session}
        messages[session] = messages[session]
    assert list(messages) == ["b", "c"]
    assert list(queue.pending_event_ids_session) == ["b", "c"]
    messages["a"].put_nowait("estimation")
    assert "a" not in messages and len(messages) == 2
