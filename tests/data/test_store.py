"""HubStore and FolderStore: list, pin, fetch, cache, and offline use."""

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from agit_hub.data.store import COMMIT, FolderStore
from agit_hub.errors import DataError, FetchError
from testing.hub_server import Hub
from tests.data.hub_store import MEGABYTE, NAME, REPO, cached, log_lines, open_store
from tests.online import connect

CARD = b"---\nlicense: mit\nconfigs:\n- config_name: horse\n  data_files: horse/*\n---\n# Animals\n"


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path)


@pytest.fixture
def go_offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def _full_bodies(hub: Hub, file: str) -> int:
    """Return how many times a whole file was requested."""
    found = [r for r in hub.requests if r.method == "GET" and r.path.endswith(f"/{file}")]
    return sum(request.range is None for request in found)


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
    store = open_store()
    assert store.files == ["README.md", "a.png", "b/1.png", "b/2.png"]
    assert store.revision == commit and COMMIT.fullmatch(commit)
    assert store.card == {"configs": [{"config_name": "horse", "data_files": "horse/*"}]}
    assert store.name == NAME and store.fetches
    assert store.describe("b/1.png") == "user/images/b/1.png"


def test_hub_store_without_card_has_no_configs(hub: Hub) -> None:
    hub.commit(REPO, {"a.png": b"a"})
    assert not open_store().card.get("configs")


@pytest.mark.parametrize("name", ["main", "other", "tagged", "commit", None])
def test_hub_store_stays_at_the_opened_commit(hub: Hub, name: str | None) -> None:
    commit = hub.commit(REPO, {"a.txt": b"old", "b.txt": b"old"})
    hub.commit(REPO, {}, branch="other")
    branch = name if name in ("main", "other") else "main"
    revision = hub.commit(REPO, {"a.txt": b"old"}, branch=branch) if name == "commit" else name
    if name == "tagged":
        hub._api.repos["dataset", REPO].tags["tagged"] = hub._api.repos["dataset", REPO].at(commit)
    store = open_store(revision)
    opened_at = store.revision
    assert opened_at is not None and COMMIT.fullmatch(opened_at)

    moved = hub.commit(REPO, {"a.txt": b"new", "b.txt": None, "c.txt": b"new"}, branch=branch)
    assert store.fetch("a.txt").read_bytes() == b"old"
    with store.open("b.txt") as file:
        assert file.read() == b"old"
    assert store.revision == opened_at != moved
    if name in ("main", "other", None):
        again = open_store(revision)
        assert (again.revision, again.files) == (moved, ["a.txt", "c.txt"])
        assert again.fetch("a.txt").read_bytes() == b"new"


def test_hub_store_listed_commit_makes_no_request(hub: Hub) -> None:
    commit = hub.commit(REPO, {"a.txt": b"a"})
    first = open_store()
    asked = len(hub.requests)
    second = open_store(commit)
    assert (second.files, second.revision) == (first.files, commit)
    assert len(hub.requests) == asked


# Fetching.


def test_hub_store_fetch_downloads_once(hub: Hub) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"deep/a.bin": content, "b.txt": b"b"})
    store = open_store()
    path = store.fetch("deep/a.bin")
    assert path.read_bytes() == content
    asked = len(hub.requests)
    assert store.fetch("deep/a.bin") == path == open_store(store.revision).fetch("deep/a.bin")
    assert len(hub.requests) == asked and _full_bodies(hub, "deep/a.bin") == 1


def test_hub_store_fetch_handles_empty_files_and_odd_names(hub: Hub) -> None:
    names = ["empty.txt", "with space.txt", "100%.txt", "ünï/#1?.txt", "a+b&c=d.txt"]
    hub.commit(REPO, {name: b"" if name == "empty.txt" else name.encode() for name in names})
    store = open_store()
    assert store.files == sorted(names)
    for name in names:
        expected = b"" if name == "empty.txt" else name.encode()
        with store.open(name) as file:
            assert file.read() == expected
        assert store.fetch(name).read_bytes() == expected


def test_hub_store_fetch_all_downloads_every_file(hub: Hub, tmp_path: Path) -> None:
    contents = {f"{number}.txt": os.urandom(100) for number in range(30)}
    hub.commit(REPO, contents)
    store = open_store()
    store.fetch_all(store.files)
    asked = len(hub.requests)
    assert {name: store.fetch(name).read_bytes() for name in store.files} == contents
    assert len(hub.requests) == asked and cached(tmp_path) == sorted(contents)


