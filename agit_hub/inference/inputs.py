"""Input files of `agit translate`, and the paths of their results."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from agit_hub.data.images import FORMATS
from agit_hub.data.listing import BROKEN_LINK, Skipped, not_an_image, walk
from agit_hub.environment import expand_home
from agit_hub.errors import InputPathError

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".wmv",
        ".asf",
        ".flv",
        ".f4v",
        ".ts",
        ".m2ts",
    }
    | {".mts", ".mpg", ".mpeg", ".vob", ".ogv", ".3gp", ".3g2"}
)


@dataclass(frozen=True)
class Job:
    """A file to translate."""

    source: Path
    stem: Path
    """Path of its results without a suffix."""

    @property
    def is_video(self) -> bool:
        """Whether the suffix is that of a video."""
        return self.source.suffix.lower() in VIDEO_SUFFIXES

    def result(self, suffix: str) -> Path:
        """Return the path of the result with a suffix such as `.map.png`."""
        return self.stem.with_name(self.stem.name + suffix)


def plan_jobs(paths: Sequence[str], out: Path, skipped: Skipped | None = None) -> list[Job]:
    """Find the files to translate, and choose where their results go.

    Args:
        paths: Files, folders (searched recursively, through links; hidden files are skipped) and glob
            patterns. Broken links and folders that cannot be read are listed too, and fail alone. A file
            keeps its path relative to its folder, or to the fixed part of its pattern; of several
            folders each has its own below `out`.
        out: The folder for results, whose files are not inputs.
        skipped: Gets what is left out: files of other formats, hidden and empty ones, broken links, ...

    Raises:
        InputPathError: If a path does not exist, no file is found, or two results have one name.
    """
    if out.exists() and not out.is_dir():
        raise InputPathError(f"{out} is a file; results need a folder.")
    paths = [str(expand_home(path)) for path in paths]
    skipped = Skipped() if skipped is None else skipped
    several_folders = sum(Path(path).is_dir() for path in paths) > 1
    relative_paths: dict[Path, Path] = {}
    for path in paths:
        for source, relative in _find(path, out, several_folders, skipped):
            relative_paths.setdefault(source, relative)
    if not relative_paths:
        reasons = "".join(f" {sentence}." for sentence in skipped.sentences())
        raise InputPathError(f"No image or video found in {', '.join(paths)}.{reasons}")
    return _make_jobs(relative_paths, out)


def _find(
    path: str, out: Path, several_folders: bool, skipped: Skipped
) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a path, each with its path relative to the folder for results."""
    start = Path(path)
    if start.is_dir():
        if out.resolve() == start.resolve():
            raise InputPathError(
                f"Results would be among the inputs in {path}: choose another --out."
            )
        below = Path(start.resolve().name) if several_folders else Path()
        for file in _without_results(_walk(start, skipped), start, out):
            yield file, below / file.relative_to(start)
    elif os.path.lexists(start):
        yield start, Path(start.name)
    elif glob.has_magic(path):
        wildcard = next(n for n, part in enumerate(start.parts) if glob.has_magic(part))
        root = Path(*start.parts[:wildcard])
        for file in _without_results(_glob(path, skipped), root, out):
            yield file, file.relative_to(root)
    else:
        raise InputPathError(f"{path} does not exist.")


def _glob(pattern: str, skipped: Skipped) -> Iterator[Path]:
    # Unlike `Path.glob` it skips hidden files.
    for match in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207
        if match.is_dir():
            yield from _walk(match, skipped)
        elif not match.exists():
            skipped.add(BROKEN_LINK, str(match))
        elif _is_supported(match):
            yield match
        else:
            skipped.add(not_an_image(match.name), str(match))


def _walk(folder: Path, skipped: Skipped) -> Iterator[Path]:
    for file in walk(folder, skipped):
        if _is_supported(folder / file):
            yield folder / file
        else:
            skipped.add(not_an_image(file), file)


def _without_results(files: Iterable[Path], root: Path, out: Path) -> Iterator[Path]:
    """Skip results of an earlier run if their folder is below the inputs'."""
    results = out.resolve()
    below = root.resolve() in results.parents
    return (file for file in files if not (below and file.parent.resolve().is_relative_to(results)))


def _is_supported(path: Path) -> bool:
    suffix = path.suffix.lower()
    is_image = Image.registered_extensions().get(suffix) in FORMATS
    return not path.name.startswith(".") and (is_image or suffix in VIDEO_SUFFIXES)


def _make_jobs(relative_paths: dict[Path, Path], out: Path) -> list[Job]:
    """Return jobs whose results have unique names: `a.jpg` beside `a.png` keeps its suffix."""
    # Some file systems ignore case.
    keys = {
        source: (str(relative.with_suffix("")).lower(), Job(source, relative).is_video)
        for source, relative in relative_paths.items()
    }
    counts = Counter(keys.values())
    sources: dict[tuple[str, bool], Path] = {}
    jobs = []
    for source, relative in relative_paths.items():
        stem = relative if counts[keys[source]] > 1 else relative.with_suffix("")
        job = Job(source, out / stem)
        other = sources.setdefault((str(stem).lower(), job.is_video), source)
        if other != source:
            raise InputPathError(
                f"{other} and {source} would have the same result, {job.stem}: pass their parent "
                "folder, or translate them to separate folders."
            )
        jobs.append(job)
    return jobs
