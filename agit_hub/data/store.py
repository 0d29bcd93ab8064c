"""File stores: a folder, or a dataset repository on the Hub at one commit."""

import io
import json
import math
import os
import posixpath
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from difflib import get_close_matches
from functools import cached_property, lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote

from huggingface_hub import (
    HfApi,
    HfFileSystem,
    HfFileSystemFile,
    cached_assets_path,
    constants,
    hf_hub_download,
    is_offline_mode,
    try_to_load_from_cache,
)
from huggingface_hub.utils.tqdm import tqdm

from agit_hub.atomic import write_bytes
from agit_hub.data.listing import HIDDEN, Skipped, is_container, is_hidden, walk
from agit_hub.data.retry import RetryPolicy
from agit_hub.errors import DataError, DatasetError, FetchError
from agit_hub.logging import get_logger

_log = get_logger("agit_hub.data")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Smallest range that is requested of a remote file.
_REMOTE_BLOCK = 2**16
# Seconds to wait for the list of files where an earlier list is cached.
_CACHED_LIST_TIMEOUT = 10
# Files fetched at the same time, where all are needed.
_CONNECTIONS = 8


class FileStore(ABC):
    """Files below one root.

    Args:
        kind: What the root is, for messages: `folder` or `dataset`.
        root: Its path or repository.
    """

    revision: str | None = None
    """The commit, on the Hub."""
    card: Mapping[str, Any] = {}
    """The front matter of the README, such as `configs`."""
    files: list[str]
    """Paths below the root, sorted, without those that are skipped."""
    skipped: Skipped
    """Files that no dataset reads: hidden, empty, behind a broken link, ..."""
    fetches: bool
    """Whether `fetch` downloads files."""
    key: str
    """Equal for two stores of the same files."""

    def __init__(self, kind: str, root: str) -> None:
        self._root = root
        self.skipped = Skipped()
        self.name = f"the {kind} {root}"
        self.title = f"The {kind} {root}"

    @abstractmethod
    def fetch(self, file: str) -> Path:
        """Return the local path of a file, downloading it first if necessary."""

    def fetch_all(self, files: Sequence[str]) -> None:
        """Fetch files now, several at a time.

        Raises:
            DatasetError: The first failure.
        """
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(self.fetch, files))

    def fetch_ahead(self, file: str) -> None:
        """Fetch a file in the background; a later `fetch` raises any error."""
        return

    def open(self, file: str, fetch: bool = False) -> BinaryIO:
        """Open a file for reading and seeking; only with `fetch` is all of it downloaded."""
        return self.fetch(file).open("rb") if fetch else self._open(file)

    @abstractmethod
    def _open(self, file: str) -> BinaryIO: ...

    def find(self, path: str, beside: str) -> str | None:
        """Return the file that a row of a table names, relative to the table or to the root."""
        path = path.replace("\\", "/")
        near = str(PurePosixPath(beside).parent / path)
        options = (posixpath.normpath(near), posixpath.normpath(path))
        return next((option for option in options if option in self._known), None)

    @cached_property
    def _known(self) -> set[str]:
        return set(self.files)

    @abstractmethod
    def identity(self, file: str) -> str:
        """Return what is equal for two files that are the same one, by whatever path."""

    def describe(self, file: str) -> str:
        """Return the location of a file, for messages."""
        return f"{self._root}/{file}"


class FolderStore(FileStore):
    """A folder and its subfolders, links followed; or a single archive or shard in a folder.

    Raises:
        DataError: If the folder does not exist, or a file is no archive.
    """

    fetches = False

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        super().__init__("file" if self._path.is_file() else "folder", str(self._path))
        self.key = str(self._path.resolve())
        if not self._path.exists():
            raise DataError(f"{self.title} does not exist.{suggest_path(self._path)}")
        if self._path.is_dir():
            self.files = sorted(walk(self._path, self.skipped))
            return
        if not is_container(self._path.name):
            raise DataError(
                f"{self._path} is a file; expected a folder of images, an archive "
                "(.zip, .tar, .tar.gz) or a shard (.parquet, .arrow)."
            )
        self.files = [self._path.name]
        self._path = self._path.parent
        self._root = str(self._path)

    def fetch(self, file: str) -> Path:
        """Return the path of a file."""
        return self._path / file

    def _open(self, file: str) -> BinaryIO:
        return self.fetch(file).open("rb")

    def find(self, path: str, beside: str) -> str | None:
        """Return the file that a row of a table names, also by its absolute path."""
        if Path(path).is_absolute():
            return path if Path(path).is_file() else None
        return super().find(path, beside)

    def identity(self, file: str) -> str:
        """Return the path of a file without links."""
        return str(self.fetch(file).resolve())


def suggest_path(path: Path) -> str:
    """Return a sentence that names what a missing path may have meant; empty if nothing is near."""
    parent = next(place for place in path.absolute().parents if place.is_dir())
    missing = path.absolute().relative_to(parent).parts[0]
    with suppress(OSError):
        near = get_close_matches(missing, [found.name for found in parent.iterdir()], 1)
        if near:
            return f" Did you mean {parent / near[0]}?"
    return ""


