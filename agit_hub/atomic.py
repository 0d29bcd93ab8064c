"""Write files atomically: under another name, flushed to disk, then renamed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agit_hub.environment import describe
from agit_hub.errors import SaveError

UNFINISHED = ".unfinished"
# Bytes of a draft's name that are taken from the file's: file systems allow 255, some 143.
_NAME_BYTES = 80


def unfinished(path: Path) -> Path:
    """Return the path under which a file or folder is written until it is complete."""
    return path.with_name(path.name + UNFINISHED)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` on success and is deleted on any error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by process, because another one may write the same file.
    draft = path.with_name(f".{_short(path.name)}.{os.getpid()}{UNFINISHED}")
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


def sync_folder(folder: Path) -> None:
    """Flush a folder's directory entries to disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _save_error(path: Path, error: OSError) -> SaveError:
    return SaveError(f"{path} could not be written: {describe(error)}.")


def _short(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _NAME_BYTES:
        return name
    return f"{os.fsdecode(encoded[:40])}-{hashlib.sha256(encoded).hexdigest()[:16]}"
