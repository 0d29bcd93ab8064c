"""Zips and tars: their members, and tars that are compressed."""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import cached_assets_path

from agit_hub.atomic import atomic_path
from agit_hub.data.listing import extension_of
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

_OPENERS: dict[str, Any] = {
    ".gz": gzip.GzipFile,
    ".tgz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".tbz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".txz": lzma.LZMAFile,
}
# What damaged data raise when they are decompressed.
_DAMAGED = (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error)


class Entry(NamedTuple):
    """A file in a tar."""

    path: str
    offset: int
    size: int


def list_zip(store: FileStore, file: str) -> list[zipfile.ZipInfo]:
    """Return the files in a zip, without fetching it.

    Raises:
        DataError: If it is damaged.
    """
    try:
        with store.open(file) as opened, zipfile.ZipFile(opened) as archive:
            return [member for member in archive.infolist() if not member.is_dir()]
    except zipfile.BadZipFile as error:
        raise DataError(f"{store.describe(file)} is not a complete zip: {error}.") from error


def list_tar(store: FileStore, file: str) -> list[Entry]:
    """Fetch a tar and return the files in it.

    Raises:
        DataError: If it is not a complete tar.
    """
    try:
        with tarfile.open(plain_tar(store, file), mode="r:") as tar:
            # `tar -C folder .` writes `./` before each name.
            found = [
                Entry(m.name.removeprefix("./"), m.offset_data, m.size) for m in tar if m.isfile()
            ]
            _check_end(tar)
    except tarfile.TarError as error:
        raise DataError(f"{store.describe(file)} is not a complete tar: {error}.") from error
    return found


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile takes any damaged header but the first for the end, which is blocks of zeros.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("a header in the middle is damaged")


def plain_tar(store: FileStore, file: str) -> Path:
    """Fetch a tar and return its path; a compressed one is unpacked into the Hub client's cache, once.

    Raises:
        DataError: If it cannot be decompressed.
    """
    path = store.fetch(file)
    opener = _OPENERS.get("." + extension_of(file).rpartition(".")[2])
    if opener is None:
        return path
    found = path.stat()
    key = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}".encode("utf-8", "replace")
    folder = cached_assets_path("agit-hub", "tars", sha256(key).hexdigest()[:32])
    unpacked = folder / "unpacked.tar"
    if unpacked.is_file():
        return unpacked
    try:
        with (
            opener(path) as packed,
            atomic_path(unpacked) as unfinished,
            unfinished.open("wb") as plain,
        ):
            shutil.copyfileobj(packed, plain, 2**20)
    except _DAMAGED as error:
        if getattr(error, "errno", None) is not None:  # a full disk
            raise
        raise DataError(f"{store.describe(file)} is not a complete tar: {error}.") from error
    return unpacked


def read_entry(store: FileStore, file: str, entry: Entry) -> bytes:
    """Return the bytes of a file in a tar."""
    with plain_tar(store, file).open("rb") as opened:
        opened.seek(entry.offset)
        return opened.read(entry.size)
