"""RetryPolicy: what is retried, for how long, and what is logged and raised. No network is used."""

import errno
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import tenacity
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch.utils.data import DataLoader, Dataset

from agit_hub.data import retry
from agit_hub.data.retry import RetryPolicy
from agit_hub.errors import DataError, DatasetError, FetchError

WHAT, DOING = "the dataset user/images", "fetching a.parquet"


class Clock:
    """A clock that advances only during sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (retry, tenacity, tenacity.nap):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Action:
    """Fails with each of the errors in turn, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= len(self._errors):
            raise self._errors[self.calls - 1]
        return "answer"


class Forever(Action):
    """Fails with the same error each time."""

    def __call__(self) -> str:
        self.calls += 1
        raise self._errors[0]


def _answered(
    status: int, kind: type[HfHubHTTPError] = HfHubHTTPError, **headers: str
) -> HfHubHTTPError:
    request = httpx2.Request("GET", "http://hub/datasets/user/images")
    response = httpx2.Response(status, headers=headers, request=request)
    return kind(f"Client error {status}\nRequest ID: none", response=response)


def _not_in_cache(cause: Exception | None) -> LocalEntryNotFoundError:
    """Return the error that the client raises after falling back to its cache."""
    error = LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub.")
    error.__cause__ = cause
    return error


def _log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "agit_hub.data"]


# Transient errors, and how the log line describes them.
TRANSIENT: dict[str, tuple[Exception, str]] = {
    "refused": (httpx2.ConnectError("Connection refused"), "Connection refused"),
    "too slow": (httpx2.ReadTimeout("The read operation timed out"), "The read operation timed"),
    "cut off": (httpx2.RemoteProtocolError("peer closed the connection"), "peer closed the"),
    "reset": (
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        "[Errno 104] Connection",
    ),
    "of the wrong size": (OSError("Consistency check failed: of size 9"), "Consistency check"),
    "not in the cache either": (_not_in_cache(httpx2.ConnectError("Refused")), "Refused"),
    "busy, not in the cache": (_not_in_cache(_answered(503)), "the Hub responded with status 503"),
    **{
        f"answered {status}": (_answered(status), f"the Hub responded with status {status}")
        for status in (408, 429, 500, 502, 503, 504)
    },
}


