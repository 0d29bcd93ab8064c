"""List the files below a folder, and count by reason what is left out of a job."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agit_hub.data.images import image_extensions

TABLES = (".parquet", ".arrow")
_COMPRESSED = (".gz", ".bz2", ".xz")
TARS = (".tar", ".tgz", ".tbz2", ".txz", *(f".tar{ending}" for ending in _COMPRESSED))
# A link inside a link inside ...: folders that link to each other would otherwise be walked forever.
_MAX_LINKS = 4
# Names that the counts of a reason show.
_EXAMPLES = 3

_EXTRAS = {"heif": (".heic", ".heics", ".heif", ".heifs", ".hif"), "jxl": (".jxl",)}
_KINDS = {
    "a video: extract its frames to train on them": (
        *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".wmv", ".flv", ".ts", ".mpg", ".mpeg"),
    ),
    "a camera's raw file: develop it to TIFF, PNG or JPEG": (
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
    ),
    "unpack it": (".7z", ".bz2", ".gz", ".rar", ".tar", ".xz", ".zip", ".zst"),
    "a medical image or an array: convert it to TIFF or PNG": (
        *(".dcm", ".nii", ".nrrd", ".mha", ".npy", ".npz", ".mat", ".h5", ".exr", ".hdr"),
    ),
}
_REMEDIES = {
    **{e: f"pip install 'agit-hub[{extra}]'" for extra, names in _EXTRAS.items() for e in names},
    **{extension: why for why, extensions in _KINDS.items() for extension in extensions},
}


class Reason(NamedTuple):
    """Why files are left out."""

    what: str
    """The files, with `{s}` where the plural has an s: `hidden file{s}`."""
    why: str = ""
    """The cause or the remedy; empty if `what` says all."""

    def of(self, number: int) -> str:
        """Return what is counted: `20 .heic files`."""
        return f"{number} {self.what.replace('{s}', '' if number == 1 else 's')}"


HIDDEN = Reason("hidden file{s}")
BROKEN_LINK = Reason("broken link{s}")
EMPTY = Reason("empty file{s}")
NO_FILE = Reason("device{s} or pipe{s}", "not a regular file")
ENDLESS = Reason(
    "link{s} to a folder", "it leads back to a folder above, or through too many links"
)
FORBIDDEN = Reason("unreadable folder{s}", "permission denied")
DAMAGED = Reason("damaged or mislabelled image{s}", "no reader of images accepts the content")
UNREADABLE_FILE = Reason("unreadable file{s}", "permission denied")


class Skipped:
    """What a job leaves out: the names by reason."""

    def __init__(self) -> None:
        self._names: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, *names: str) -> None:
        """Count files with a reason."""
        if names:
            self._names.setdefault(reason, []).extend(names)

    def update(self, other: "Skipped") -> None:
        """Count what another job leaves out too."""
        for reason, names in other._names.items():
            self.add(reason, *names)

    def __len__(self) -> int:
        return sum(map(len, self._names.values()))

    def sentences(self) -> list[str]:
        """Return a line for each reason: `20 .heic files skipped: pip install 'agit-hub[heif]'`."""
        return [
            f"{reason.of(len(names))} skipped{reason.why and ': '}{reason.why}"
            f" ({', '.join(names[:_EXAMPLES])}{', ...' if len(names) > _EXAMPLES else ''})"
            for reason, names in self._names.items()
        ]

    def to_list(self) -> list[dict[str, object]]:
        """Return the counts for JSON: `what`, `why`, `count` and the first names of each reason."""
        return [
            {
                "what": reason.what.replace("{s}", ""),
                "why": reason.why,
                "count": len(names),
                "examples": names[:_EXAMPLES],
            }
            for reason, names in self._names.items()
        ]


def not_an_image(name: str) -> Reason:
    """Return why a file without the extension of an image is left out."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - may be inside an archive
    what = f"{suffix} file{{s}}" if suffix else "file{s} without an extension"
    return Reason(what, _REMEDIES.get(suffix, "not an image"))


def extension_of(path: str) -> str:
    """Return the extension of a path in lower case, that of both endings for `.tar.gz`."""
    stem, suffix = os.path.splitext(path.lower())  # noqa: PTH122 - may be inside an archive
    return f".tar{suffix}" if stem.endswith(".tar") and suffix in _COMPRESSED else suffix


def is_zip(path: str) -> bool:
    """Return whether a file is a zip, by its extension."""
    return extension_of(path) == ".zip"


def is_tar(path: str) -> bool:
    """Return whether a file is a tar, compressed or not, by its extension."""
    return extension_of(path) in TARS


def is_table(path: str) -> bool:
    """Return whether a file is a parquet or Arrow shard, by its extension."""
    return extension_of(path) in TABLES


def is_container(path: str) -> bool:
    """Return whether a file can hold many images."""
    return is_zip(path) or is_tar(path) or is_table(path)


def is_hidden(path: str) -> bool:
    """Return whether a path has a hidden part, or belongs to what macOS adds to zips."""
    return any(part.startswith((".", "__MACOSX")) for part in path.split("/"))


def has_image_name(path: str) -> bool:
    """Return whether a file has the extension of an image that can be opened here."""
    return os.path.splitext(path)[1].lower() in image_extensions()  # noqa: PTH122


def walk(root: Path, skipped: Skipped) -> Iterator[str]:
    """Yield the files below a folder as paths relative to it, links followed, sorted in each folder.

    Args:
        root: The folder.
        skipped: Gets what is left out: hidden and empty files, broken links, links that never end,
            and folders that cannot be read.
    """
    yield from _walk(root, "", (_identity(root),), 0, False, skipped)


def _walk(
    folder: Path,
    prefix: str,
    above: tuple[tuple[int, int], ...],
    links: int,
    hidden: bool,
    skipped: Skipped,
) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        skipped.add(FORBIDDEN, prefix or str(folder))
        return
    for entry in entries:
        name = f"{prefix}{entry.name}"
        below_hidden = hidden or is_hidden(entry.name)
        try:
            is_folder = entry.is_dir(follow_symlinks=not below_hidden)
            reason = None if is_folder else _reason(entry, below_hidden)
        except OSError:
            skipped.add(UNREADABLE_FILE, name)
            continue
        if not is_folder:
            if reason is None:
                yield name
            else:
                skipped.add(reason, name)
            continue
        here, deeper = _identity(entry.path), links + entry.is_symlink()
        if entry.is_symlink() and (here in above or deeper > _MAX_LINKS):
            skipped.add(ENDLESS, name)
            continue
        yield from _walk(
            Path(entry.path), f"{name}/", (*above, here), deeper, below_hidden, skipped
        )


def _reason(entry: "os.DirEntry[str]", hidden: bool) -> Reason | None:
    """Return why something that is no folder is left out; None if it is not."""
    if hidden:
        return HIDDEN
    if not entry.is_file():
        return BROKEN_LINK if not os.path.exists(entry.path) else NO_FILE  # noqa: PTH110
    # An empty shard is refused as damaged, where it is read.
    return None if entry.stat().st_size or is_container(entry.name) else EMPTY


def _identity(folder: str | Path) -> tuple[int, int]:
    found = os.stat(folder)  # noqa: PTH116
    return found.st_dev, found.st_ino
