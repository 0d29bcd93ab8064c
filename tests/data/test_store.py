"""HubStore and FolderStore: list, pin, fetch, cache, offline use and network faults."""

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from agit_hub.data.store import COMMIT, FolderStore, HubStore
from agit_hub.errors import DataError, FetchError
from testing.hub_server import Hub
from tests.online import connect

REPO = "user/images"
NAME = "the dataset user/images"
CARD = b"---\nlicense: mit\nconfigs:\n- config_name: horse\n  data_files: horse/*\n---\n# Animals\n"
# Seconds: longer than the client's own first retry, after one second.
TIMEOUT = 20.0
MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path)


@pytest.fixture
def go_offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def _open(revision: str | None = None, hub_timeout: float = TIMEOUT) -> HubStore:
    return HubStore(REPO, revision, hub_timeout)


def _log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "agit_hub.data"]


def _full_bodies(hub: Hub, file: str) -> int:
    """Return how many times a whole file was requested."""
    found = [r for r in hub.requests if r.method == "GET" and r.path.endswith(f"/{file}")]
    return sum(request.range is None for request in found)


def _cached(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache").rglob("snapshots/*/*"))


# Listing.


def test_hub_store_lists_files_without_hidden_ones(hub: Hub) -> None:
    names = [
        "b/2.png",
        "b/1.png",
        "a.png",
        ".gitattributes",
        "b/.hidden",
        ".git/x.png",
        "README.md",
    ]
    commit = hub.commit(REPO, dict.fromkeys(names, CARD))
    store = _open()
    assert store.files == ["README.md", "a.png", "b/1.png", "b/2.png"]
    assert store.revision == commit and COMMIT.fullmatch(commit)
    assert store.card == {"configs": [{"config_name": "horse", "data_files": "horse/*"}]}
    assert store.name == NAME and store.fetches
    assert store.describe("b/1.png") == "user/images/b/1.png"


def test_hub_store_without_card_has_no_configs(hub: Hub) -> None:
    hub.commit(REPO, {"a.png": b"a"})
    assert not _open().card.get("configs")


@pytest.mark.parametrize("name", ["main", "other", "tagged", "commit", None])
def test_hub_store_stays_at_the_opened_commit(hub: Hub, name: str | None) -> None:
    commit = hub.commit(REPO, {"a.txt": b"old", "b.txt": b"old"})
    hub.commit(REPO, {}, branch="other")
    branch = name if name in ("main", "other") else "main"
    revision = hub.commit(REPO, {"a.txt": b"old"}, branch=branch) if name == "commit" else name
    if name == "tagged":
        hub._api.repos["dataset", REPO].tags["tagged"] = hub._api.repos["dataset", REPO].at(commit)
    store = _open(revision)
    opened_at = store.revision
    assert opened_at is not None and COMMIT.fullmatch(opened_at)

    moved = hub.commit(REPO, {"a.txt": b"new", "b.txt": None, "c.txt": b"new"}, branch=branch)
    assert store.fetch("a.txt").read_bytes() == b"old"
    with store.open("b.txt") as file:
        assert file.read() == b"old"
    assert store.revision == opened_at != moved
    if name in ("main", "other", None):
        again = _open(revision)
        assert (again.revision, again.files) == (moved, ["a.txt", "c.txt"])
        assert again.fetch("a.txt").read_bytes() == b"new"


def test_hub_store_listed_commit_makes_no_request(hub: Hub) -> None:
    commit = hub.commit(REPO, {"a.txt": b"a"})
    first = _open()
    asked = len(hub.requests)
    second = _open(commit)
    assert (second.files, second.revision) == (first.files, commit)
    assert len(hub.requests) == asked


# Fetching.


def test_hub_store_fetch_downloads_once(hub: Hub) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"deep/a.bin": content, "b.txt": b"b"})
    store = _open()
    path = store.fetch("deep/a.bin")
    assert path.read_bytes() == content
    asked = len(hub.requests)
    assert store.fetch("deep/a.bin") == path == _open(store.revision).fetch("deep/a.bin")
    assert len(hub.requests) == asked and _full_bodies(hub, "deep/a.bin") == 1


def test_hub_store_fetch_handles_empty_files_and_odd_names(hub: Hub) -> None:
    names = ["empty.txt", "with space.txt", "100%.txt", "ünï/#1?.txt", "a+b&c=d.txt"]
    hub.commit(REPO, {name: b"" if name == "empty.txt" else name.encode() for name in names})
    store = _open()
    assert store.files == sorted(names)
    for name in names:
        expected = b"" if name == "empty.txt" else name.encode()
        with store.open(name) as file:
            assert file.read() == expected
        assert store.fetch(name).read_bytes() == expected


def test_hub_store_fetch_all_downloads_every_file(hub: Hub, tmp_path: Path) -> None:
    contents = {f"{number}.txt": os.urandom(100) for number in range(30)}
    hub.commit(REPO, contents)
    store = _open()
    store.fetch_all(store.files)
    asked = len(hub.requests)
    assert {name: store.fetch(name).read_bytes() for name in store.files} == contents
    assert len(hub.requests) == asked and _cached(tmp_path) == sorted(contents)


def test_hub_store_fetch_all_raises_for_one_failed_file(hub: Hub) -> None:
    hub.commit(REPO, {f"{number}.txt": b"x" for number in range(10)})
    store = _open()
    hub.fail("status", path="/7.txt", times=None, status=403)
    with pytest.raises(DataError, match=r"fetching 7\.txt failed"):
        store.fetch_all(store.files)


def test_hub_store_fetch_ahead_downloads_in_the_background(hub: Hub) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"a.bin": content})
    store = _open()
    store.fetch_ahead("a.bin")
    store.fetch_ahead("a.bin")
    _wait_for_threads()
    asked = len(hub.requests)
    assert store.fetch("a.bin").read_bytes() == content
    assert len(hub.requests) == asked and _full_bodies(hub, "a.bin") == 1


def _wait_for_threads() -> None:
    for thread in threading.enumerate():
        if "_prefetch" in thread.name:
            thread.join(timeout=30)


def test_hub_store_fetch_ahead_error_is_raised_by_fetch(hub: Hub) -> None:
    hub.commit(REPO, {"a.bin": b"a"})
    store = _open(hub_timeout=0)
    hub.fail("status", path="a.bin", times=None, status=503)
    store.fetch_ahead("a.bin")
    _wait_for_threads()
    with pytest.raises(FetchError, match=r"fetching a\.bin failed"):
        store.fetch("a.bin")
    hub.heal()
    assert _open().fetch("a.bin").read_bytes() == b"a"


def test_hub_store_pickled_reads_the_same_commit(hub: Hub) -> None:
    hub.commit(REPO, {"a.txt": b"old", "b.txt": b"b"})
    store = _open()
    store.fetch_ahead("b.txt")
    copy = pickle.loads(pickle.dumps(store))
    hub.commit(REPO, {"a.txt": b"new"})
    assert (copy.revision, copy.files, copy.name) == (store.revision, store.files, store.name)
    assert copy.fetch("a.txt").read_bytes() == b"old"
    with copy.open("b.txt") as file:
        assert file.read() == b"b"


# Reading ranges.


def test_hub_store_open_reads_only_the_requested_range(hub: Hub, tmp_path: Path) -> None:
    content = os.urandom(8 * MEGABYTE)
    hub.commit(REPO, {"a.bin": content})
    store = _open()
    with store.open("a.bin") as file:
        assert file.readable() and file.seekable() and file.tell() == 0
        assert file.seek(-100, os.SEEK_END) == len(content) - 100
        assert file.read() == content[-100:] and file.read(1) == b""
        assert file.seek(3 * MEGABYTE) == 3 * MEGABYTE
        assert file.read(50) == content[3 * MEGABYTE :][:50] and file.tell() == 3 * MEGABYTE + 50
        assert file.seek(-25, os.SEEK_CUR) and file.read(25) == content[3 * MEGABYTE + 25 :][:25]
    assert 0 < hub.bytes_sent("a.bin") < MEGABYTE
    assert _cached(tmp_path) == []


def test_hub_store_open_fetched_file_reads_from_disk(hub: Hub) -> None:
    hub.commit(REPO, {"a.bin": b"0123456789"})
    store = _open()
    store.fetch("a.bin")
    asked = len(hub.requests)
    with store.open("a.bin") as file:
        file.seek(4)
        assert file.read(3) == b"456"
    assert len(hub.requests) == asked


# Offline.


def test_hub_store_offline_reads_fetched_files(hub: Hub, go_offline: Callable[[], None]) -> None:
    commit = hub.commit(REPO, {"a.txt": b"a", "b.txt": b"b", "README.md": CARD})
    before = _open()
    before.fetch("a.txt")
    asked = len(hub.requests)
    go_offline()
    for revision in (None, "main", commit):
        store = _open(revision)
        assert (store.revision, store.files, store.card) == (commit, before.files, before.card)
        assert store.fetch("a.txt").read_bytes() == b"a"
        with store.open("a.txt") as file:
            assert file.read() == b"a"
        with pytest.raises(DataError, match=r"fetching b\.txt failed: .*HF_HUB_OFFLINE.*online"):
            store.fetch("b.txt")
        with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
            store.open("b.txt")
    assert len(hub.requests) == asked


def test_hub_store_offline_unknown_dataset_raises(hub: Hub, go_offline: Callable[[], None]) -> None:
    hub.commit(REPO, {"a.txt": b"a"})
    go_offline()
    with pytest.raises(DataError, match=f"{NAME}: .*HF_HUB_OFFLINE is set.*run once while online"):
        _open()
    assert hub.requests == []


@pytest.mark.parametrize("kind", ["refuse", "status"])
def test_hub_store_unreachable_hub_uses_the_cached_list(
    hub: Hub, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    commit = hub.commit(REPO, {"a.txt": b"a"})
    _open().fetch("a.txt")
    hub.commit(REPO, {"a.txt": b"new"})
    hub.fail(kind, times=None, status=503)
    store = _open(hub_timeout=0)
    assert store.revision == commit and store.fetch("a.txt").read_bytes() == b"a"
    (line,) = _log_lines(caplog)
    assert line.startswith(f"{NAME}: listing its files failed")
    assert f"commit {commit[:8]}" in line


def test_hub_store_slow_hub_is_asked_despite_the_cached_list(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(REPO, {"a.txt": b"a"})
    _open()
    newest = hub.commit(REPO, {"a.txt": b"new"})
    ask = HfApi.dataset_info

    def from_afar(*args: Any, **kwargs: Any) -> Any:
        threading.Event().wait(0.5)
        return ask(*args, **kwargs)

    monkeypatch.setattr(HfApi, "dataset_info", from_afar)
    assert _open().revision == newest


def test_hub_store_unreachable_hub_without_cached_list_raises(hub: Hub) -> None:
    hub.commit(REPO, {"a.txt": b"a"})
    hub.fail("refuse", times=None)
    with pytest.raises(FetchError, match=f"{NAME}: listing its files failed"):
        _open(hub_timeout=0)


# Access.


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda token: monkeypatch.setenv("HF_TOKEN", token)


def test_hub_store_private_dataset_needs_a_token(hub: Hub, token: Callable[[str], None]) -> None:
    hub.commit(REPO, {"a.txt": b"a"}, private=True)
    with pytest.raises(DataError, match=f"{NAME}: .*it is private.*HF_TOKEN"):
        _open()
    token("hf_unknown")
    with pytest.raises(DataError, match="HF_TOKEN"):
        _open()
    token("hf_test")
    store = _open()
    assert store.fetch("a.txt").read_bytes() == b"a"
    hub.commit(REPO, {"b.txt": b"b"})
    with _open().open("b.txt") as file:
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
                _open().fetch("a.txt")
            assert str(caught.value).startswith(f"{NAME}: ")
            with (
                pytest.raises(DataError, match="accept its terms on its page"),
                _open().open("a.txt") as file,
            ):
                file.read()
        hub.grant(REPO, "other")
        assert _open().fetch("a.txt").read_bytes() == b"a"


def test_hub_store_unknown_repo_revision_or_file_raises(hub: Hub) -> None:
    with pytest.raises(DataError, match=f"{NAME}: .*it is private"):
        _open()
    hub.commit(REPO, {"a.txt": b"a"})
    with pytest.raises(DataError, match=r"the revision does not exist: check data\.\*\.revision"):
        _open("nowhere")
    with pytest.raises(DataError, match=r"fetching b\.txt failed: .*no longer on the Hub"):
        _open().fetch("b.txt")


def test_hub_store_permanent_error_is_not_retried(hub: Hub) -> None:
    with pytest.raises(DataError):
        _open()
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


@pytest.mark.parametrize("fault", FAULTS)
def test_hub_store_fetch_with_network_fault_is_complete(
    hub: Hub, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"a.bin": content})
    store = _open()
    hub.fail(**FAULTS[fault], path="a.bin", method="GET")
    assert store.fetch("a.bin").read_bytes() == content
    assert hub.faults_served == 1
    (line,) = _log_lines(caplog)
    assert line.startswith(f"{NAME}: fetching a.bin: ") and "\n" not in line


@pytest.mark.parametrize("fault", FAULTS)
def test_hub_store_open_with_network_fault_reads_right_bytes(
    hub: Hub, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"a.bin": content})
    with _open().open("a.bin") as file:
        hub.fail(**FAULTS[fault], path="a.bin", method="GET", share=0.01)
        file.seek(1000)
        assert file.read(5000) == content[1000:6000]
        assert file.read(5) == content[6000:6005]
    assert hub.faults_served == 1
    (line,) = _log_lines(caplog)
    assert line.startswith(f"{NAME}: reading a.bin: ")


@pytest.mark.parametrize("fault", FAULTS)
def test_hub_store_list_with_network_fault_is_complete(hub: Hub, fault: str) -> None:
    commit = hub.commit(REPO, {f"{number}.txt": b"x" for number in range(10)})
    hub.fail(**FAULTS[fault], path="/api/datasets/", method="GET")
    store = _open(hub_timeout=4)
    assert (store.revision, len(store.files)) == (commit, 10)
    assert hub.faults_served == 1


def test_hub_store_fetch_truncated_file_raises_and_caches_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.commit(REPO, {"a.bin": os.urandom(MEGABYTE)})
    store = _open(hub_timeout=0.5)
    hub.fail("truncate", path="a.bin", method="GET", times=None)
    with pytest.raises(FetchError, match=r"fetching a\.bin failed .*should be of size 1048576"):
        store.fetch("a.bin")
    assert _cached(tmp_path) == []


def test_hub_store_fetch_full_disk_raises_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    hub.commit(REPO, {"a.bin": b"a"})
    store = _open()
    monkeypatch.setattr("huggingface_hub.file_download.http_get", refuse)
    with pytest.raises(DataError, match=r"fetching a\.bin failed: .*No space left on device"):
        store.fetch("a.bin")


# FolderStore.


def test_folder_store_lists_and_opens_files(tmp_path: Path) -> None:
    for name in ("b/1.png", "a.png", ".hidden.png", ".git/x.png", "b/.thumbs/y.png"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(name.encode())
    store = FolderStore(tmp_path / "root")
    assert store.files == ["a.png", "b/1.png"]
    assert store.revision is None and not store.fetches and not store.card
    assert store.fetch("b/1.png").read_bytes() == b"b/1.png"
    with store.open("a.png") as file:
        assert file.read() == b"a.png"
    store.fetch_all(store.files)
    store.fetch_ahead("a.png")
    assert store.describe("a.png") == str(tmp_path / "root" / "a.png")


def test_folder_store_missing_folder_or_file_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        FolderStore(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is a file"):
        FolderStore(tmp_path / "file")
