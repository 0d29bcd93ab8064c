"""Stop a run at the end of a step after Ctrl-C or SIGTERM."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal:
    """Context in which the first signal sets `requested`; a second one acts as usual."""

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only; elsewhere its program decides when to stop.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def ignore_stop_signals(worker_id: int) -> None:
    """Ignore signals in a loader's worker process: the training process handles them for the group.

    The worker exits when the training process closes its loader, or exits.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
