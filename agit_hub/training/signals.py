"""Stop a run at the end of a step after Ctrl-C or SIGTERM."""

import multiprocessing
import multiprocessing.process
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Ends a loader's worker at once; Windows has none. Slurm announces the end of a job by the other one.
_LEAVE: signal.Signals | None = getattr(signal, "SIGUSR2", None)


class StopOnSignal:
    """Context in which the first signal sets `requested`; a second one acts as usual, at once.

    Python handles signals in the main thread only: in any other one the context does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
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
        if not self.requested:
            self.requested = True
            return
        self._restore()
        # Loader workers would be waited for, and they may be waiting for the network.
        for child in multiprocessing.active_children():
            _end(child)
        signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals_held() -> Iterator[None]:
    """Context in which Ctrl-C and SIGTERM wait, also for the processes that are started in it.

    Until `ignore_first_stop_signal` runs in a new worker, either would end it with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_first_stop_signal(worker_id: int) -> None:
    """Ignore Ctrl-C and the first SIGTERM in a loader's worker: they may be meant for the whole group.

    The training process saves first, and needs its workers for the step under way. A second SIGTERM, by
    which a loader that is closed ends a worker that is busy, ends it at once.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(0)

    def on_terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, leave)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_terminate)
    if _LEAVE is not None:
        signal.signal(_LEAVE, leave)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # see `stop_signals_held`


def _end(worker: multiprocessing.process.BaseProcess) -> None:
    """End a worker that waits for the signal; others end when their loader is closed, in seconds."""
    # One that is killed counts as a failure: PyTorch would raise it in place of the interruption.
    if _LEAVE is not None and worker.pid is not None and _catches(worker.pid, _LEAVE):
        os.kill(worker.pid, _LEAVE)


def _catches(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, as far as the system tells."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (number - 1) & 1)
