"""Bad networks: tried again with growing pauses, up to a total wait, with one line in the log."""

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

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

Answer = TypeVar("Answer")

_log = logging.getLogger("agit_hub.data")
# Seconds before the next attempt: longer each time, and not in step with other processes.
_PAUSE = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 1)
_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}


class RetryPolicy:
    """Calls to the Hub that outlast its bad moments.

    Args:
        what: What is being read or written, for messages.
        seconds: How long a call may take in all, with every retry of ours and of the client's.
        gave_up: What to raise if the network stays bad.
        refused: What to raise if trying again cannot help.
        remedy: What a person can do when the network stayed bad.
        also: Further answers of the Hub after which another attempt may help.
    """

    def __init__(
        self,
        what: str,
        seconds: float,
        *,
        gave_up: type[Exception] = FetchError,
        refused: type[Exception] = DataError,
        remedy: str = "Go on with --resume when the network is back; data.network_patience says how "
        "long to wait.",
        also: frozenset[int] = frozenset(),
    ) -> None:
        self.what = what
        self.seconds = seconds
        self._gave_up = gave_up
        self._refused = refused
        self._remedy = remedy
        self._also = also

    def __call__(self, action: Callable[[], Answer], doing: str) -> Answer:
        """Do something over the network until it succeeds.

        Args:
            action: May be done any number of times.
            doing: What it is, for messages: "fetching train.parquet".

        Raises:
            DataError: (or `refused`) If trying again cannot help: a wrong name, no access, offline.
            FetchError: (or `gave_up`) If the network stays bad for `seconds`.
        """
        episode = _Episode(self, doing)
        retrying = Retrying(
            retry=retry_if_exception(self._may_pass),
            stop=stop_after_delay(self.seconds),
            wait=episode.pause,
            before_sleep=episode.note_attempt,
            reraise=True,
        )
        try:
            answer: Answer = retrying(episode.attempt, action)
        except Exception as error:
            if self._may_pass(error):
                raise self._gave_up(
                    f"{self.what}: {doing} failed for {episode.elapsed():.0f} s, at last with: "
                    f"{reason(error)}. {self._remedy}".rstrip()
                ) from error
            raise self._refused(f"{self.what}: {doing} failed: {_remedy(error)}") from error
        return answer

    def _may_pass(self, error: BaseException) -> bool:
        overtaken = isinstance(error, HfHubHTTPError) and error.response.status_code in self._also
        return overtaken or is_transient(error)


class _Episode:
    """One call and its retries."""

    def __init__(self, patience: RetryPolicy, doing: str) -> None:
        self._patience = patience
        self._doing = doing
        self._start = time.monotonic()
        self._said = False
        self._last = "no answer"

    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def attempt(self, action: Callable[[], Answer]) -> Answer:
        """Do it in a thread that can be left behind: the client sleeps as long as a server asks."""
        left = max(self._patience.seconds - self.elapsed(), 0.1)
        answers: list[Answer] = []
        errors: list[Exception] = []

        def act() -> None:
            _listener.episode = self
            try:
                answers.append(action())
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        thread.join(left)
        if errors:
            raise _bare(errors[0])
        if not answers:
            raise TimeoutError(self._last)
        return answers[0]

    def pause(self, state: RetryCallState) -> float:
        """Longer each time, as long as the server asks, and never beyond the end."""
        error = state.outcome.exception() if state.outcome else None
        asked = _retry_after(error) if error is not None else 0.0
        wanted = max(_PAUSE(state), asked)
        return max(min(wanted, self._patience.seconds - self.elapsed()), 0.0)

    def note_attempt(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None:
            self.say(reason(error))

    def say(self, what_happened: str) -> None:
        """One line, however often it is tried."""
        self._last = what_happened
        if not self._said:
            self._said = True
            _log.warning(
                "%s: %s: %s; trying again for up to %g s.",
                self._patience.what,
                self._doing,
                what_happened,
                self._patience.seconds,
            )


class _Listener(logging.Handler):
    """Hears the client's many lines about its own retries, and makes one of them."""

    _local = threading.local()

    @property
    def episode(self) -> _Episode | None:
        return getattr(self._local, "episode", None)

    @episode.setter
    def episode(self, episode: _Episode) -> None:
        self._local.episode = episode

    def emit(self, record: logging.LogRecord) -> None:
        if self.episode is not None:
            self.episode.say(record.getMessage().splitlines()[0])

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


class _Elsewhere(logging.Filter):
    """Keeps from other handlers what the listener has heard."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _listener.episode is None


_listener = _Listener()
_client = logging.getLogger("huggingface_hub")
for _handler in _client.handlers:
    _handler.addFilter(_Elsewhere())
_client.addHandler(_listener)


def _bare(error: Exception) -> Exception:
    """What went wrong, without what the client wraps around it: "Error while uploading"."""
    cause = error.__cause__
    return _bare(cause) if type(error) is RuntimeError and isinstance(cause, Exception) else error


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, LocalEntryNotFoundError):
        # What it found instead of the file: the reason for looking into the cache at all.
        return error.__cause__ is not None and is_transient(error.__cause__)
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT_STATUS
    if isinstance(error, OfflineModeIsEnabled | FileNotFoundError):
        return False
    # A disk that refuses has a number; a download of the wrong size is an OSError without one.
    is_disk = isinstance(error, OSError) and error.errno is not None
    # An answer that breaks off in the middle is no JSON.
    network = isinstance(
        error, httpx2.TransportError | TimeoutError | ConnectionError | json.JSONDecodeError
    )
    return network or (isinstance(error, OSError) and not is_disk)


def reason(error: BaseException) -> str:
    """An error's first line, without what only its author can read."""
    if isinstance(error, json.JSONDecodeError):
        return "the answer breaks off"
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answers {error.response.status_code}"
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return reason(error.__cause__)
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _retry_after(error: BaseException) -> float:
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return _retry_after(error.__cause__)
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    try:
        return float(error.response.headers.get("Retry-After", 0))
    except ValueError:  # a date
        return 0.0


def _remedy(error: BaseException) -> str:
    """What to do about an error that will not go away."""
    if isinstance(error, LocalEntryNotFoundError):
        cause: Any = error.__cause__
        if cause is not None and not isinstance(cause, OfflineModeIsEnabled):
            return _remedy(cause)
        return "it is not in the cache, and HF_HUB_OFFLINE is set: run once while online."
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set and it was never read before: run once while online."
    if isinstance(error, GatedRepoError):
        return "its terms must be accepted on its page, and then: hf auth login (or set HF_TOKEN)."
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision: check data.*.revision."
    if isinstance(error, RepositoryNotFoundError):
        return (
            "it does not exist, or it is private: check the name; for a private one, hf auth login "
            "(or set HF_TOKEN)."
        )
    if isinstance(error, EntryNotFoundError):
        return "the Hub has no such file any more: pin a revision that has it."
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return (
            f"the Hub refuses ({error.response.status_code}): hf auth login with a token that has "
            "the right, or set HF_TOKEN."
        )
    return f"{reason(error)}."
