"""The local Hub, with the real clients where possible, and otherwise over HTTP."""

import http.client
import io
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, HfFileSystem, ModelCard, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from testing.hub_api.storage import CHUNK
from testing.hub_server import Hub

BROKEN = (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError)
DIGITS = b"0123456789"
FILE = "/datasets/user/data/resolve/main/digits.txt"


@pytest.fixture
def hub(caplog: pytest.LogCaptureFixture) -> Iterator[Hub]:
    with Hub(page=3) as server:
        yield server
    assert [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR] == []


@pytest.fixture
def digits(hub: Hub) -> Hub:
    hub.commit("user/data", {"digits.txt": DIGITS})
    return hub


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    # The suite is offline from import on; the clients read this at each call.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def api_of(hub: Hub, token: str | bool = "hf_test") -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def fetch(
    hub: Hub, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def parquet_of(values: list[int]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": values}), sink)
    return sink.getvalue()


def run_client(hub: Hub, home: Path, script: str) -> Any:
    """Run a script with the Hub as its endpoint, and parse its output as JSON."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_HOME": str(home),
        "HF_TOKEN": "hf_test",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Clients that read.


@pytest.mark.slow
def test_datasets_streams_two_configs(hub: Hub, tmp_path: Path) -> None:
    card = (
        "---\nlicense: mit\nconfigs:\n"
        "- config_name: horse\n  data_files: horse/*.parquet\n"
        "- config_name: zebra\n  data_files: zebra/*.parquet\n---\n# Animals\n"
    )
    files: dict[str, bytes | Path | None] = {"README.md": card.encode()}
    for name, start in (("horse", 0), ("zebra", 100)):
        for shard in range(2):
            values = list(range(start + 10 * shard, start + 10 * shard + 10))
            files[f"{name}/{shard}.parquet"] = parquet_of(values)
    hub.commit("user/animals", files)
    hub.fail("drop", path="zebra/1.parquet", method="GET")
    script = """
import json
from datasets import get_dataset_config_names, load_dataset
rows = {}
for name in get_dataset_config_names("user/animals"):
    stream = load_dataset("user/animals", name, split="train", streaming=True)
    rows[name] = [row["x"] for row in stream]
print(json.dumps(rows))
"""
    rows = run_client(hub, tmp_path, script)
    assert rows == {"horse": list(range(20)), "zebra": list(range(100, 120))}
    assert hub.faults_served == 1


def test_download_resumes_after_a_drop(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client keeps whole blocks only, of 10 MB: a drop before the first starts over.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    content = os.urandom(3 * CHUNK)
    hub.commit("user/model", {"model.safetensors": content}, kind="model")
    hub.fail("drop", path="model.safetensors", method="GET", share=0.5)
    path = hf_hub_download(
        "user/model", "model.safetensors", endpoint=hub.url, cache_dir=tmp_path, token=False
    )
    assert Path(path).read_bytes() == content
    first, second = [r for r in hub.requests if r.method == "GET"]
    assert (first.status, first.range, first.sent) == (200, None, 3 * CHUNK // 2)
    assert (second.status, second.range, second.sent) == (206, f"bytes={CHUNK}-", 2 * CHUNK)
    assert hub.bytes_sent(r"\.safetensors$") == first.sent + second.sent


def test_download_twice_fetches_once(digits: Hub, tmp_path: Path) -> None:
    api = api_of(digits)
    for _ in range(2):
        path = api.hf_hub_download(
            "user/data", "digits.txt", repo_type="dataset", cache_dir=tmp_path
        )
    assert Path(path).read_bytes() == DIGITS
    assert [r.method for r in digits.requests] == ["HEAD", "GET", "HEAD"]
    assert {r.token for r in digits.requests} == {"hf_test"}


def test_file_system_seeks_and_reads(hub: Hub) -> None:
    content = os.urandom(1000)
    hub.commit("user/data", {"a/b.bin": content, "a/c d.txt": b"c"})
    system = HfFileSystem(endpoint=hub.url, token="hf_test", use_listings_cache=False)
    with system.open("datasets/user/data/a/b.bin", "rb", block_size=100) as file:
        file.seek(500)
        assert file.read(50) == content[500:550]
        file.seek(-10, io.SEEK_END)
        assert file.read() == content[-10:]
    assert hub.bytes_sent("b.bin") < len(content)
    assert system.read_text("datasets/user/data/a/c d.txt") == "c"
    assert sorted(system.glob("datasets/user/data/*/*.bin")) == ["datasets/user/data/a/b.bin"]
    with pytest.raises(FileNotFoundError):
        system.info("datasets/user/data/nowhere")


def test_tree_is_paginated(hub: Hub) -> None:
    names = [f"{folder}/{i}.txt" for folder in ("a", "a/b", "c") for i in range(3)]
    hub.commit("user/model", dict.fromkeys(names, b"x"), kind="model")
    api = api_of(hub)
    entries = list(api.list_repo_tree("user/model", recursive=True))
    assert [entry.path for entry in entries] == sorted([*names, "a", "a/b", "c"])
    assert len([r for r in hub.requests if "/tree/" in r.path]) == 4
    assert [e.path for e in api.list_repo_tree("user/model")] == ["a", "c"]
    below = [e.path for e in api.list_repo_tree("user/model", "a/b")]
    assert below == [f"a/b/{i}.txt" for i in range(3)]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("user/model", "b"))


def test_info_reads_the_card(hub: Hub) -> None:
    card = b"---\nlicense: mit\npipeline_tag: image-to-image\ntags: [gan]\n---\n# Model\n"
    sha = hub.commit("user/model", {"README.md": card, "w.bin": b"w"}, kind="model")
    api = api_of(hub)
    info = api.model_info("user/model", revision="main", files_metadata=True)
    assert (info.id, info.sha, info.private, info.gated) == ("user/model", sha, False, False)
    assert info.card_data and info.card_data["license"] == "mit"
    assert info.tags == ["gan", "license:mit"] and info.pipeline_tag == "image-to-image"
    siblings = {s.rfilename: s for s in info.siblings or []}
    assert siblings["README.md"].size == len(card) and siblings["README.md"].lfs is None
    assert siblings["w.bin"].lfs is not None
    (found,) = api.get_paths_info("user/model", ["w.bin", "none"])
    assert found.path == "w.bin"


# Clients that write.


def test_push_and_pull(hub: Hub, tmp_path: Path) -> None:
    api, folder = api_of(hub), tmp_path / "pushed"
    contents = {
        "README.md": b"---\nlicense: mit\n---\n",
        "empty.bin": b"",
        "deep/er/config.json": b"{}",
        "model.safetensors": os.urandom(3 * CHUNK + 1),
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert api.whoami()["name"] == "user"
    assert api.create_repo("user/model").repo_id == "user/model"
    api.create_repo("user/model", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("user/model")
    first = api.upload_folder(repo_id="user/model", folder_path=folder)
    api.create_tag("user/model", tag="v1")
    api.create_branch("user/model", branch="dev/one", revision="v1")
    api.delete_folder("deep", "user/model", revision="dev/one")
    assert hub.files("user/model") == hub.files("user/model", revision="v1") == contents
    assert "deep/er/config.json" not in hub.files("user/model", revision="dev/one")
    pulled = Path(api.snapshot_download("user/model", revision="v1", cache_dir=tmp_path / "cache"))
    assert pulled.name == first.oid
    for name, content in contents.items():
        assert (pulled / name).read_bytes() == content
    refs = api.list_repo_refs("user/model")
    assert [b.name for b in refs.branches] == ["main", "dev/one"]
    assert [(t.name, t.target_commit) for t in refs.tags] == [("v1", first.oid)]
    assert api.list_repo_commits("user/model")[0].commit_id == first.oid


def test_unchanged_files_are_not_sent_again(hub: Hub, tmp_path: Path) -> None:
    api = api_of(hub)
    api.create_repo("user/data", repo_type="dataset")
    (tmp_path / "a.parquet").write_bytes(parquet_of([1]))
    (tmp_path / "b.txt").write_text("b")
    commits = [
        api.upload_folder(repo_id="user/data", repo_type="dataset", folder_path=tmp_path).oid
        for _ in range(2)
    ]
    assert commits[0] == commits[1]
    assert len([r for r in hub.requests if r.method == "PUT"]) == 1


def test_lfs_upload_is_retried_and_checked(hub: Hub) -> None:
    api, content = api_of(hub), os.urandom(100)
    api.create_repo("user/model")
    hub.fail("status", method="PUT", status=503)
    api.upload_file(path_or_fileobj=content, path_in_repo="w.bin", repo_id="user/model")
    assert hub.files("user/model") == {"w.bin": content}
    assert [r.status for r in hub.requests if r.method == "PUT"] == [503, 200]
    status, _, _ = fetch(hub, f"/_lfs/models/user/model/{'0' * 64}", "PUT", b"wrong")
    assert status == 400


def test_commit_on_a_stale_parent_is_refused(hub: Hub) -> None:
    api = api_of(hub)
    old = hub.commit("user/model", {"a.txt": b"1"}, kind="model")
    new = hub.commit("user/model", {"a.txt": b"2"}, kind="model")

    def push(parent: str) -> None:
        api.upload_file(
            path_or_fileobj=b"3",
            path_in_repo="a.txt",
            repo_id="user/model",
            parent_commit=parent,
        )

    with pytest.raises(HfHubHTTPError, match="412"):
        push(old)
    assert hub.files("user/model") == {"a.txt": b"2"}
    push(new)
    assert hub.files("user/model") == {"a.txt": b"3"}
    assert hub.files("user/model", revision=old[:8]) == {"a.txt": b"1"}


def test_settings_card_and_deletion_of_a_repo(hub: Hub) -> None:
    api = api_of(hub)
    api.create_repo("user/model", private=True)
    assert api.model_info("user/model").private
    api.update_repo_settings("user/model", private=False, gated="auto")
    info = api.model_info("user/model")
    assert (info.private, info.gated) == (False, "auto")
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(
            path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="user/model"
        )
    api.upload_file(
        path_or_fileobj=str(ModelCard("---\nlicense: mit\n---\nHi")).encode(),
        path_in_repo="README.md",
        repo_id="user/model",
    )
    assert list(hub.files("user/model")) == ["README.md"]
    api.delete_repo("user/model")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("user/model")


# Errors.


def test_missing_repo_revision_or_file_raises_its_error(digits: Hub, tmp_path: Path) -> None:
    api = api_of(digits)
    where: dict[str, Any] = {"repo_type": "dataset", "cache_dir": tmp_path}
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("user/none", "digits.txt", **where)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("user/data", "digits.txt", revision="v9", **where)
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("user/data", "none.txt", **where)
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info("user/data", revision="refs/convert/parquet")
    status, headers, _ = fetch(digits, FILE.replace("digits", "none"), "HEAD")
    assert (status, headers["x-error-code"]) == (404, "EntryNotFound")
    assert len(headers["x-repo-commit"]) == 40


def test_private_and_gated_repos_check_the_user(tmp_path: Path) -> None:
    with Hub(tokens={"hf_test": "user", "hf_other": "other"}) as hub:
        hub.commit("user/hidden", {"a.txt": b"a"}, private=True)
        hub.commit("user/gated", {"a.txt": b"a"}, gated=True)
        owner, other, nobody = (api_of(hub, token) for token in ("hf_test", "hf_other", False))

        def pull(api: HfApi, name: str) -> bytes:
            cache = tmp_path / str(api.token)  # a refused client falls back to its cache
            path = api.hf_hub_download(name, "a.txt", repo_type="dataset", cache_dir=cache)
            return Path(path).read_bytes()

        for api, status in ((other, 404), (nobody, 401)):
            with pytest.raises(RepositoryNotFoundError) as hidden:
                api.dataset_info("user/hidden")
            assert hidden.value.response.status_code == status
        for api, status in ((other, 403), (nobody, 401)):
            assert api.list_repo_files("user/gated", repo_type="dataset") == ["a.txt"]
            with pytest.raises(GatedRepoError) as gated:
                pull(api, "user/gated")
            assert gated.value.response.status_code == status
        assert pull(owner, "user/hidden") == pull(owner, "user/gated") == b"a"
        for name in ("user/hidden", "user/gated"):
            hub.grant(name, "other")
            assert pull(other, name) == b"a"
        with pytest.raises(HfHubHTTPError, match="403"):
            other.create_repo("user/model")
        with pytest.raises(HfHubHTTPError, match="401"):
            api_of(hub, "hf_wrong").dataset_info("user/gated")


# HTTP and faults.


@pytest.mark.parametrize(
    ("requested", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, DIGITS, "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=0-1,3-4", 200, DIGITS, None),
    ],
)
def test_range_request_returns_the_range(
    digits: Hub, requested: str, status: int, body: bytes, content_range: str | None
) -> None:
    response = fetch(digits, FILE, Range=requested)
    assert (response[0], response[2], response[1].get("content-range")) == (
        status,
        body,
        content_range,
    )
    assert digits.requests[-1].range == requested


def test_large_file_is_served_from_disk(hub: Hub, tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK + 5)
    path = tmp_path / "shard.tar"
    path.write_bytes(content)
    hub.commit("user/data", {"shard.tar": path})
    url = "/datasets/user/data/resolve/main/shard.tar"
    _, headers, body = fetch(hub, url)
    assert body == content
    assert headers["x-linked-etag"] == headers["etag"]
    assert headers["x-linked-size"] == str(len(content))
    assert fetch(hub, url, Range=f"bytes={CHUNK - 1}-{CHUNK}")[2] == content[CHUNK - 1 : CHUNK + 1]
    _, headers, body = fetch(hub, url, "HEAD")
    assert (headers["content-length"], body) == (str(len(content)), b"")
    assert [r.sent for r in hub.requests] == [len(content), 2, 0]


def test_status_fault_applies_after_and_times(digits: Hub) -> None:
    digits.fail("status", path="digits", status=429, headers={"Retry-After": "7"}, after=1, times=2)
    responses = [fetch(digits, FILE) for _ in range(4)]
    assert [response[0] for response in responses] == [200, 429, 429, 200]
    assert responses[1][1]["retry-after"] == "7"
    assert digits.faults_served == 2
    assert [r.status for r in digits.requests] == [200, 429, 429, 200]


def test_fault_matches_method_and_path_until_cleared(digits: Hub) -> None:
    digits.fail("status", path="digits", method="HEAD", times=None)
    assert [fetch(digits, FILE, method)[0] for method in ("GET", "HEAD", "HEAD")] == [200, 500, 500]
    assert fetch(digits, "/api/datasets/user/data")[0] == 200
    digits.heal()
    assert fetch(digits, FILE, "HEAD")[0] == 200
    with pytest.raises(ValueError, match="Unknown kind"):
        digits.fail("explode")  # type: ignore[arg-type]


def test_drop_and_stall_send_a_share_of_the_body(digits: Hub) -> None:
    digits.fail("drop", path="digits", share=0.3)
    digits.fail("stall", path="digits", share=0.8, seconds=0)
    for received in (3, 8):
        with pytest.raises(http.client.IncompleteRead) as broken:
            fetch(digits, FILE)
        assert broken.value.partial == DIGITS[:received]
    assert [r.sent for r in digits.requests] == [3, 8]


def test_stall_without_end_lasts_until_the_client_disconnects(digits: Hub) -> None:
    digits.fail("stall", path="digits", share=0.5)
    connection = http.client.HTTPConnection(digits.url.removeprefix("http://"), timeout=30)
    connection.request("GET", FILE)
    response = connection.getresponse()
    assert response.read(5) == DIGITS[:5]
    connection.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        response.read(1)
    assert fetch(digits, FILE)[2] == DIGITS
    connection.close()


def test_closing_the_hub_ends_a_stall() -> None:
    with Hub() as hub:
        hub.commit("user/data", {"digits.txt": DIGITS})
        hub.fail("stall", path="digits", share=0.5)
        connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=30)
        connection.request("GET", FILE)
        response = connection.getresponse()
        assert response.read(5) == DIGITS[:5]
    with pytest.raises(BROKEN):
        response.read()
    connection.close()


def test_truncated_response_looks_complete(digits: Hub) -> None:
    digits.fail("truncate", path="digits", share=0.4)
    assert fetch(digits, FILE, "HEAD")[1]["content-length"] == "10"
    status, headers, body = fetch(digits, FILE)
    assert (status, headers["content-length"], body) == (200, "4", DIGITS[:4])
    assert fetch(digits, FILE)[2] == DIGITS


@pytest.mark.parametrize(("kind", "done"), [("refuse", False), ("drop", True), ("stall", True)])
def test_fault_loses_the_response_to_a_commit(digits: Hub, kind: Any, done: bool) -> None:
    file = {"path": "new.txt", "content": "bmV3", "encoding": "base64"}
    lines = [{"key": "header", "value": {"summary": "New"}}, {"key": "file", "value": file}]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    digits.fail(kind, path="/commit/", seconds=0)
    with pytest.raises(BROKEN):
        fetch(
            digits,
            "/api/datasets/user/data/commit/main",
            "POST",
            body,
            authorization="Bearer hf_test",
        )
    assert ("new.txt" in digits.files("user/data", "dataset")) is done
    assert (digits.requests[-1].status, digits.requests[-1].sent) == (0, 0)


def test_requests_and_bytes_are_counted(digits: Hub) -> None:
    fetch(digits, FILE.replace("main", "refs%2Fpr%2F1"))
    fetch(digits, FILE, Range="bytes=0-3", Authorization="Bearer hf_test")
    missing, found = digits.requests
    assert missing.path == FILE.replace("main", "refs/pr/1") and missing.status == 404
    assert (found.method, found.status, found.sent) == ("GET", 206, 4)
    assert (found.range, found.token) == ("bytes=0-3", "hf_test")
    assert digits.bytes_sent("main/digits") == 4
    assert digits.bytes_sent() == 4 + missing.sent
    statistics = json.loads(fetch(digits, "/_statistics")[2])
    assert statistics == {"requests": 2, "bytes_sent": digits.bytes_sent()}


def test_server_runs_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "digits.txt").write_bytes(DIGITS)
    command = [sys.executable, "-m", "testing.hub_server", "--folder", str(tmp_path)]
    command += ["--repo", "user/model", "--kind", "model"]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        fault = json.dumps({"kind": "status", "path": "digits", "status": 418}).encode()
        urllib.request.urlopen(f"{url}/_faults", fault, timeout=30).close()
        file = f"{url}/user/model/resolve/main/sub/digits.txt"
        with pytest.raises(urllib.error.HTTPError, match="418"):
            urllib.request.urlopen(file, timeout=30)
        with urllib.request.urlopen(file, timeout=30) as response:
            assert response.read() == DIGITS
        with urllib.request.urlopen(f"{url}/_statistics", timeout=30) as response:
            assert json.load(response)["requests"] == 2
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
