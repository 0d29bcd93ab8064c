"""Write files atomically: under another name, flushed to disk, then renamed.

What a killed process has left is removed by a later one that writes to the same folder.
"""

import atexit
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agit_hub.environment import describe
from agit_hub.errors import SaveError

UNFINISHED = ".unfinished"
# Of a draft or folder of a process that is gone or on another machine, before it counts as left behind.
_SECONDS_KEPT = 24 * 3600
_OWNER = re.compile(r"\.([0-9a-f]{8})-(\d+)(\.unfinished)?$")
_cleaned: set[Path] = set()
# Bytes of a draft's name that are taken from the file's: file systems allow 255, some 143.
_NAME_BYTES = 80


def unfinished(path: Path) -> Path:
    """Return the path under which a file or folder is written until it is complete."""
    return path.with_name(path.name + UNFINISHED)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` on success and is deleted on any error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean_once(path.parent)
    # Named by process, because another one may write the same file.
    draft = path.with_name(f".{_short(path.name)}.{_owner()}{UNFINISHED}")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a whole file.

    Raises:
        SaveError: If the file cannot be written; an earlier file of that name is then untouched.
    """
    try:
        with atomic_path(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise _save_error(path, error) from error


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file.

    Raises:
        SaveError: If the line cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise _save_error(path, error) from error


def owned_folder(prefix: str) -> Path:
    """Make a temporary folder of this process, deleted at its exit or, if it is killed, later."""
    root = Path(tempfile.gettempdir())
    remove_left_behind(root, f"{prefix}*")
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=f".{_owner()}"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_left_behind(folder: Path, pattern: str) -> None:
    """Delete files and folders of processes that do not exist any more.

    Args:
        folder: Where they are.
        pattern: Of their names, of which only those count that end with an owner.
    """
    for path in folder.glob(pattern):
        match = _OWNER.search(path.name)
        try:
            if match and _is_left_behind(path, match[1], int(match[2])):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:  # somebody else's, or deleted at the same time
            continue


def sync_folder(folder: Path) -> None:
    """Flush a folder's directory entries to disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _owner() -> str:
    """Return what names this process in names of files: its machine and its number."""
    return f"{_machine()}-{os.getpid()}"


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_left_behind(path: Path, machine: str, process: int) -> bool:
    # On Windows `os.kill` would end the process instead of looking for it.
    if machine == _machine() and os.name == "posix":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it exists, and is somebody else's
            return False
        return False
    return time.time() - path.stat().st_mtime > _SECONDS_KEPT


def _clean_once(folder: Path) -> None:
    """Delete what killed processes have left in a folder, when this one first writes to it."""
    place = folder.resolve()
    if place not in _cleaned:
        _cleaned.add(place)
        remove_left_behind(place, f".*{UNFINISHED}")


def _save_error(path: Path, error: OSError) -> SaveError:
    return SaveError(f"{path} could not be written: {describe(error)}.")


def _short(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _NAME_BYTES:
        return name
    return f"{os.fsdecode(encoded[:40])}-{hashlib.sha256(encoded).hexdigest()[:16]}"