@pytest.mark.parametrize("case", TRANSIENT)
def test_retry_transient_error_is_retried_and_logged_once(
    clock: Clock, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    error, expected = TRANSIENT[case]
    action = Action(error, error, error)
    assert RetryPolicy(WHAT, 60)(action, DOING) == "answer"
    assert action.calls == 4 and len(clock.slept) == 3
    (line,) = _log_lines(caplog)
    assert line.startswith(f"{WHAT}: {DOING}: {expected}") and "\n" not in line
    assert line.endswith("; retrying for up to 60 s.")


def test_retry_success_logs_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert RetryPolicy(WHAT, 60)(Action(), DOING) == "answer"
    assert RetryPolicy(WHAT, 60)(lambda: None, DOING) is None
    assert clock.slept == [] == _log_lines(caplog)


def test_retry_each_call_has_its_own_line_and_time(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    policy = RetryPolicy(WHAT, 10)
    for file in ("a", "b"):
        with pytest.raises(FetchError):
            policy(Forever(_answered(503)), f"fetching {file}")
    assert clock.now == pytest.approx(20)
    assert [line.split(": ")[1] for line in _log_lines(caplog)] == ["fetching a", "fetching b"]


@pytest.mark.parametrize("case", TRANSIENT)
def test_retry_persistent_transient_error_raises_with_a_remedy(clock: Clock, case: str) -> None:
    error, expected = TRANSIENT[case]
    action = Forever(error)
    with pytest.raises(FetchError) as caught:
        RetryPolicy(WHAT, 60)(action, DOING)
    message = str(caught.value)
    assert message.startswith(f"{WHAT}: {DOING} failed for 60 s; last error: {expected}")
    assert "--resume" in message and "data.hub_timeout" in message and "\n" not in message
    # Pauses begin at half a second; the last attempt is at the time limit.
    assert clock.now == pytest.approx(60) and 2 < action.calls < 120


def test_retry_zero_seconds_tries_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    action = Forever(_answered(503))
    with pytest.raises(FetchError):
        RetryPolicy(WHAT, 0)(action, DOING)
    assert action.calls == 1 and clock.slept == [] == _log_lines(caplog)


@pytest.mark.parametrize("wrap", [lambda error: error, _not_in_cache], ids=["plain", "in cache"])
def test_retry_after_header_is_respected(
    clock: Clock, wrap: Callable[[Exception], Exception]
) -> None:
    error = wrap(_answered(429, **{"Retry-After": "20"}))
    RetryPolicy(WHAT, 300)(Action(error, error), DOING)
    assert all(20 <= seconds < 40 for seconds in clock.slept) and len(clock.slept) == 2


def test_retry_after_date_is_retried_normally(clock: Clock) -> None:
    error = _answered(429, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert RetryPolicy(WHAT, 60)(Action(error), DOING) == "answer"
    assert 0.5 <= clock.now < 10


def test_retry_after_beyond_the_time_limit_is_clipped(clock: Clock) -> None:
    action = Forever(_answered(429, **{"Retry-After": "3600"}))
    with pytest.raises(FetchError, match="status 429"):
        RetryPolicy(WHAT, 60)(action, DOING)
    assert clock.slept == [pytest.approx(60)] and action.calls == 2


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """An event that is set only after the test."""
    event = threading.Event()
    yield event
    event.set()


def test_retry_hanging_action_raises_after_the_time_limit(never: threading.Event) -> None:
    with pytest.raises(FetchError, match="no response"):
        RetryPolicy(WHAT, 0.3)(never.wait, DOING)


def test_retry_sleeping_client_is_abandoned_and_logged_once(
    never: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The client itself sleeps for Retry-After within the call and logs lines of its own."""

    def sleep_and_log() -> None:
        client = logging.getLogger("huggingface_hub.utils._http")
        client.warning("HTTP Error 429 thrown while requesting GET http://hub\nmore")
        client.warning("Rate limited. Waiting 3601.0s before retry [Retry 1/5].")
        never.wait()

    with pytest.raises(FetchError, match=r"last error: Rate limited. Waiting 3601"):
        RetryPolicy(WHAT, 0.3)(sleep_and_log, DOING)
    (line,) = _log_lines(caplog)
    expected = "HTTP Error 429 thrown while requesting GET http://hub"
    assert line == f"{WHAT}: {DOING}: {expected}; retrying for up to 0.3 s."


def test_retry_client_log_is_redirected_in_its_own_thread_and_during_calls_only() -> None:
    client = logging.getLogger("huggingface_hub")
    shown: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    client.addHandler(handler)
    try:

        def log_in_two_threads() -> None:
            client.warning("in the call")
            elsewhere = threading.Thread(target=client.warning, args=("elsewhere",))
            elsewhere.start()
            elsewhere.join()

        RetryPolicy(WHAT, 60)(log_in_two_threads, DOING)
        client.warning("afterwards")
        assert handler.filters == []
    finally:
        client.removeHandler(handler)
    assert shown == ["elsewhere", "afterwards"]


# Permanent errors, and their remedies.
PERMANENT: dict[str, tuple[Exception, str]] = {
    "a token that is not known": (_answered(401), "hf auth login"),
    "a token that may not": (_answered(403), "status 403: run hf auth login"),
    "terms": (_answered(403, GatedRepoError), "accept its terms on its page"),
    "no repository": (_answered(404, RepositoryNotFoundError), "it is private"),
    "no revision": (_answered(404, RevisionNotFoundError), "check data.*.revision"),
    "no file": (_answered(404, RemoteEntryNotFoundError), "pin a revision that has it"),
    "a bad request": (_answered(400), "the Hub responded with status 400"),
    "offline": (OfflineModeIsEnabled("Cannot reach http://hub"), "run once while online"),
    "offline and not fetched": (_not_in_cache(OfflineModeIsEnabled("no")), "not in the cache"),
    "nothing of its cause": (_not_in_cache(None), "not in the cache"),
    "terms, not in the cache": (_not_in_cache(_answered(403, GatedRepoError)), "accept its terms"),
    "a full disk": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
    "a disk that may not be written": (
        PermissionError(errno.EACCES, "Permission denied", "/x"),
        "/x",
    ),
    "a name that is none": (ValueError("Repo id must be alphanumeric"), "must be alphanumeric"),
}


@pytest.mark.parametrize("case", PERMANENT)
def test_retry_permanent_error_raises_at_once_with_a_remedy(
    clock: Clock, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    error, remedy = PERMANENT[case]
    action = Action(error)
    with pytest.raises(DataError) as caught:
        RetryPolicy(WHAT, 60)(action, DOING)
    message = str(caught.value)
    assert message.startswith(f"{WHAT}: {DOING} failed: ") and remedy in message
    assert message.endswith(".") and not message.endswith("..") and "\n" not in message
    assert action.calls == 1 and clock.slept == [] == _log_lines(caplog)


def test_retry_transient_then_permanent_error_raises(clock: Clock) -> None:
    action = Action(_answered(503), _answered(404, RepositoryNotFoundError))
    with pytest.raises(DataError):
        RetryPolicy(WHAT, 60)(action, DOING)
    assert action.calls == 2


class Failing(Dataset[int]):
    """Each sample raises the same network error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getitem__(self, index: int) -> Any:
        def fail() -> None:
            raise self._error

        return RetryPolicy(WHAT, 0)(fail, DOING)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "kind"),
    [(httpx2.ConnectError("Refused"), FetchError), (PermissionError(13, "No"), DataError)],
    ids=["passing", "lasting"],
)
def test_retry_error_in_a_loader_worker_keeps_type_and_message(
    error: Exception, kind: type[DatasetError], workers: int
) -> None:
    with pytest.raises(DatasetError) as alone:
        Failing(error)[0]
    loader = DataLoader(Failing(error), sampler=itertools.count(), num_workers=workers)  # type: ignore[arg-type]
    with pytest.raises(kind) as caught:
        next(iter(loader))
    assert type(caught.value) is kind is type(alone.value)
    assert str(caught.value) == str(alone.value)
    assert str(caught.value).startswith(f"{WHAT}: {DOING} failed")
