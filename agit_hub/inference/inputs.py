"""Which files a person's paths mean, and where their results go."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from agit_hub.data.images import FORMATS
from agit_hub.errors import InputPathError

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})


@dataclass(frozen=True)
class Job:
    """A file to be translated."""

    source: Path
    stem: Path
    """Where its results go and how they are called, without an ending."""

    @property
    def is_video(self) -> bool:
        """Whether it is one, by its name."""
        return self.source.suffix.lower() in VIDEO_SUFFIXES

    def result(self, ending: str) -> Path:
        """The result of that ending, such as `.map.png`."""
        return self.stem.with_name(self.stem.name + ending)


def plan(paths: Sequence[str], out: Path) -> list[Job]:
    """Find what is to be translated, and give each file its place below a folder.

    Args:
        paths: Files, folders (searched with their subfolders; hidden files are passed over) and glob
            patterns. What stands below a folder, or below the fixed part of a pattern, keeps its place
            in it; of several folders each has its own below `out`.
        out: The folder for results. What lies in it is no input, where a folder holds it.

    Raises:
        InputPathError: If a path is missing, nothing is to be translated, or two results share a name.
    """
    if out.exists() and not out.is_dir():
        raise InputPathError(f"{out} is a file: results go to a folder.")
    several = sum(Path(path).is_dir() for path in paths) > 1
    places: dict[Path, Path] = {}
    for path in paths:
        for source, place in _found(path, out, several):
            places.setdefault(source, place)
    if not places:
        raise InputPathError(f"There is no picture and no video in {', '.join(paths)}.")
    return _named(places, out)


def _found(path: str, out: Path, several: bool) -> Iterator[tuple[Path, Path]]:
    """Files that a path means, and the place of each below the folder for results."""
    start = Path(path)
    if start.is_dir():
        if out.resolve() == start.resolve():
            raise InputPathError(
                f"Results would lie among the pictures of {path}: choose another --out."
            )
        below = Path(start.resolve().name) if several else Path()
        for file in _but_results(_walk(start), start, out):
            yield file, below / file.relative_to(start)
    elif start.exists():
        yield start, Path(start.name)
    elif glob.has_magic(path):
        root = _fixed_part(start)
        for file in _but_results(_matches(path), root, out):
            yield file, file.relative_to(root)
    else:
        raise InputPathError(f"There is no {path}.")


def _matches(pattern: str) -> Iterator[Path]:
    # Unlike `Path.glob` it passes over what is hidden.
    for match in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207
        if match.is_dir():
            yield from _walk(match)
        elif _is_known(match):
            yield match


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where, name) for name in sorted(files) if _is_known(Path(name)))


def _but_results(files: Iterable[Path], root: Path, out: Path) -> Iterator[Path]:
    """Leave out what an earlier run wrote, where its results lie below the pictures."""
    results = out.resolve()
    below = root.resolve() in results.parents
    return (file for file in files if not (below and file.parent.resolve().is_relative_to(results)))


def _is_known(path: Path) -> bool:
    known = Image.registered_extensions().get(path.suffix.lower()) in FORMATS
    return not path.name.startswith(".") and (known or path.suffix.lower() in VIDEO_SUFFIXES)


def _fixed_part(pattern: Path) -> Path:
    """The folder of a pattern down to its first wild part."""
    parts = pattern.parts
    wild = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:wild])


def _named(places: dict[Path, Path], out: Path) -> list[Job]:
    """Jobs whose results have names of their own: `a.jpg` beside `a.png` keeps its ending."""
    # Case is left aside, as some file systems do.
    keys = {
        source: (str(place.with_suffix("")).lower(), Job(source, place).is_video)
        for source, place in places.items()
    }
    shared = Counter(keys.values())
    taken: dict[tuple[str, bool], Path] = {}
    jobs = []
    for source, place in places.items():
        stem = place if shared[keys[source]] > 1 else place.with_suffix("")
        job = Job(source, out / stem)
        other = taken.setdefault((str(stem).lower(), job.is_video), source)
        if other != source:
            raise InputPathError(
                f"{other} and {source} would have one result, {job.stem}: give the folder above "
                "them, or translate one after the other to folders of their own."
            )
        jobs.append(job)
    return jobs
