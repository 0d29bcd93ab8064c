"""Retry calls to the Hub with growing pauses, up to a total time, with one line in the log."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_exponential, wait_random

from agit_hub.errors import DataError, FetchError
from agit_hub.logging import get_logger

Answer = TypeVar("Answer")

_log = get_logger("agit_hub.data")
# Seconds before the next attempt: longer each time, with jitter so that processes do not retry in step.
_PAUSE = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 1)
_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
# An invalid JSON document is a truncated response.
_TRANSIENT = (httpx2.TransportError, TimeoutError, ConnectionError, json.JSONDecodeError)
_OFFLINE = "HF_HUB_OFFLINE is set and it is not in the cache: run once while online."
_REMEDIES: tuple[tuple[type[Exception], str], ...] = (
    (LocalEntryNotFoundError, _OFFLINE),
    (OfflineModeIsEnabled, _OFFLINE),
    (GatedRepoError, "accept its terms on its page, then run hf auth login (or set HF_TOKEN)."),
    (RevisionNotFoundError, "the revision does not exist: check data.*.revision."),
    (
        RepositoryNotFoundError,
        "it does not exist, or it is private: check the name, or run hf auth login (or set HF_TOKEN).",
    ),
    (EntryNotFoundError, "the file is no longer on the Hub: pin a revision that has it."),
)


@dataclass(frozen=True)
class RetryPolicy:
    """Retry calls to the Hub while they fail with transient errors."""

    resource: str
    """What is being read or written, for messages."""
    seconds: float
    """Total time for a call, including retries by the Hub client itself."""
    timeout_error: type[Exception] = FetchError
    """Exception to raise if transient errors persist."""
    permanent_error: type[Exception] = DataError
    """Exception to raise if a retry cannot help."""
    remedy: str = "Continue with --resume later; data.hub_timeout sets how long to retry."
    """What the user can do if transient errors persist."""
    extra_statuses: frozenset[int] = frozenset()
    """Further HTTP status codes to retry."""

    def __call__(self, action: Callable[[], Answer], operation: str) -> Answer:
        """Call `action` until it succeeds.

        Args:
            action: May be called any number of times.
            operation: What it does, for messages: "fetching train.parquet".

        Raises:
            DataError: (or `permanent_error`) If a retry cannot help: a wrong name, no access, offline.
            FetchError: (or `timeout_error`) If transient errors persist for `seconds`.
        """
        state = _RetryState(self, operation)
        retrying = Retrying(
            retry=retry_if_exception(self._should_retry),
            stop=stop_after_delay(self.seconds),
            wait=state.pause,
            before_sleep=lambda _: state.log(_reason(state.error)),
            reraise=True,
        )
        try:
            answer: Answer = retrying(state.attempt, action)
        except Exception as error:
            if self._should_retry(error):
                raise self.timeout_error(
                    f"{self.resource}: {operation} failed for {state.elapsed():.0f} s; last error: "
                    f"{_reason(error)}. {self.remedy}".rstrip()
                ) from error
            raise self.permanent_error(
                f"{self.resource}: {operation} failed: {_remedy(error)}"
            ) from error
        return answer

    def _should_retry(self, error: BaseException) -> bool:
        return _is_transient(_unwrap(error), self.extra_statuses)


class _RetryState:
    """One call and its retries."""

    def __init__(self, policy: RetryPolicy, operation: str) -> None:
        self._policy = policy
        self._operation = operation
        self._start = time.monotonic()
        self._logged = False
        self._last = "no response"
        self.error = Exception()

    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def attempt(self, action: Callable[[], Answer]) -> Answer:
        """Call `action` in a thread that can be abandoned: the client sleeps as long as a server asks."""
        left = max(self._policy.seconds - self.elapsed(), 0.1)
        future: Future[Answer] = Future()

        def call() -> None:
            try:
                with _redirected_client_log(self.log):
                    future.set_result(action())
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        try:
            if not wait([future], left).done:
                raise TimeoutError(self._last)
            return future.result()
        except Exception as error:
            self.error = error
            raise

    def pause(self, state: RetryCallState) -> float:
        """Return the seconds to wait: as long as the server asks, but never beyond the end."""
        pause = max(_PAUSE(state), _retry_after(self.error))
        return max(min(pause, self._policy.seconds - self.elapsed()), 0.0)

    def log(self, reason: str) -> None:
        """Log one line for all attempts."""
        self._last = reason
        if not self._logged:
            self._logged = True
            resource, seconds = self._policy.resource, self._policy.seconds
            _log.warning(
                "%s: %s: %s; retrying for up to %g s.", resource, self._operation, reason, seconds
            )


@contextmanager
def _redirected_client_log(log: Callable[[str], None]) -> Iterator[None]:
    """Pass the Hub client's warnings in this thread, about its own retries, to `log` instead."""
    thread = threading.get_ident()

    def redirect(record: logging.LogRecord) -> bool:
        if record.thread != thread or record.levelno < logging.WARNING:
            return True
        log(record.getMessage().splitlines()[0])
        return False

    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(redirect)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(redirect)


def _unwrap(error: BaseException) -> BaseException:
    """Return the cause of an error that the client wraps: "Error while uploading", "not in the cache"."""
    cause = error.__cause__
    wraps = type(error) is RuntimeError or isinstance(error, LocalEntryNotFoundError)
    return _unwrap(cause) if wraps and isinstance(cause, Exception) else error


def _is_transient(error: BaseException, extra_statuses: frozenset[int]) -> bool:
    """Return whether a retry may help; `extra_statuses` are further HTTP status codes to retry."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT_STATUS | extra_statuses
    if isinstance(error, OfflineModeIsEnabled | FileNotFoundError):
        return False
    # A download of the wrong size is an OSError without a number; an error of the disk has one.
    return isinstance(error, _TRANSIENT) or (isinstance(error, OSError) and error.errno is None)


def _reason(error: BaseException) -> str:
    """Return the first line of an error, or a description of it."""
    error = _unwrap(error)
    if isinstance(error, json.JSONDecodeError):
        return "the response is truncated"
    if isinstance(error, HfHubHTTPError):
        return f"the Hub responded with status {error.response.status_code}"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _retry_after(error: BaseException) -> float:
    error = _unwrap(error)
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    try:
        return float(error.response.headers.get("Retry-After", 0))
    except ValueError:  # a date
        return 0.0


def _remedy(error: BaseException) -> str:
    """Return what the user can do about a permanent error."""
    error = _unwrap(error)
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind):
            return remedy
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"{_reason(error)}: run hf auth login with a token that has access, or set HF_TOKEN."
    return f"{_reason(error)}."
