"""A model in a repo on the Hub: its config and the header of its weights are judged before any weight.

A config of a hundred bytes can ask for any amount of memory, and a weights file be of any size. So the
config is bounded (`AGITConfig`), the header is fetched on its own (a range request), and the weights are
fetched only if they are exactly what the config asks for.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from huggingface_hub import DryRunFileInfo, constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # they are exported lazily
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
)

from agit_hub.config import AGITConfig
from agit_hub.environment import explain
from agit_hub.errors import AgitError, ModelLoadError
from agit_hub.models.config_file import MAX_CONFIG_BYTES, read_config
from agit_hub.models.location import CONFIG_FILE, WEIGHTS_FILE, ModelFiles
from agit_hub.models.weights_header import (
    LENGTH_BYTES,
    Header,
    header_length,
    parse_header,
    read_header,
)

# Enough for the header of most models, so that one request suffices.
_FIRST_BYTES = 2**16
# Errors of a download that the user can correct; a subclass comes before its base.
_REFUSALS: dict[type[Exception], str] = {
    LocalEntryNotFoundError: (
        "is neither a local folder nor in the cache, and the Hub is unreachable"
    ),
    EntryNotFoundError: "has no {filename}: not an AGIT model",
    GatedRepoError: "is gated: accept its terms on its page, then run: hf auth login",
    RepositoryNotFoundError: (
        "does not exist as a folder or on the Hub; if it is private, run: hf auth login"
    ),
    RevisionNotFoundError: "has no revision {revision!r}",
    HFValidationError: "is neither an existing folder nor a repo id such as user/model",
}


class HubOptions(TypedDict, total=False):
    """Options of downloads, see `AGITModel.from_pretrained`."""

    revision: str | None
    token: str | bool | None
    cache_dir: str | Path | None
    force_download: bool
    local_files_only: bool


Judge = Callable[[AGITConfig, Header], None]
"""Raises if a model is not accepted."""


def fetch_model(repo: str, options: HubOptions, judge: Judge) -> ModelFiles:
    """Fetch a model into the cache, unless it is there.

    Args:
        repo: A repo id such as `user/model`.
        options: Of the download.
        judge: Called with the config and the header of the weights before they are fetched.

    Raises:
        ModelLoadError: If the repo is not a usable AGIT model.
        AgitError: If the download fails.
    """
    # By the revision's own name, by which the cache finds it when the Hub is unreachable.
    path = fetch_file(repo, CONFIG_FILE, options, MAX_CONFIG_BYTES)
    config = read_config(repo, path, f"{repo}: {CONFIG_FILE}")
    # All files are of one commit, the name of their folder in the cache.
    pinned: HubOptions = {**options, "revision": path.parent.name}
    weights = _inspect(repo, WEIGHTS_FILE, pinned)
    cached = Path(weights.local_path)
    if cached.is_file() and not weights.will_download:
        judge(config, read_header(cached))
    else:
        judge(config, _fetch_header(repo, pinned))
    return ModelFiles(fetch_file(repo, WEIGHTS_FILE, pinned).parent)


def fetch_file(repo: str, filename: str, options: HubOptions, max_bytes: int | None = None) -> Path:
    """Fetch a file of a repo into the cache, unless it is there.

    Raises:
        ModelLoadError: If there is none, or it has more than `max_bytes`.
        AgitError: If the download fails.
    """
    if max_bytes is not None:
        size = _inspect(repo, filename, options).file_size or 0
        if size > max_bytes:
            raise ModelLoadError(
                f"{repo}: {filename} has {size} bytes; at most {max_bytes} are possible."
            )
    with _errors(repo, filename, options):
        return Path(hf_hub_download(repo, filename, **options))


def _inspect(repo: str, filename: str, options: HubOptions) -> DryRunFileInfo:
    with _errors(repo, filename, options):
        return hf_hub_download(repo, filename, **options, dry_run=True)


def _fetch_header(repo: str, options: HubOptions) -> Header:
    """Fetch the header of the weights alone."""
    name = f"{repo}: {WEIGHTS_FILE}"
    with _errors(repo, WEIGHTS_FILE, options):
        start = _fetch_bytes(repo, options, 0, _FIRST_BYTES)
        length = header_length(name, start)
        data = start[LENGTH_BYTES : LENGTH_BYTES + length]
        if len(data) < length:
            data += _fetch_bytes(repo, options, len(start), LENGTH_BYTES + length)
    return parse_header(name, data)


def _fetch_bytes(repo: str, options: HubOptions, start: int, stop: int) -> bytes:
    """Fetch a part of the weights file, of which no more is read than that, whatever the server sends."""
    url = hf_hub_url(repo, WEIGHTS_FILE, revision=options["revision"])
    headers = build_hf_headers(token=options.get("token"))
    headers |= {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    parts, size = [], 0
    with http_stream_backoff("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        # A server that ignores the range sends the file from its first byte.
        skip = start if response.status_code == 200 else 0
        for part in response.iter_raw():
            parts.append(part)
            size += len(part)
            if size >= skip + stop - start:
                break
    return b"".join(parts)[skip : skip + stop - start]


@contextmanager
def _errors(repo: str, filename: str, options: HubOptions) -> Iterator[None]:
    """Raise errors of the Hub client as the package's own."""
    try:
        yield
    except AgitError:
        raise
    except Exception as error:
        for kind, reason in _REFUSALS.items():
            if isinstance(error, kind):
                reason = reason.format(filename=filename, revision=options.get("revision"))
                raise ModelLoadError(f"{repo} {reason}.") from error
        expected = explain(error) or (error if isinstance(error, OSError) else None)
        if expected is None:
            raise
        cache = "" if options.get("local_files_only") else _cache_hint(error)
        raise AgitError(f"The model {repo} could not be fetched: {expected}{cache}") from error


def _cache_hint(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC):
        return " The cache is where HF_HOME says, or cache_dir."
    return ""