class HubStore(FileStore):
    """A dataset repository at one commit. Fetched files stay in the Hub client's cache.

    The list of files is stored beside that cache, so that fetched files can be read offline.

    Args:
        repo: `user/name`.
        revision: A branch, tag or commit; None for `main`.
        hub_timeout: Seconds that a call to the Hub may take with all retries.

    Raises:
        DataError: If the dataset does not exist or access is denied.
        FetchError: If the network keeps failing.
    """

    fetches = True

    def __init__(self, repo: str, revision: str | None, hub_timeout: float) -> None:
        super().__init__("dataset", repo)
        self._repo = repo
        self._prefetched: set[str] = set()
        self._retry = RetryPolicy(self.name, hub_timeout)
        listing = self._list_files(revision)
        self.revision = listing["sha"]
        self.key = f"{repo.lower()}@{self.revision}"
        self.card = listing["card"]
        hidden = [file for file in listing["files"] if is_hidden(file)]
        self.skipped.add(HIDDEN, *hidden)
        self.files = sorted(set(listing["files"]) - set(hidden))

    def fetch(self, file: str) -> Path:
        """Return the path of a file in the Hub's cache."""
        if found := self._cached(file):
            return found
        options: Any = {"revision": self.revision, "tqdm_class": _NoProgressBar}
        download = partial(hf_hub_download, self._repo, file, repo_type="dataset", **options)
        return Path(self._retry(download, f"fetching {file}"))

    def fetch_ahead(self, file: str) -> None:
        """Fetch a file into the Hub's cache in a background thread."""
        if file not in self._prefetched:
            self._prefetched.add(file)
            threading.Thread(target=self._prefetch, args=(file,), daemon=True).start()

    def _prefetch(self, file: str) -> None:
        # One at a time, which leaves bandwidth and memory to the files that are needed now.
        with _prefetch_lock(os.getpid()), suppress(DatasetError):
            self.fetch(file)

    def _open(self, file: str) -> BinaryIO:
        if found := self._cached(file):
            return found.open("rb")
        path = f"datasets/{self._repo}@{self.revision}/{file}"
        remote = partial(_RemoteFile, path, self._retry, f"reading {file}")
        opened = self._retry(remote, f"opening {file}")
        return io.BufferedReader(opened, _REMOTE_BLOCK)

    def identity(self, file: str) -> str:
        """Return the repository, the commit and the path."""
        return f"{self.key}/{file}"

    def _cached(self, file: str) -> Path | None:
        found = try_to_load_from_cache(
            self._repo, file, repo_type="dataset", revision=self.revision
        )
        return Path(found) if isinstance(found, str) else None

    def _list_files(self, revision: str | None) -> dict[str, Any]:
        cached = self._listing_path(revision or "main")
        earlier: dict[str, Any] = json.loads(cached.read_text()) if cached.is_file() else {}
        if earlier and (is_offline_mode() or COMMIT.fullmatch(revision or "")):
            return earlier
        timeout = min(_CACHED_LIST_TIMEOUT if earlier else math.inf, self._retry.seconds)
        try:
            info = RetryPolicy(self.name, timeout)(
                lambda: HfApi().dataset_info(
                    self._repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
                ),
                "listing its files",
            )
        except FetchError as error:
            if not earlier:
                raise
            _log.warning("%s Using the cached list of commit %s.", error, earlier["sha"][:8])
            return earlier
        listing = {
            "sha": info.sha,
            "files": [sibling.rfilename for sibling in info.siblings or []],
            "card": {"configs": info.card_data.get("configs") if info.card_data else None},
        }
        for name in {revision or "main", str(info.sha)}:
            write_bytes(self._listing_path(name), json.dumps(listing).encode())
        return listing

    def _listing_path(self, revision: str) -> Path:
        folder = cached_assets_path("agit-hub", "listings", self._repo)
        return folder / f"{quote(revision, safe='')}.json"


@lru_cache(maxsize=1)
def _prefetch_lock(process: int) -> threading.Lock:
    """Return the lock of a process: a forked one must not inherit a lock that is held."""
    return threading.Lock()


class _NoProgressBar(tqdm):
    """A disabled progress bar: the client's would interrupt the progress line of a training."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]


class _RemoteFile(HfFileSystemFile):
    """A file on the Hub whose reads are retried."""

    def __init__(self, path: str, retry: RetryPolicy, operation: str) -> None:
        super().__init__(HfFileSystem(), path, cache_type="none")
        self._retry = retry
        self._operation = operation

    def read(self, length: int = -1) -> bytes:
        # With a length the client reads ranges; without one, a stream that would not be retried.
        length = self.size - self.loc if length < 0 else length
        data: bytes = super().read(length)  # type: ignore[no-untyped-call]
        return data

    def _fetch_range(self, start: int, end: int) -> bytes:
        end = min(end, self.size)

        def attempt() -> bytes:
            data: bytes = super(_RemoteFile, self)._fetch_range(start, end)
            if len(data) < end - start:
                raise TimeoutError(f"the response ends after {len(data)} of {end - start} bytes")
            return data

        return self._retry(attempt, self._operation)
