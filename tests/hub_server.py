"""A small Hugging Face Hub over HTTP on loopback, for tests with the real client libraries.

It serves models, datasets and spaces to `huggingface_hub`, `datasets` and `HfFileSystem`, takes
their pushes, and fails on demand. Point a client at it with `HF_ENDPOINT` (read at import) or with
`HfApi(endpoint=hub.url)`. Xet is not covered: clients must set `HF_HUB_DISABLE_XET=1`, which brings
the classic LFS upload back. Pull requests are not covered either. A new repository has one empty
commit, where the real Hub's holds a `.gitattributes`.

As a process of its own, which prints its address first:

    python -m tests.hub_server --port 0 --folder FOLDER --repo user/name --kind dataset

`GET /_statistics` then answers `{"requests": n, "bytes_sent": n}`, `POST /_faults` takes the
arguments of `Hub.fail` as JSON, and `DELETE /_faults` heals.
"""

import argparse
import asyncio
import base64
import hashlib
import http.client
import json
import logging
import re
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, get_args
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode

import uvicorn
import yaml
from uvicorn.protocols.http.h11_impl import H11Protocol

Kind = Literal["model", "dataset", "space"]
FaultKind = Literal["status", "drop", "stall", "truncate", "refuse"]
Source = bytes | Path
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Item = TypeVar("Item")

CHUNK = 1 << 20
LFS_SIZE = 10 * 1000 * 1000
TENSORS = (".bin", ".ckpt", ".onnx", ".pt", ".pth", ".safetensors")
LFS_ENDINGS = (*TENSORS, ".arrow", ".gz", ".parquet", ".tar", ".zip")
WEB_PREFIXES: dict[str, str] = {"model": "", "dataset": "datasets/", "space": "spaces/"}

logger = logging.getLogger(__name__)


# What is stored.


def read(source: Source, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `stop`, a chunk at a time."""
    if isinstance(source, bytes):
        for position in range(start, stop, CHUNK):
            yield source[position : min(position + CHUNK, stop)]
        return
    with source.open("rb") as file:
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
            start += len(chunk)
            yield chunk


@dataclass(frozen=True)
class Blob:
    """The content of a file, in memory or on disk, with git's and LFS's names for it."""

    source: Source
    size: int
    sha1: str
    sha256: str

    @classmethod
    def of(cls, source: Source) -> "Blob":
        """Measure and hash a content."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        sha1, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
        for chunk in read(source, 0, size):
            sha1.update(chunk)
            sha256.update(chunk)
        return cls(source, size, sha1.hexdigest(), sha256.hexdigest())

    def content(self) -> bytes:
        """Read it all."""
        return b"".join(read(self.source, 0, self.size))


def is_lfs(path: str, size: int) -> bool:
    """Say whether a file goes through LFS; clients never send an empty one so."""
    return size > LFS_SIZE or (size > 0 and path.endswith(LFS_ENDINGS))


def describe(path: str, blob: Blob) -> dict[str, Any]:
    """Describe a file as the tree endpoint does."""
    entry = {"type": "file", "path": path, "size": blob.size, "oid": blob.sha1}
    if not is_lfs(path, blob.size):
        return entry
    pointer = "version https://git-lfs.github.com/spec/v1\n"
    pointer += f"oid sha256:{blob.sha256}\nsize {blob.size}\n"
    lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(pointer)}
    return entry | {"oid": Blob.of(pointer.encode()).sha1, "lfs": lfs}


