"""Messages for the sessions of visitors, of which a flood of calls must not end the Space."""

from asyncio import Queue as AsyncQueue
from typing import Any

from gradio.queueing import Queue
from gradio.utils import LRUCache

from agit_hub.space.limits import MAX_SESSIONS


class PendingMessages(LRUCache[str, "AsyncQueue[Any]"]):
    """Gradio's unread messages of each session, the oldest of which are dropped.

    A call whose answer nobody reads leaves its session behind. Gradio keeps a few thousand and drops the
    oldest; but when an event of a dropped session waits, its queue fails with a KeyError and stops for
    good, and every visitor is told that the server has stopped. Here messages to such a session go
    nowhere, and nothing of it is kept.

    Args:
        queue: The queue whose sessions these are.
        max_size: Sessions.
    """

    def __init__(self, queue: Queue, max_size: int = MAX_SESSIONS) -> None:
        super().__init__(max_size)
        self._event_ids = queue.pending_event_ids_session

    def __missing__(self, session: str) -> "AsyncQueue[Any]":
        return AsyncQueue()

    def __setitem__(self, session: str, messages: "AsyncQueue[Any]") -> None:
        if session not in self and len(self) >= self.max_size:
            self._event_ids.pop(next(iter(self)), None)  # of the one that is dropped now
        super().__setitem__(session, messages)


def survive_floods(queue: Queue) -> None:
    """Make a queue survive calls whose answers are not read. Called before it starts."""
    queue.pending_messages_per_session = PendingMessages(queue)
