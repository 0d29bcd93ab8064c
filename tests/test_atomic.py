"""Files of any name that the file system allows."""

import errno
import os
import sys
from pathlib import Path

import pytest

from agit_hub.atomic import atomic_path, write_bytes
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
