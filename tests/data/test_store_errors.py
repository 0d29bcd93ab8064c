"""HubStore: access, network faults and a full disk."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agit_hub.data.config import DomainConfig
from agit_hub.data.load import Loading, load_domain
from agit_hub.errors import DataError, FetchError
from testing.hub_server import Hub
from tests.data.hub_store import MEGABYTE, NAME, REPO, cached, log_lines, open_store
from tests.online import connect


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path)


# Access.


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda token: monkeypatch.setenv("HF_TOKEN", token)


def test_hub_store_private_dataset_needs_a_token(hub: Hub, token: Callable[[str], None]) -> None:
    hub.commit(REPO, {"a.txt": b"a"}, private=True)
    with pytest.raises(DataError, match=f"{NAME}: .*it is private.*HF_TOKEN"):
        open_store()
    token("hf_unknown")
    with pytest.raises(DataError, match="HF_TOKEN"):
        open_store()
    token("hf_test")
    store = open_store()
    assert store.fetch("a.txt").read_bytes() == b"a"
    hub.commit(REPO, {"b.txt": b"b"})
    with open_store().open("b.txt") as file:
        assert file.read() == b"b"


def test_hub_store_gated_dataset_needs_accepted_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: Callable[[str], None]
) -> None:
    with Hub(tokens={"hf_test": "user", "hf_other": "other"}) as hub:
        connect(monkeypatch, hub.url, tmp_path)
        hub.commit(REPO, {"a.txt": b"a"}, gated=True)
        for value in ("", "hf_other"):
            token(value)
            with pytest.raises(DataError, match="accept its terms on its page") as caught:
                open_store().fetch("a.txt")
            assert str(caught.value).startswith(f"{NAME}: ")
            with (
                pytest.raises(DataError, match="accept its terms on its page"),
                open_store().open("a.txt") as file,
            ):
                file.read()
        hub.grant(REPO, "other")
        assert open_store().fetch("a.txt").read_bytes() == b"a"


def test_hub_store_unknown_repo_revision_or_file_raises(hub: Hub) -> None:
    with pytest.raises(DataError, match=f"{NAME}: .*it is private"):
        open_store()
    hub.commit(REPO, {"a.txt": b"a"})
    with pytest.raises(DataError, match=r"the revision does not exist: check data\.\*\.revision"):
        open_store("nowhere")
    with pytest.raises(DataError, match=r"fetching b\.txt failed: .*no longer on the Hub"):
        open_store().fetch("b.txt")


def test_hub_store_permanent_error_is_not_retried(hub: Hub) -> None:
    with pytest.raises(DataError):
        open_store()
    assert len(hub.requests) == 1


# Network faults.


FAULTS: dict[str, dict[str, Any]] = {
    "a drop": {"kind": "drop"},
    "a stall": {"kind": "stall"},
    "a busy server": {"kind": "status", "status": 503},
    "an error": {"kind": "status", "status": 500},
    "a limit": {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
    "a short answer": {"kind": "truncate"},
    "a refusal": {"kind": "refuse"},
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A fault that is over by the next attempt."""
    return FAULTS[request.param]


def test_hub_store_fetch_with_network_fault_is_complete(
    hub: Hub, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"a.bin": content})
    store = open_store()
    hub.fail(**fault, path="a.bin", method="GET")
    assert store.fetch("a.bin").read_bytes() == content
    assert hub.faults_served == 1
    (line,) = log_lines(caplog)
    assert line.startswith(f"{NAME}: fetching a.bin: ") and "\n" not in line


def test_hub_store_open_with_network_fault_reads_right_bytes(
    hub: Hub, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"a.bin": content})
    with open_store().open("a.bin") as file:
        hub.fail(**fault, path="a.bin", method="GET", share=0.01)
        file.seek(1000)
        assert file.read(5000) == content[1000:6000]
        assert file.read(5) == content[6000:6005]
    assert hub.faults_served == 1
    (line,) = log_lines(caplog)
    assert line.startswith(f"{NAME}: reading a.bin: ")


def test_hub_store_list_with_network_fault_is_complete(hub: Hub, fault: dict[str, Any]) -> None:
    commit = hub.commit(REPO, {f"{number}.txt": b"x" for number in range(10)})
    hub.fail(**fault, path="/api/datasets/", method="GET")
    store = open_store(hub_timeout=4)
    assert (store.revision, len(store.files)) == (commit, 10)
    assert hub.faults_served == 1


def test_hub_store_fetch_truncated_file_raises_and_caches_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, {"a.bin": os.urandom(MEGABYTE)})
    store = open_store(hub_timeout=0.5)
    hub.fail("truncate", path="a.bin", method="GET", times=None)
    with pytest.raises(FetchError, match=r"fetching a\.bin failed .*should be of size 1048576"):
        store.fetch("a.bin")
    assert cached(tmp_path) == []


def test_hub_store_fetch_full_disk_raises_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    hub.commit(REPO, {"a.bin": b"a"})
    store = open_store()
    monkeypatch.setattr("huggingface_hub.file_download.http_get", refuse)
    with pytest.raises(DataError, match=r"fetching a\.bin failed: .*No space left on device"):
        store.fetch("a.bin")


# A path that may have meant a folder.


def test_load_domains_missing_folder_names_both_readings(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "horse").mkdir(parents=True)
    config = DomainConfig("photos/horses")
    with pytest.raises(DataError, match="on the Hub") as raised:
        load_domain(config, Loading(16, 5))
    folder = f"There is no folder {tmp_path / 'photos' / 'horses'}"
    assert str(raised.value).startswith(folder) and "photos/horse?" in str(raised.value)
    assert folder in caplog.text


def test_load_domains_missing_folder_without_network_names_both_readings(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hub.fail("refuse", times=100)
    with pytest.raises(FetchError, match=r"There is no folder .*photos/horses, and .*Hub"):
        load_domain(DomainConfig("photos/horses"), Loading(16, 0.1))