def list_tree(files: Mapping[str, Blob], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """List files and folders below a folder, or raise if there is no such folder."""
    prefix = f"{folder}/" if folder else ""
    inside = {path: blob for path, blob in files.items() if path.startswith(prefix)}
    if folder and not inside:
        raise HubError(404, "EntryNotFound")
    entries, folders = {}, {}
    for path, blob in inside.items():
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            name = prefix + "/".join(parts[:depth])
            folders[name] = {"type": "directory", "path": name, "size": 0}
        if recursive or len(parts) == 1:
            entries[path] = describe(path, blob)
    for name, entry in folders.items():
        held = sorted((p, b.sha1) for p, b in inside.items() if p.startswith(f"{name}/"))
        entries[name] = entry | {"oid": hashlib.sha1(repr(held).encode()).hexdigest()}
    return [entries[path] for path in sorted(entries)]


@dataclass(frozen=True)
class Commit:
    """A state of a repository, whole."""

    oid: str
    parent: "Commit | None"
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """A repository: its commits, what names them, and who may read it."""

    kind: str
    name: str
    private: bool = False
    gated: str | bool = False
    granted: set[str] = field(default_factory=set)
    branches: dict[str, Commit] = field(default_factory=dict)
    tags: dict[str, Commit] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    objects: dict[str, Blob] = field(default_factory=dict)  # by sha256, for LFS

    @property
    def owner(self) -> str:
        """The one user who may write."""
        return self.name.split("/")[0]

    def admits(self, user: str | None) -> bool:
        """Say whether a user may read what not everybody may."""
        return user is not None and user in self.granted | {self.owner}

    def add(
        self, branch: str, changes: Mapping[str, Blob | None], title: str, message: str = ""
    ) -> Commit:
        """Commit changes, None being a deletion, to a branch that may be new."""
        parent = self.branches.get(branch) or self.branches.get("main")
        files = {**parent.files} if parent else {}
        for path, blob in changes.items():
            if blob is None:
                files.pop(path, None)
            else:
                files[path] = self.objects[blob.sha256] = blob
        facts = [self.kind, self.name, len(self.commits), parent and parent.oid, title]
        facts += sorted((path, blob.sha256) for path, blob in files.items())
        oid = hashlib.sha1(repr(facts).encode()).hexdigest()
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        commit = Commit(oid, parent, title, message, self.owner, date, files)
        self.branches[branch] = self.commits[oid] = commit
        return commit

    def at(self, revision: str) -> Commit:
        """Find the commit that a branch, a tag or a full or short hash names."""
        for names in (self.branches, self.tags, self.commits):
            if revision in names:
                return names[revision]
        found = [commit for oid, commit in self.commits.items() if oid.startswith(revision)]
        if len(revision) < 7 or len(found) != 1:
            raise HubError(404, "RevisionNotFound", "Invalid rev id")
        return found[0]


def read_card(commit: Commit) -> dict[str, Any]:
    """Parse the metadata at the head of the README."""
    blob = commit.files.get("README.md")
    if blob is None:
        return {}
    try:
        return parse_front_matter(blob.content().decode())
    except (yaml.YAMLError, ValueError):
        return {}


def parse_front_matter(text: str) -> dict[str, Any]:
    """Parse the metadata at the head of a text; raise if it isn't a YAML mapping."""
    match = re.match(r"---\r?\n(.*?)^---\s*$", text, flags=re.DOTALL | re.MULTILINE)
    card = yaml.safe_load(match[1]) if match else None
    if card is not None and not isinstance(card, dict):
        raise ValueError("The metadata must be a mapping")
    return card or {}


# What goes over the wire.


class HubError(Exception):
    """An answer that refuses; `code` is what clients choose their exception by."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.headers = {"X-Error-Message": message or code}
        if code:
            self.headers["X-Error-Code"] = code


@dataclass
class Request:
    """A request as logged.

    `status` is 0 until an answer is on its way. `sent` counts the body bytes handed to the
    connection, a few megabytes more than arrived if the client left early.
    """

    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Call:
    """A request as the API's handlers see it."""

    method: str
    raw_path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    user: str | None = None
    args: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope) -> "Call":
        """Read a request's head."""
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode()))
        return cls(scope["method"], scope["raw_path"].decode(), query, headers)

    @property
    def base(self) -> str:
        """The address by which the client knows this server."""
        return f"http://{self.headers['host']}"

    @property
    def token(self) -> str | None:
        """The token that came along."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body or b"{}")


@dataclass
class Answer:
    """What to send: a part of a source, all of it by default."""

    source: Source
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None

    @property
    def end(self) -> int:
        """Where in the source the body ends."""
        if self.stop is None:
            return len(self.source) if isinstance(self.source, bytes) else 0
        return self.stop


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    body = json.dumps(value, default=str).encode()
    return Answer(body, status, {"Content-Type": "application/json", **(headers or {})})


def answer_error(error: HubError) -> Answer:
    """Answer with an error."""
    return answer_json({"error": str(error)}, error.status, error.headers)


def answer_file(blob: Blob, headers: dict[str, str], wanted: str | None) -> Answer:
    """Answer with a file, or with the one range of it that is asked for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not match or match.groups() == ("", ""):
        return Answer(blob.source, 200, headers, 0, blob.size)
    first, last = match.groups()
    start = int(first) if first else max(blob.size - int(last), 0)
    stop = min(int(last) + 1, blob.size) if first and last else blob.size
    if start >= stop:
        return Answer(b"", 416, headers | {"Content-Range": f"bytes */{blob.size}"})
    headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
    return Answer(blob.source, 206, headers, start, stop)


