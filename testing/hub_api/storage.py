"""Storage of a Hub for tests: repositories, commits and files."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

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


class HubError(Exception):
    """An error response; clients choose their exception by `code`."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.headers = {"X-Error-Message": message or code}
        if code:
            self.headers["X-Error-Code"] = code


def read(source: Source, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `stop` in chunks."""
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
    """The content of a file, in memory or on disk, with its git and LFS digests."""

    source: Source
    size: int
    sha1: str
    sha256: str

    @classmethod
    def of(cls, source: Source) -> "Blob":
        """Create a blob with its size and digests."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        sha1, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
        for chunk in read(source, 0, size):
            sha1.update(chunk)
            sha256.update(chunk)
        return cls(source, size, sha1.hexdigest(), sha256.hexdigest())

    def content(self) -> bytes:
        """Read the whole content."""
        return b"".join(read(self.source, 0, self.size))


def is_lfs(path: str, size: int) -> bool:
    """Return whether a file is stored by LFS; clients never send empty files to it."""
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
    """A commit with all files of the repository."""

    oid: str
    parent: "Commit | None"
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """A repository with its commits, references and permissions."""

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
        """The only user who may write."""
        return self.name.split("/")[0]

    def admits(self, user: str | None) -> bool:
        """Return whether a user may read a private or gated repository."""
        return user is not None and user in self.granted | {self.owner}

    def add(
        self, branch: str, changes: Mapping[str, Blob | None], title: str, message: str = ""
    ) -> Commit:
        """Commit changes (None deletes) to a branch, created if needed."""
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
        """Find the commit of a branch, a tag, or a full or short hash."""
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
