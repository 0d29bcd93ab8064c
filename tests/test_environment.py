"""Failures of the environment as sentences, and the checks before the work."""

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from agit_hub.environment import (
    check_writable,
    describe,
    expand_home,
    explain,
    make_output_robust,
    require,
    require_extra,
)
from agit_hub.errors import (
    AgitError,
    ConfigError,
    InputPathError,
    PackageError,
    UserError,
)

# How root is made to respect permissions.
AS_A_USER = (
    [
        "setpriv",
        *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps")),
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0
    else []
)


def _os_error(code: int, path: str = "/data/a.png") -> OSError:
    return OSError(code, os.strerror(code), path)


class InductorError(RuntimeError):
    """Of torch.compile, by whose name it is recognised without importing it."""


class ConnectError(Exception):
    """Of the HTTP client, likewise."""

    __module__ = "httpx2._exceptions"


@pytest.mark.parametrize(
    ("error", "kind", "parts"),
    [
        (_os_error(errno.ENOSPC), AgitError, ["/data/a.png: the disk is full", "free some space"]),
        (_os_error(errno.EDQUOT), AgitError, ["quota"]),
        (_os_error(errno.EACCES), AgitError, ["/data/a.png: permission denied"]),
        (_os_error(errno.EROFS), AgitError, ["read-only"]),
        (_os_error(errno.EMFILE), AgitError, ["too many open files", "ulimit -n"]),
        (_os_error(errno.ENAMETOOLONG), AgitError, ["shorten it"]),
        (_os_error(errno.ENOTDIR), AgitError, ["a file, not a folder"]),
        (RuntimeError("unable to write <x>: No space left on device (28)"), AgitError, ["disk is full"]),
        (RuntimeError("shm_open: Too many open files"), AgitError, ["ulimit -n"]),
        (SafetensorError("I/O error: No space (os error 28)"), AgitError, ["the disk is full"]),
        (MemoryError(), AgitError, ["Not enough memory", "smaller batches"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate"), AgitError, ["Not enough memory"]),
        (RuntimeError("DataLoader worker (pid 3) exited unexpectedly"), AgitError, ["num_workers 0"]),
        (InductorError("No working C++ compiler found"), UserError, ["C++ compiler", "install"]),
        (ImportError("proxy, but the 'socksio' package"), PackageError, ["pip install socksio"]),
        (ImportError("libGL.so.1: cannot open shared object file"), PackageError, ["libGL.so.1"]),
        (ModuleNotFoundError("No", name="av.x"), PackageError, ["PyAV", "'agit-hub[video]'"]),
        (ModuleNotFoundError("No", name="rarely"), PackageError, ["pip install 'rarely'"]),
        (ConnectError("no route"), AgitError, ["network request failed: no route"]),
        (ConfigError("as it is"), ConfigError, ["as it is"]),
    ],
)  # fmt: skip
def test_explain_expected_failure_names_reason_and_remedy(
    error: Exception, kind: type[AgitError], parts: list[str]
) -> None:
    found = explain(error)
    assert isinstance(found, kind) and "\n" not in str(found)
    assert found.exit_code == (2 if issubclass(kind, UserError) else 1)
    assert all(part in str(found) for part in parts), found


@pytest.mark.parametrize(
    "bug",
    [
        ValueError("x"),
        KeyError("x"),
        RuntimeError("x"),
        ModuleNotFoundError(name="agit_hub.nothing"),
    ],
)
def test_explain_bug_returns_none(bug: Exception) -> None:
    assert explain(bug) is None


def test_explain_wrapped_failure_is_found() -> None:
    error = ValueError("while saving")
    error.__cause__ = _os_error(errno.ENOSPC)
    assert "the disk is full" in str(explain(error))


def test_explain_text_that_is_not_unicode_is_a_user_error() -> None:
    with pytest.raises(UnicodeEncodeError) as raised:
        b"caf\xe9".decode(errors="surrogateescape").encode()
    assert "'caf\\udce9' is not valid text" in str(explain(raised.value))


def test_describe_worker_error_takes_last_line() -> None:
    assert describe(OSError("Caught OSError in worker 0.\nTraceback\nOSError: image is gone")) == (
        "OSError: image is gone"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_explain_real_full_disk() -> None:
    with pytest.raises(OSError, match="space") as raised, open("/dev/full", "wb", 0) as file:  # noqa: PTH123
        file.write(b"x")
    assert "the disk is full" in str(explain(raised.value))


def test_check_writable_new_folder_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "er", "--out")
    assert list(tmp_path.iterdir()) == []


def test_check_writable_file_or_broken_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name, what in (("file", "a file"), ("link", "a broken link")):
        with pytest.raises(InputPathError, match=rf"--out is .*/{name}/deep: .*{name} is {what}"):
            check_writable(tmp_path / name / "deep", "--out")


@pytest.mark.skipif(bool(AS_A_USER) and not shutil.which("setpriv"), reason="root without setpriv")
def test_check_writable_forbidden_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    program = (
        "import sys; from pathlib import Path; from agit_hub.environment import check_writable\n"
        "try: check_writable(Path(sys.argv[1], 'new'), '--out')\n"
        "except ValueError as error: print(error)"
    )
    command = [*AS_A_USER, sys.executable, "-c", program, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(
        f"--out is {tmp_path}/new, which cannot be written to: permission denied"
    )


def test_make_output_robust_escapes_what_an_encoding_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    make_output_robust()
    print("1 ± 2", flush=True)
    assert raw.getvalue() == b"1 \\xb1 2\n"


def test_expand_home_unknown_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/joe")
    assert [str(expand_home(path)) for path in ("~/a", "a/~", "~nobody-such/a")] == [
        "/home/joe/a", "a/~", "~nobody-such/a",
    ]  # fmt: skip


def test_require_missing_package_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require("numpy", "PIL")
    require_extra("eval")
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(PackageError, match=r"torchmetrics is not .* 'agit-hub\[eval\]'"):
        require_extra("eval")
    with pytest.raises(PackageError, match="pip install 'no_such_package'"):
        require("no_such_package")


def test_make_output_robust_keeps_pillow_from_warning() -> None:
    """Its warnings about damaged metadata name no file."""
    program = (
        "import warnings; from agit_hub.environment import make_output_robust; make_output_robust(); "
        "warnings.warn_explicit('Corrupt EXIF data', UserWarning, 'x.py', 1, 'PIL.TiffImagePlugin'); "
        "warnings.warn_explicit('of others', UserWarning, 'x.py', 1, 'torch.nn')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "EXIF" not in done.stderr and "of others" in done.stderr


def test_check_writable_disk_that_takes_no_byte_is_refused(tmp_path: Path) -> None:
    """A file can still be created on a full disk. Here the size of files is limited instead."""
    program = (
        "import resource, sys; from pathlib import Path; "
        "from agit_hub.environment import check_writable; from agit_hub.errors import InputPathError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: check_writable(Path(sys.argv[1]), '--out')\n"
        "except InputPathError as error: print(error)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert f"--out is {tmp_path}, which cannot be written to: File too large" in done.stdout