# The Hub's API.

Handler = Callable[["Api", Call], Answer]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
REPO = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[^/]+/[^/]+)"
WEB_REPO = r"/(?:(?P<kind>dataset|space)s/)?(?P<repo>[^/]+/[^/]+?)"
REVISION = r"/(?P<revision>[^/]+)"


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Register a handler by regular expressions for the method and for the raw path."""

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(path), handler))
        return handler

    return register


class Api:
    """The repositories, and the endpoints that read and change them."""

    def __init__(self, tokens: Mapping[str, str], page: int) -> None:
        self.tokens = dict(tokens)
        self.page = page
        self.repos: dict[tuple[str, str], Repo] = {}

    def answer(self, call: Call) -> Answer:
        """Answer a request."""
        try:
            return self._dispatch(call)
        except HubError as error:
            return answer_error(error)
        except Exception as error:
            logger.exception("%s %s", call.method, call.raw_path)
            return answer_error(HubError(500, message=type(error).__name__))

    def _dispatch(self, call: Call) -> Answer:
        if call.token is not None:
            if call.token not in self.tokens:
                raise HubError(401, message="Invalid credentials in Authorization header")
            call.user = self.tokens[call.token]
        for method, path, handler in ROUTES:
            match = path.fullmatch(call.raw_path)
            if match and re.fullmatch(method, call.method):
                call.args = {
                    name: unquote(value or "") for name, value in match.groupdict().items()
                }
                return handler(self, call)
        raise HubError(404, message="No such endpoint")

    def find(self, call: Call) -> Repo:
        """Find the repository that a request names, if its user may know of it."""
        repo = self.repos.get((call.args["kind"] or "model", call.args["repo"]))
        if repo is None or (repo.private and not repo.admits(call.user)):
            hidden = repo is not None and call.user is None
            raise HubError(401 if hidden else 404, "RepoNotFound", "Repository not found")
        return repo

    def find_readable(self, call: Call) -> Repo:
        """Find a repository of which the user may read the files."""
        repo = self.find(call)
        if repo.gated and not repo.admits(call.user):
            raise HubError(401 if call.user is None else 403, "GatedRepo", "Access is restricted")
        return repo

    def find_writable(self, call: Call) -> Repo:
        """Find a repository that the user may change."""
        repo = self.find(call)
        check_owner(call, repo.owner)
        return repo

    def page_of(self, call: Call, items: Sequence[Item]) -> Answer:
        """Answer with a page of a listing, linking to the next."""
        start = int(call.query.get("cursor", 0))
        stop = start + min(self.page, int(call.query.get("limit", self.page)))
        if stop >= len(items):
            return answer_json(items[start:])
        query = urlencode(call.query | {"cursor": stop})
        link = {"Link": f'<{call.base}{call.raw_path}?{query}>; rel="next"'}
        return answer_json(items[start:stop], headers=link)


def check_owner(call: Call, owner: str) -> None:
    """Raise unless it is the owner who asks."""
    if call.user is None:
        raise HubError(401, message="Invalid username or password.")
    if call.user != owner:
        raise HubError(403, message="You don't have the rights to change this repository")


# Endpoints: accounts and repositories.


@route("GET", "/api/whoami-v2")
def whoami(api: Api, call: Call) -> Answer:
    if call.user is None:
        raise HubError(401, message="Invalid username or password.")
    access = {"accessToken": {"displayName": "token", "role": "write"}}
    return answer_json({"type": "user", "name": call.user, "orgs": [], "auth": access})


@route("POST", "/api/validate-yaml")
def validate_yaml(api: Api, call: Call) -> Answer:
    try:
        parse_front_matter(call.json()["content"])
    except (yaml.YAMLError, ValueError) as error:
        return answer_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return answer_json({"errors": [], "warnings": []})


def _name_repo(call: Call) -> tuple[str, str]:
    asked = call.json()
    owner = asked.get("organization") or call.user
    return asked.get("type") or "model", f"{owner}/{asked['name']}"


@route("POST", "/api/repos/create")
def create_repo(api: Api, call: Call) -> Answer:
    asked, (kind, name) = call.json(), _name_repo(call)
    check_owner(call, name.split("/")[0])
    url = {"url": f"{call.base}/{WEB_PREFIXES[kind]}{name}", "name": name}
    if (kind, name) in api.repos:
        return answer_json(url | {"error": f"You already created this {kind} repo"}, 409)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    api.repos[kind, name] = repo = Repo(kind, name, private)
    repo.add("main", {}, "initial commit")
    return answer_json(url)


@route("DELETE", "/api/repos/delete")
def delete_repo(api: Api, call: Call) -> Answer:
    kind, call.args["repo"] = _name_repo(call)
    call.args["kind"] = kind
    repo = api.find_writable(call)
    del api.repos[kind, repo.name]
    return answer_json({})


@route("PUT", REPO + "/settings")
def change_settings(api: Api, call: Call) -> Answer:
    repo, asked = api.find_writable(call), call.json()
    repo.gated = asked.get("gated", repo.gated)
    if "visibility" in asked or "private" in asked:
        repo.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    return answer_json({"private": repo.private, "gated": repo.gated})


@route("GET", REPO + "/auth-check(?P<write>/write)?")
def check_access(api: Api, call: Call) -> Answer:
    (api.find_writable if call.args["write"] else api.find_readable)(call)
    return answer_json({})


# Endpoints: reading.


@route("GET", REPO + f"(?:/revision{REVISION})?")
def get_info(api: Api, call: Call) -> Answer:
    repo = api.find(call)
    commit = repo.at(call.args["revision"] or "main")
    card = read_card(commit)
    keys = ("license", "language", "task_categories", "size_categories")
    values = [(key, card[key]) for key in keys if card.get(key)]
    tags = [f"{key}:{v}" for key, vs in values for v in (vs if isinstance(vs, list) else [vs])]
    siblings = [_describe_sibling(call, *item) for item in sorted(commit.files.items())]
    info: dict[str, Any] = {"id": repo.name, "author": repo.owner, "sha": commit.oid}
    info |= {"private": repo.private, "gated": repo.gated, "disabled": False, "downloads": 0}
    info |= {"likes": 0, "lastModified": commit.date, "siblings": siblings}
    info["tags"] = list(card.get("tags") or []) + tags
    if card:
        info["cardData"] = card
    if repo.kind == "model":
        info |= {key: card[key] for key in ("pipeline_tag", "library_name") if key in card}
    return answer_json(info)


def _describe_sibling(call: Call, path: str, blob: Blob) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if call.query.get("blobs", "").lower() in ("true", "1"):
        entry = describe(path, blob)
        sibling |= {"size": blob.size, "blobId": entry["oid"]}
        if "lfs" in entry:
            sibling["lfs"] = entry["lfs"] | {"sha256": blob.sha256}
    return sibling


@route("GET", REPO + f"/tree{REVISION}(?:/(?P<path>.*))?")
def get_tree(api: Api, call: Call) -> Answer:
    commit = api.find(call).at(call.args["revision"])
    recursive = call.query.get("recursive", "").lower() in ("true", "1")
    entries = list_tree(commit.files, call.args["path"].strip("/"), recursive=recursive)
    return api.page_of(call, entries)


@route("POST", REPO + f"/paths-info{REVISION}")
def get_paths_info(api: Api, call: Call) -> Answer:
    commit = api.find(call).at(call.args["revision"])
    paths = parse_qs(call.body.decode()).get("paths", [])
    entries = {entry["path"]: entry for entry in list_tree(commit.files, "", recursive=True)}
    return answer_json([entries[path] for path in paths if path in entries])


@route("GET", REPO + "/refs")
def get_refs(api: Api, call: Call) -> Answer:
    def listing(names: dict[str, Commit], prefix: str) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"{prefix}/{name}", "targetCommit": commit.oid}
            for name, commit in names.items()
        ]

    repo = api.find(call)
    branches, tags = listing(repo.branches, "refs/heads"), listing(repo.tags, "refs/tags")
    return answer_json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("GET", REPO + f"/commits{REVISION}")
def get_commits(api: Api, call: Call) -> Answer:
    commit: Commit | None = api.find(call).at(call.args["revision"])
    listing: list[dict[str, Any]] = []
    while commit is not None:
        entry = {"id": commit.oid, "title": commit.title, "message": commit.message}
        listing.append(entry | {"date": commit.date, "authors": [{"user": commit.author}]})
        commit = commit.parent
    return api.page_of(call, listing)


@route("GET|HEAD", WEB_REPO + f"/resolve{REVISION}/(?P<path>.+)")
def get_file(api: Api, call: Call) -> Answer:
    commit = api.find_readable(call).at(call.args["revision"])
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    path = call.args["path"]
    blob = commit.files.get(path)
    if blob is None:
        error = HubError(404, "EntryNotFound", "Entry not found")
        error.headers |= headers
        raise error
    headers |= {"Content-Type": "application/octet-stream", "ETag": f'"{blob.sha1}"'}
    if is_lfs(path, blob.size):
        headers["ETag"] = headers["X-Linked-Etag"] = f'"{blob.sha256}"'
        headers["X-Linked-Size"] = str(blob.size)
    return answer_file(blob, headers, call.headers.get("range"))


# Endpoints: writing.


@route("POST", REPO + f"/branch{REVISION}")
def create_branch(api: Api, call: Call) -> Answer:
    repo, branch = api.find_writable(call), call.args["revision"]
    if branch in repo.branches:
        raise HubError(409, message="Reference already exists")
    repo.branches[branch] = repo.at(call.json().get("startingPoint") or "main")
    return answer_json({})


@route("POST", REPO + f"/tag{REVISION}")
def create_tag(api: Api, call: Call) -> Answer:
    repo, tag = api.find_writable(call), call.json()["tag"]
    if tag in repo.tags:
        raise HubError(409, message="Tag reference exists already")
    repo.tags[tag] = repo.at(call.args["revision"])
    return answer_json({})


@route("DELETE", REPO + f"/(?P<what>branch|tag){REVISION}")
def delete_reference(api: Api, call: Call) -> Answer:
    repo = api.find_writable(call)
    names = repo.branches if call.args["what"] == "branch" else repo.tags
    if names.pop(call.args["revision"], None) is None:
        raise HubError(404, "RevisionNotFound", "Reference does not exist")
    return answer_json({})


@route("POST", REPO + f"/preupload{REVISION}")
def preupload(api: Api, call: Call) -> Answer:
    commit = api.find_writable(call).at(call.args["revision"])
    files = []
    for asked in call.json()["files"]:
        path, lfs = asked["path"], is_lfs(asked["path"], asked["size"])
        blob = commit.files.get(path)
        oid = blob and (blob.sha256 if lfs else blob.sha1)
        mode = "lfs" if lfs else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return answer_json({"files": files})


@route("POST", WEB_REPO + r"\.git/info/lfs/objects/batch")
def lfs_batch(api: Api, call: Call) -> Answer:
    repo = api.find_writable(call)
    objects = []
    for asked in call.json()["objects"]:
        entry = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in repo.objects:
            href = f"{call.base}/_lfs/{repo.kind}s/{repo.name}/{asked['oid']}"
            entry["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        objects.append(entry)
    return answer_json({"transfer": "basic", "objects": objects})


# The address stands for a signed one: clients send no token to it.
@route("PUT", "/_lfs" + REPO.removeprefix("/api") + "/(?P<oid>[0-9a-f]{64})")
def lfs_upload(api: Api, call: Call) -> Answer:
    blob = Blob.of(call.body)
    if blob.sha256 != call.args["oid"]:
        raise HubError(400, message="The content is not what its name says")
    api.repos[call.args["kind"], call.args["repo"]].objects[blob.sha256] = blob
    return answer_json({})


@route("POST", "/_lfs" + REPO.removeprefix("/api") + "/(?P<oid>[0-9a-f]{64})/verify")
def lfs_verify(api: Api, call: Call) -> Answer:
    blob = api.find_writable(call).objects.get(call.args["oid"])
    if blob is None or blob.size != call.json()["size"]:
        raise HubError(400, message="The object was not uploaded whole")
    return answer_json({})


@route("POST", REPO + f"/commit{REVISION}")
def commit_files(api: Api, call: Call) -> Answer:
    repo, branch = api.find_writable(call), call.args["revision"]
    if branch not in repo.branches:
        raise HubError(404, "RevisionNotFound", "Invalid rev id")
    head = repo.branches[branch]
    lines = [json.loads(line) for line in call.body.splitlines() if line]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit", head.oid) != head.oid:
        raise HubError(412, message="A commit has happened since. Please refresh and try again.")
    changes: dict[str, Blob | None] = {}
    for line in lines:
        changes |= _read_operation(repo, head, line["key"], line["value"])
    commit = repo.add(branch, changes, header["summary"], header.get("description", ""))
    url = f"{call.base}/{WEB_PREFIXES[repo.kind]}{repo.name}/commit/{commit.oid}"
    return answer_json({"success": True, "commitOid": commit.oid, "commitUrl": url})


def _read_operation(
    repo: Repo, head: Commit, key: str, value: dict[str, Any]
) -> dict[str, Blob | None]:
    if key == "header":
        return {}
    path: str = value["path"].strip("/")
    if key == "file":
        return {path: Blob.of(base64.b64decode(value["content"]))}
    if key == "lfsFile":
        if value["oid"] not in repo.objects:
            raise HubError(400, message="An LFS object was not uploaded")
        return {path: repo.objects[value["oid"]]}
    deep = key == "deletedFolder"
    gone = [name for name in head.files if (name.startswith(f"{path}/") if deep else name == path)]
    if not gone:
        raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
    return dict.fromkeys(gone)


# Faults.


@dataclass
class Fault:
    """A failure waiting for its requests; see `Hub.fail`."""

    kind: FaultKind
    path: re.Pattern[str]
    method: str | None
    times: int | None
    after: int
    status: int
    headers: dict[str, str]
    seconds: float | None
    share: float

    def fits(self, request: Request) -> bool:
        """Say whether a request is one to fail."""
        if self.kind == "truncate" and request.method == "HEAD":
            return False  # there is no body to shorten
        method = self.method or request.method
        return method.upper() == request.method and bool(self.path.search(request.path))


class Faults:
    """The queue of faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[Fault] = []
        self.served = 0

    def add(self, fault: Fault) -> None:
        """Queue a fault."""
        with self._lock:
            self._queue.append(fault)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._queue.clear()

    def take(self, request: Request) -> Fault | None:
        """Take the first fault that fits, counting the request down for those that let it pass."""
        with self._lock:
            for fault in self._queue:
                if not fault.fits(request):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        self._queue.remove(fault)
                self.served += 1
                return fault
        return None


