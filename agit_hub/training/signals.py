"""Ctrl-C and SIGTERM as a wish to stop, granted at the end of a step."""

import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While entered, the first signal is noted; a second one acts as it always does."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def leave_to_parent(worker: int) -> None:
    """For a loader's worker: a signal to the whole group is the training's to answer.

    The worker ends when the training closes its loader, or is gone.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
