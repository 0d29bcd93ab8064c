"""Files written whole or not at all."""

import os
from pathlib import Path

UNFINISHED = ".unfinished"


class SaveError(OSError):
    """Something could not be written; its message says what and why."""


def unfinished(path: Path) -> Path:
    """The name under which a file or folder is written until it is complete."""
    return path.with_name(path.name + UNFINISHED)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file under another name, make sure it is on the disk, and put it in place at once.

    Raises:
        SaveError: If the disk is full or refuses; an earlier file of that name is then untouched.
    """
    draft = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if draft.exists():
            draft.unlink()
        raise _named(path, error) from error


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file.

    Raises:
        SaveError: If the disk is full or refuses.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise _named(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _named(path: Path, error: OSError) -> SaveError:
    return SaveError(f"{path} could not be written: {error.strerror or error}")