# The server.


class _Protocol(H11Protocol):
    """Hands its connection to the application, which breaks it in some faults."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}


class _Wire:
    """The connection that one request came by."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._transport: asyncio.Transport = scope["state"]["transport"]
        self._receive, self._send = receive, send

    @property
    def broken(self) -> bool:
        return self._transport.is_closing()

    async def read(self) -> bytes | None:
        """Read the request's body; None if the client left meanwhile."""
        parts = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    async def start(self, status: int, headers: Mapping[str, str], length: int) -> None:
        pairs = [*headers.items(), ("Content-Length", str(length))]
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def hang_up(self) -> None:
        """Close the connection, after what is already written."""
        self._transport.close()
        await self._wait_gone()

    async def stall(self, seconds: float | None) -> None:
        """Do nothing for that long, or until the client leaves."""
        try:
            await asyncio.wait_for(self._wait_gone(), seconds)
        except TimeoutError:
            return

    async def _wait_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Hub:
    """One server; its state is in memory.

    Args:
        tokens: The user that each token stands for.
        page: How many entries a page of a listing holds.
        port: Where to listen; 0 takes a free port.
    """

    def __init__(
        self, *, tokens: Mapping[str, str] | None = None, page: int = 1000, port: int = 0
    ) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self._api = Api({"hf_test": "user"} if tokens is None else tokens, page)
        self._faults = Faults()
        self._lock = threading.RLock()  # the server's thread and the test's share the state
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path | None],
        *,
        kind: Kind = "dataset",
        branch: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Add, change or delete (None) files in a new commit, and return its hash.

        Makes the repository, to which alone `private` and `gated` apply, and the branch if needed.
        What a path holds is served from disk, so it must stay as it is.
        """
        blobs = {name: None if f is None else Blob.of(f) for name, f in files.items()}
        with self._lock:
            repo = self._api.repos.get((kind, repo_id))
            if repo is None:
                repo = Repo(kind, repo_id, private, "auto" if gated else False)
                repo.add("main", {}, "initial commit")
                self._api.repos[kind, repo_id] = repo
            return repo.add(branch, blobs, f"Change {len(blobs)} files").oid

    def files(self, repo_id: str, kind: Kind = "model", revision: str = "main") -> dict[str, bytes]:
        """Return what a repository holds."""
        with self._lock:
            commit = self._api.repos[kind, repo_id].at(revision)
        return {path: blob.content() for path, blob in commit.files.items()}

    def grant(self, repo_id: str, user: str, kind: Kind | None = None) -> None:
        """Let a user read a private or gated repository."""
        with self._lock:
            for repo in self._api.repos.values():
                if repo.name == repo_id and kind in (None, repo.kind):
                    repo.granted.add(user)

    def bytes_sent(self, pattern: str = ".*") -> int:
        """Count the body bytes sent for requests whose path matches (as `re.search` does)."""
        return sum(r.sent for r in list(self.requests) if re.search(pattern, r.path))

    @property
    def faults_served(self) -> int:
        """How many requests met a fault."""
        return self._faults.served

    def fail(
        self,
        kind: FaultKind,
        *,
        path: str = ".*",
        method: str | None = None,
        times: int | None = 1,
        after: int = 0,
        status: int = 500,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
        share: float = 0.5,
    ) -> None:
        """Queue a fault for requests whose path matches (as `re.search` does).

        - "status" answers `status` with `headers`; nothing is done.
        - "refuse" closes the connection before reading or doing anything.
        - "drop" sends `share` of the body and closes the connection.
        - "stall" sends `share` of the body, then nothing for `seconds` (None: until the client
          leaves), and closes the connection.
        - "truncate" sends `share` of the body as if that were all. It lets HEAD requests pass.

        A drop or stall of an upload, or of an answer without body, sends nothing at all; what was
        asked is done, so this is the lost answer to a commit that happened.

        `method` None is any. The first `after` requests that would match pass, the next `times`
        (None: all) fail. Of several faults that match, the one queued first is served.
        """
        if kind not in get_args(FaultKind):
            raise ValueError(f"Unknown kind of fault: {kind!r}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must be within [0, 1], not {share}")
        pattern, extra = re.compile(path), dict(headers or {})
        fault = Fault(kind, pattern, method, times, after, status, extra, seconds, share)
        self._faults.add(fault)

    def heal(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self._port))
        port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        config = uvicorn.Config(
            cast(Any, self._serve),
            interface="asgi3",
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        run = self._run(self._server, listener)
        self._thread = threading.Thread(target=asyncio.run, args=(run,), daemon=True)
        self._thread.start()
        # The socket listens already, so this waits until the server answers.
        probe = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        probe.request("GET", "/_statistics", headers={"Connection": "close"})
        probe.getresponse().read()
        probe.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._loop and self._server and self._thread
        self._server.should_exit = True
        self._loop.call_soon_threadsafe(self._abort_all, self._server)
        self._thread.join(timeout=10)

    async def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    def _abort_all(self, server: uvicorn.Server) -> None:
        # Ends the stalls, for which the server would wait.
        for connection in list(server.server_state.connections):
            cast(_Protocol, connection).transport.abort()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, wire = Call.of(scope), _Wire(scope, receive, send)
        path = unquote(call.raw_path)
        request = Request(call.method, path, call.headers.get("range"), call.token)
        fault = None
        if path not in ("/_statistics", "/_faults"):
            self.requests.append(request)
            fault = self._faults.take(request)
        if fault and fault.kind == "refuse":
            await wire.hang_up()
            return
        body = await wire.read()
        if body is None:
            return
        call.body = body
        await self._deliver(wire, request, self._answer(call, fault), fault, uploaded=bool(body))

    def _answer(self, call: Call, fault: Fault | None) -> Answer:
        if fault and fault.kind == "status":
            return answer_json({"error": "A fault was asked for"}, fault.status, fault.headers)
        if call.raw_path == "/_statistics":
            sent = self.bytes_sent()
            return answer_json({"requests": len(self.requests), "bytes_sent": sent})
        if call.raw_path == "/_faults":
            return self._control_faults(call)
        with self._lock:
            return self._api.answer(call)

    def _control_faults(self, call: Call) -> Answer:
        try:
            if call.method == "DELETE":
                self.heal()
            else:
                self.fail(**call.json())
        except (TypeError, ValueError, re.error) as error:
            return answer_json({"error": str(error)}, 400)
        return answer_json({})

    async def _deliver(
        self, wire: _Wire, request: Request, answer: Answer, fault: Fault | None, *, uploaded: bool
    ) -> None:
        kind = fault.kind if fault else None
        length = answer.end - answer.start
        breaks = fault is not None and kind in ("drop", "stall")
        silent = breaks and (uploaded or request.method == "HEAD" or length == 0)
        sent = int(length * fault.share) if fault and kind != "status" else length
        if not silent:
            request.status = answer.status
            await wire.start(answer.status, answer.headers, sent if kind == "truncate" else length)
            if request.method != "HEAD":
                await self._stream(
                    wire, request, read(answer.source, answer.start, answer.start + sent)
                )
        if fault and breaks:
            if kind == "stall":
                await wire.stall(fault.seconds)
            await wire.hang_up()
        elif wire.broken:
            await wire.hang_up()
        else:
            await wire.write(b"", more=False)

    async def _stream(self, wire: _Wire, request: Request, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            if wire.broken:
                return
            # Counted first: the client may look as soon as it has the last byte.
            request.sent += len(chunk)
            await wire.write(chunk, more=True)


def main() -> None:
    """Serve a folder until told to stop."""
    parser = argparse.ArgumentParser(description="Serve a folder as a repository of a small Hub.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repo", default="user/name")
    parser.add_argument("--kind", choices=get_args(Kind), default="dataset")
    options = parser.parse_args()
    # Blocked in every thread, so that the one below is woken.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with Hub(port=options.port) as hub:
        if options.folder is not None:
            paths = [path for path in options.folder.rglob("*") if path.is_file()]
            files = {path.relative_to(options.folder).as_posix(): path for path in paths}
            hub.commit(options.repo, files, kind=options.kind)
        print(hub.url, flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
