"""Bad networks, without any: what is tried again, for how long, and what is said of it."""

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
    """Time that passes only while somebody sleeps."""

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
    """As the client raises it when it has looked into its cache in the place of the Hub."""
    error = LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub.")
    error.__cause__ = cause
    return error


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "agit_hub.data"]


# What passes, and how the one line tells it.
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


@pytest.mark.parametrize("trouble", TRANSIENT)
def test_what_passes_is_tried_again_with_one_line_in_the_log(
    clock: Clock, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    error, told = TRANSIENT[trouble]
    action = Action(error, error, error)
    assert RetryPolicy(WHAT, 60)(action, DOING) == "answer"
    assert action.calls == 4 and len(clock.slept) == 3
    (line,) = _said(caplog)
    assert line.startswith(f"{WHAT}: {DOING}: {told}") and "\n" not in line
    assert line.endswith("; retrying for up to 60 s.")


def test_what_succeeds_at_once_says_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert RetryPolicy(WHAT, 60)(Action(), DOING) == "answer"
    assert RetryPolicy(WHAT, 60)(lambda: None, DOING) is None
    assert clock.slept == [] == _said(caplog)


def test_each_call_has_a_line_and_a_wait_of_its_own(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    patient = RetryPolicy(WHAT, 10)
    for file in ("a", "b"):
        with pytest.raises(FetchError):
            patient(Forever(_answered(503)), f"fetching {file}")
    assert clock.now == pytest.approx(20)
    assert [line.split(": ")[1] for line in _said(caplog)] == ["fetching a", "fetching b"]


@pytest.mark.parametrize("trouble", TRANSIENT)
def test_a_network_that_stays_bad_is_given_up_on_with_what_to_do(
    clock: Clock, trouble: str
) -> None:
    error, told = TRANSIENT[trouble]
    action = Forever(error)
    with pytest.raises(FetchError) as caught:
        RetryPolicy(WHAT, 60)(action, DOING)
    said = str(caught.value)
    assert said.startswith(f"{WHAT}: {DOING} failed for 60 s; last error: {told}")
    assert "--resume" in said and "data.hub_timeout" in said and "\n" not in said
    # At first at least half a second apart, at last tried once more when the time is up.
    assert clock.now == pytest.approx(60) and 2 < action.calls < 120


def test_without_patience_it_is_tried_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    action = Forever(_answered(503))
    with pytest.raises(FetchError):
        RetryPolicy(WHAT, 0)(action, DOING)
    assert action.calls == 1 and clock.slept == [] == _said(caplog)


@pytest.mark.parametrize("wrap", [lambda error: error, _not_in_cache], ids=["plain", "in cache"])
def test_a_server_is_left_alone_for_as_long_as_it_asks(
    clock: Clock, wrap: Callable[[Exception], Exception]
) -> None:
    error = wrap(_answered(429, **{"Retry-After": "20"}))
    RetryPolicy(WHAT, 300)(Action(error, error), DOING)
    assert all(20 <= seconds < 40 for seconds in clock.slept) and len(clock.slept) == 2


def test_a_server_that_names_a_date_is_asked_again_all_the_same(clock: Clock) -> None:
    error = _answered(429, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert RetryPolicy(WHAT, 60)(Action(error), DOING) == "answer"
    assert 0.5 <= clock.now < 10


def test_a_server_that_asks_for_an_hour_does_not_get_it(clock: Clock) -> None:
    action = Forever(_answered(429, **{"Retry-After": "3600"}))
    with pytest.raises(FetchError, match="status 429"):
        RetryPolicy(WHAT, 60)(action, DOING)
    assert clock.slept == [pytest.approx(60)] and action.calls == 2


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What is waited for in vain until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_an_action_that_never_comes_back_is_left_behind(never: threading.Event) -> None:
    with pytest.raises(FetchError, match="no response"):
        RetryPolicy(WHAT, 0.3)(never.wait, DOING)


def test_a_client_that_sleeps_as_long_as_it_is_told_is_left_behind_and_heard_once(
    never: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The client obeys Retry-After itself, within the call, and says so in lines of its own."""

    def sleep_and_tell() -> None:
        client = logging.getLogger("huggingface_hub.utils._http")
        client.warning("HTTP Error 429 thrown while requesting GET http://hub\nmore")
        client.warning("Rate limited. Waiting 3601.0s before retry [Retry 1/5].")
        never.wait()

    with pytest.raises(FetchError, match=r"last error: Rate limited. Waiting 3601"):
        RetryPolicy(WHAT, 0.3)(sleep_and_tell, DOING)
    (line,) = _said(caplog)
    told = "HTTP Error 429 thrown while requesting GET http://hub"
    assert line == f"{WHAT}: {DOING}: {told}; retrying for up to 0.3 s."


# What will not pass, and what to do about it.
LASTING: dict[str, tuple[Exception, str]] = {
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


@pytest.mark.parametrize("trouble", LASTING)
def test_what_will_not_pass_is_told_at_once_with_what_to_do(
    clock: Clock, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    error, remedy = LASTING[trouble]
    action = Action(error)
    with pytest.raises(DataError) as caught:
        RetryPolicy(WHAT, 60)(action, DOING)
    said = str(caught.value)
    assert said.startswith(f"{WHAT}: {DOING} failed: ") and remedy in said
    assert said.endswith(".") and not said.endswith("..") and "\n" not in said
    assert action.calls == 1 and clock.slept == [] == _said(caplog)


def test_what_turns_into_a_lasting_error_is_given_up_then(clock: Clock) -> None:
    action = Action(_answered(503), _answered(404, RepositoryNotFoundError))
    with pytest.raises(DataError):
        RetryPolicy(WHAT, 60)(action, DOING)
    assert action.calls == 2


class Failing(Dataset[int]):
    """Each sample meets the same trouble on the network."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getitem__(self, index: int) -> Any:
        def fail() -> None:
            raise self._error

        return RetryPolicy(WHAT, 0)(fail, DOING)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(httpx2.ConnectError("Refused"), FetchError), (PermissionError(13, "No"), DataError)],
    ids=["passing", "lasting"],
)
def test_an_error_comes_out_of_a_loaders_worker_as_its_one_sentence(
    trouble: Exception, kind: type[DatasetError], workers: int
) -> None:
    with pytest.raises(DatasetError) as alone:
        Failing(trouble)[0]
    loader = DataLoader(Failing(trouble), sampler=itertools.count(), num_workers=workers)  # type: ignore[arg-type]
    with pytest.raises(kind) as caught:
        next(iter(loader))
    assert type(caught.value) is kind is type(alone.value)
    assert str(caught.value) == str(alone.value)
    assert str(caught.value).startswith(f"{WHAT}: {DOING} failed")
