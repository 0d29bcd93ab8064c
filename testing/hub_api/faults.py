"""Simulated faults of a Hub for tests."""

import re
import threading
from dataclasses import dataclass

from testing.hub_api.messages import Request
from testing.hub_api.storage import FaultKind


@dataclass
class Fault:
    """A queued fault; see `Hub.fail`."""

    kind: FaultKind
    path: re.Pattern[str]
    method: str | None
    times: int | None
    after: int
    status: int
    headers: dict[str, str]
    seconds: float | None
    share: float

    def matches(self, request: Request) -> bool:
        """Return whether the fault applies to a request."""
        if self.kind == "truncate" and request.method == "HEAD":
            return False  # no body to truncate
        method = self.method or request.method
        return method.upper() == request.method and bool(self.path.search(request.path))


class Faults:
    """The queue of faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[Fault] = []
        self.served = 0

    def add(self, fault: Fault) -> None:
        """Queue a fault."""
        with self._lock:
            self._queue.append(fault)

    def clear(self) -> None:
        """Clear the queue."""
        with self._lock:
            self._queue.clear()

    def take(self, request: Request) -> Fault | None:
        """Return the first fault that applies, and count the request for those that let it pass."""
        with self._lock:
            for fault in self._queue:
                if not fault.matches(request):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        self._queue.remove(fault)
                self.served += 1
                return fault
        return None
