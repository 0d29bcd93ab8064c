"""Files of any name that the file system allows."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agit_hub import atomic
from agit_hub.atomic import atomic_path, owned_folder, write_bytes
from agit_hub.errors import SaveError


@pytest.mark.skipif(sys.platform != "linux", reason="other systems restrict names")
@pytest.mark.parametrize(
    "name", [b"a", b"x" * 251 + b".png", "\u9a6c".encode() * 85, b"caf\xe9.png"], ids=len
)
def test_write_bytes_any_name_is_written(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    try:
        write_bytes(path, b"content")
    except SaveError as error:
        if getattr(error.__cause__, "errno", None) == errno.EILSEQ:
            pytest.skip("this file system requires UTF-8")
        raise
    assert path.read_bytes() == b"content" and len(list(tmp_path.iterdir())) == 1


def test_atomic_path_long_names_do_not_share_a_draft(tmp_path: Path) -> None:
    first, second = (tmp_path / f"{'x' * 200}{end}" for end in "ab")
    with atomic_path(first) as one, atomic_path(second) as two:
        assert one != two
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")


def test_write_bytes_below_a_file_names_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="file/a could not be written"):
        write_bytes(tmp_path / "file" / "a", b"")


def _killed() -> int:
    """Return the number of a process that does not exist any more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.mark.skipif(os.name != "posix", reason="other systems cannot be asked")
def test_write_bytes_removes_what_killed_processes_left(tmp_path: Path) -> None:
    machine, killed = atomic._machine(), _killed()
    left = tmp_path / f".a.png.{machine}-{killed}.unfinished"
    kept = [
        tmp_path / f".b.png.{machine}-{os.getppid()}.unfinished",  # somebody writes it now
        tmp_path / f".c.png.00000000-{killed}.unfinished",  # on another machine, today
        tmp_path / f"own.{machine}-{killed}.unfinished",  # not hidden, so not a draft
    ]
    old = tmp_path / ".d.png.00000000-1.unfinished"
    for path in (left, old, *kept):
        path.touch()
    os.utime(old, (0, 0))
    write_bytes(tmp_path / "new", b"content")
    assert {path.name for path in tmp_path.iterdir()} == {"new", *(path.name for path in kept)}


@pytest.mark.skipif(os.name != "posix", reason="other systems cannot be asked")
def test_owned_folder_removes_those_of_killed_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"agit-space-ab.{atomic._machine()}-{_killed()}"
    (left / "deep").mkdir(parents=True)
    first, second = owned_folder("agit-space-"), owned_folder("agit-space-")
    assert sorted(tmp_path.iterdir()) == sorted([first, second])
