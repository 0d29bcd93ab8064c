"""Where files lie: a folder, or a dataset repository on the Hub at one commit."""

import io
import json
import logging
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from huggingface_hub import (
    HfApi,
    HfFileSystem,
    cached_assets_path,
    constants,
    hf_hub_download,
    is_offline_mode,
    try_to_load_from_cache,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from agit_hub.data.retry import RetryPolicy
from agit_hub.errors import DataError, DatasetError, FetchError

_log = logging.getLogger("agit_hub.data")
COMMIT = re.compile(r"[0-9a-f]{40}")
# How much of a file is read at least, when it is read where it lies.
_REMOTE_BLOCK = 2**16
# Seconds for a Hub that may be out of reach, with an earlier listing at hand.
_BRIEFLY = 10
# Files fetched at the same time, where all are wanted.
_CONNECTIONS = 8


class FileStore(ABC):
    """Files under one root."""

    name: str
    """For messages."""
    revision: str | None
    """The commit, on the Hub."""
    card: Mapping[str, Any]
    """The front matter of its README, such as `configs`."""
    files: list[str]
    """Paths below the root, sorted, hidden ones left out."""
    fetches: bool
    """Whether `fetch` brings files from elsewhere."""

    @abstractmethod
    def fetch(self, file: str) -> Path:
        """The file on this machine's disk, brought there first if need be."""

    def fetch_all(self, files: Sequence[str]) -> None:
        """Fetch files now, several at a time.

        Raises:
            DatasetError: The first trouble.
        """
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(self.fetch, files))

    def fetch_ahead(self, file: str) -> None:
        """Fetch a file in the background. Whoever needs it then hears of any trouble."""
        return

    @abstractmethod
    def open(self, file: str) -> BinaryIO:
        """The file for reading and seeking, without bringing all of it."""

    @abstractmethod
    def describe(self, file: str) -> str:
        """The file, for messages."""


class FolderStore(FileStore):
    """A folder and its subfolders.

    Raises:
        DataError: If there is no such folder.
    """

    revision = None
    card: Mapping[str, Any] = {}
    fetches = False

    def __init__(self, path: str | Path) -> None:
        self._root = Path(path).expanduser()
        self.name = str(self._root)
        if not self._root.exists():
            raise DataError(f"The folder {self._root} does not exist.")
        if not self._root.is_dir():
            raise DataError(f"{self._root} is a file; a folder of pictures is needed.")
        found = (path for path in self._root.rglob("*") if path.is_file())
        self.files = _visible(path.relative_to(self._root).as_posix() for path in found)

    def fetch(self, file: str) -> Path:
        """Where the file lies."""
        return self._root / file

    def open(self, file: str) -> BinaryIO:
        """Open the file."""
        return (self._root / file).open("rb")

    def describe(self, file: str) -> str:
        """The file's path."""
        return str(self._root / file)


