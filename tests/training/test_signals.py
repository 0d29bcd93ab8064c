"""Signals: the first one stops a run after its step, the second one at once."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.process import BaseProcess

import pytest

from agit_hub.training.signals import (
    StopOnSignal,
    ignore_first_stop_signal,
    stop_signals_held,
)
from tests.training.conftest import Process


def _stubborn(ready: "multiprocessing.synchronize.Event") -> None:
    """A worker that waits for something that never comes, such as an answer of the network."""
    ignore_first_stop_signal(0)
    ready.set()
    while True:
        signal.pause()


def _start_worker() -> BaseProcess:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_stubborn, args=(ready,), daemon=True)
    worker.start()
    ready.wait()
    return worker


def _stop_twice() -> None:
    worker = _start_worker()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.monotonic()
    try:
        with StopOnSignal() as signals:
            signal.raise_signal(signal.SIGINT)
            print("requested", signals.requested, "worker", worker.is_alive())
            signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        worker.join()
        print("interrupted, worker", worker.exitcode, time.monotonic() - start < 60, flush=True)


def test_second_signal_ends_workers_and_interrupts(process: type[Process]) -> None:
    code, log, printed = process([], function=_stop_twice).finish()
    assert code == 0, log
    assert printed.splitlines() == [
        "requested True worker True",
        "interrupted, worker 0 True",
    ]


def test_worker_survives_signals_of_its_group_and_obeys_its_loader() -> None:
    worker = _start_worker()
    assert worker.pid is not None
    # A worker that died of one of these would end here, and the second SIGTERM would find nobody.
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(0.2)
    assert worker.is_alive()
    worker.terminate()
    worker.join()
    assert worker.exitcode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_on_signal_in_another_thread_leaves_handlers(number: signal.Signals) -> None:
    before, found = signal.getsignal(number), []

    def enter() -> None:
        with StopOnSignal() as signals:
            found.append((signals.requested, signal.getsignal(number)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def _starting(sent: "multiprocessing.synchronize.Event") -> None:
    """A worker that is not ready when the signals of its group arrive."""
    sent.wait()
    ignore_first_stop_signal(0)
    os._exit(7)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_worker_that_starts_survives_signals_of_its_group(number: signal.Signals) -> None:
    context = multiprocessing.get_context("fork")
    sent = context.Event()
    worker = context.Process(target=_starting, args=(sent,), daemon=True)
    # A shell's background jobs ignore Ctrl-C, and their children inherit it.
    before = signal.signal(number, signal.SIG_DFL)
    with stop_signals_held():
        worker.start()
    signal.signal(number, before)
    assert worker.pid is not None
    os.kill(worker.pid, number)
    sent.set()
    worker.join()
    assert worker.exitcode == 7
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