def test_hub_store_fetch_all_raises_for_one_failed_file(hub: Hub) -> None:
    hub.commit(REPO, {f"{number}.txt": b"x" for number in range(10)})
    store = open_store()
    hub.fail("status", path="/7.txt", times=None, status=403)
    with pytest.raises(DataError, match=r"fetching 7\.txt failed"):
        store.fetch_all(store.files)


def test_hub_store_fetch_ahead_downloads_in_the_background(hub: Hub) -> None:
    content = os.urandom(MEGABYTE)
    hub.commit(REPO, {"a.bin": content})
    store = open_store()
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
    store = open_store(hub_timeout=0)
    hub.fail("status", path="a.bin", times=None, status=503)
    store.fetch_ahead("a.bin")
    _wait_for_threads()
    with pytest.raises(FetchError, match=r"fetching a\.bin failed"):
        store.fetch("a.bin")
    hub.heal()
    assert open_store().fetch("a.bin").read_bytes() == b"a"


def test_hub_store_pickled_reads_the_same_commit(hub: Hub) -> None:
    hub.commit(REPO, {"a.txt": b"old", "b.txt": b"b"})
    store = open_store()
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
    store = open_store()
    with store.open("a.bin") as file:
        assert file.readable() and file.seekable() and file.tell() == 0
        assert file.seek(-100, os.SEEK_END) == len(content) - 100
        assert file.read() == content[-100:] and file.read(1) == b""
        assert file.seek(3 * MEGABYTE) == 3 * MEGABYTE
        assert file.read(50) == content[3 * MEGABYTE :][:50] and file.tell() == 3 * MEGABYTE + 50
        assert file.seek(-25, os.SEEK_CUR) and file.read(25) == content[3 * MEGABYTE + 25 :][:25]
    assert 0 < hub.bytes_sent("a.bin") < MEGABYTE
    assert cached(tmp_path) == []


def test_hub_store_open_fetched_file_reads_from_disk(hub: Hub) -> None:
    hub.commit(REPO, {"a.bin": b"0123456789"})
    store = open_store()
    store.fetch("a.bin")
    asked = len(hub.requests)
    with store.open("a.bin") as file:
        file.seek(4)
        assert file.read(3) == b"456"
    assert len(hub.requests) == asked


# Offline.


def test_hub_store_offline_reads_fetched_files(hub: Hub, go_offline: Callable[[], None]) -> None:
    commit = hub.commit(REPO, {"a.txt": b"a", "b.txt": b"b", "README.md": CARD})
    before = open_store()
    before.fetch("a.txt")
    asked = len(hub.requests)
    go_offline()
    for revision in (None, "main", commit):
        store = open_store(revision)
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
        open_store()
    assert hub.requests == []


@pytest.mark.parametrize("kind", ["refuse", "status"])
def test_hub_store_unreachable_hub_uses_the_cached_list(
    hub: Hub, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    commit = hub.commit(REPO, {"a.txt": b"a"})
    open_store().fetch("a.txt")
    hub.commit(REPO, {"a.txt": b"new"})
    hub.fail(kind, times=None, status=503)
    store = open_store(hub_timeout=0)
    assert store.revision == commit and store.fetch("a.txt").read_bytes() == b"a"
    (line,) = log_lines(caplog)
    assert line.startswith(f"{NAME}: listing its files failed")
    assert f"commit {commit[:8]}" in line


def test_hub_store_slow_hub_is_asked_despite_the_cached_list(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(REPO, {"a.txt": b"a"})
    open_store()
    newest = hub.commit(REPO, {"a.txt": b"new"})
    ask = HfApi.dataset_info

    def from_afar(*args: Any, **kwargs: Any) -> Any:
        threading.Event().wait(0.5)
        return ask(*args, **kwargs)

    monkeypatch.setattr(HfApi, "dataset_info", from_afar)
    assert open_store().revision == newest


def test_hub_store_unreachable_hub_without_cached_list_raises(hub: Hub) -> None:
    hub.commit(REPO, {"a.txt": b"a"})
    hub.fail("refuse", times=None)
    with pytest.raises(FetchError, match=f"{NAME}: listing its files failed"):
        open_store(hub_timeout=0)


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