class HubStore(FileStore):
    """A dataset repository at one commit. What is fetched stays in the Hub client's own cache.

    The list of files is kept beside that cache, so that what was fetched can be read offline.

    Args:
        repo: `user/name`.
        revision: A branch, tag or commit; None for `main`.
        patience: Seconds that a call may take with all its retries.

    Raises:
        DataError: If there is no such dataset, or no access to it.
        FetchError: If the network stays bad.
    """

    fetches = True

    def __init__(self, repo: str, revision: str | None, patience: float) -> None:
        self._repo = repo
        self._ahead: set[str] = set()
        self.name = f"the dataset {repo}"
        self._patience = RetryPolicy(self.name, patience)
        disable_progress_bars("huggingface_hub.http_get")  # they would tear the training's own
        listing = self._listing(revision)
        self.revision = listing["sha"]
        self.card = listing["card"]
        self.files = _visible(listing["files"])

    def fetch(self, file: str) -> Path:
        """The file in the Hub's cache."""
        if found := self._cached(file):
            return found
        return Path(
            self._patience(
                lambda: hf_hub_download(
                    self._repo, file, repo_type="dataset", revision=self.revision
                ),
                f"fetching {file}",
            )
        )

    def fetch_ahead(self, file: str) -> None:
        """Begin to bring the file into the Hub's cache."""
        if file not in self._ahead:
            self._ahead.add(file)
            threading.Thread(target=self._try_to_fetch, args=(file,), daemon=True).start()

    def _try_to_fetch(self, file: str) -> None:
        # One at a time: what is ahead must not take the line, or memory, from what is needed now.
        with _turn(os.getpid()), suppress(DatasetError):
            self.fetch(file)

    def open(self, file: str) -> BinaryIO:
        """The file in the cache, or on the Hub."""
        if found := self._cached(file):
            return found.open("rb")
        path = f"datasets/{self._repo}@{self.revision}/{file}"
        opened = self._patience(
            lambda: HfFileSystem().open(path, cache_type="none"), f"opening {file}"
        )
        remote = _RemoteFile(opened, self._patience, f"reading {file}")
        return io.BufferedReader(remote, _REMOTE_BLOCK)

    def describe(self, file: str) -> str:
        """The repository and the file."""
        return f"{self._repo}/{file}"

    def _cached(self, file: str) -> Path | None:
        found = try_to_load_from_cache(
            self._repo, file, repo_type="dataset", revision=self.revision
        )
        return Path(found) if isinstance(found, str) else None

    def _listing(self, revision: str | None) -> dict[str, Any]:
        kept = self._kept(revision or "main")
        if kept.is_file() and (is_offline_mode() or COMMIT.fullmatch(revision or "")):
            return _read(kept)
        # With a listing at hand a Hub that cannot be reached is not waited for.
        seconds = self._patience.seconds
        seconds = min(_BRIEFLY, seconds) if kept.is_file() else seconds
        try:
            info = RetryPolicy(self.name, seconds)(
                lambda: HfApi().dataset_info(
                    self._repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
                ),
                "listing its files",
            )
        except FetchError as error:
            if not kept.is_file():
                raise
            listing = _read(kept)
            _log.warning("%s Going on with what was listed before: %s.", error, listing["sha"][:8])
            return listing
        listing = {
            "sha": info.sha,
            "files": [sibling.rfilename for sibling in info.siblings or []],
            "card": {"configs": info.card_data.get("configs") if info.card_data else None},
        }
        for name in {revision or "main", str(info.sha)}:
            draft = self._kept(name).with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(listing), encoding="utf-8")
            draft.replace(self._kept(name))
        return listing

    def _kept(self, revision: str) -> Path:
        folder = cached_assets_path("agit-hub", "listings", self._repo)
        return folder / f"{quote(revision, safe='')}.json"


@lru_cache(maxsize=1)
def _turn(process: int) -> threading.Lock:
    return threading.Lock()


def _read(listing: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(listing.read_text(encoding="utf-8"))
    return found


def _visible(files: Iterable[str]) -> list[str]:
    return sorted(
        file for file in files if not any(part.startswith(".") for part in file.split("/"))
    )


class _RemoteFile(io.RawIOBase):
    """A file on the Hub, whose reads outlast a bad network."""

    def __init__(self, file: Any, patience: RetryPolicy, doing: str) -> None:
        self._file = file
        self._patience = patience
        self._doing = doing
        self._position = 0

    def readinto(self, buffer: Any) -> int:
        start, size = self._position, int(self._file.size)
        wanted = max(min(len(buffer), size - start), 0)

        def attempt() -> bytes:
            self._file.seek(start)
            data: bytes = self._file.read(wanted)
            if len(data) < wanted:
                raise TimeoutError(f"the answer breaks off after {len(data)} of {wanted} bytes")
            return data

        buffer[:wanted] = self._patience(attempt, self._doing) if wanted else b""
        self._position += wanted
        return wanted

    def seek(self, offset: int, whence: int = 0) -> int:
        origin: dict[int, int] = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._file.size,
        }
        self._position = origin[whence] + int(offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
