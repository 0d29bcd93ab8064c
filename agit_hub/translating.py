"""Many files translated one after the other: what is done is passed over, what fails stops nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from agit_hub.data.errors import UNREADABLE
from agit_hub.data.pictures import PictureError, open_picture
from agit_hub.jobs import Job, PathError
from agit_hub.pipeline import AGITPipeline
from agit_hub.proposal import Rendering
from agit_hub.results import Format, ending, grey, save, small_panel
from agit_hub.steering import Steering

Kind = Literal["map", "panel", "image"]
# Of steering that a picture does not allow, and of what Pillow makes of damage it finds late.
_REFUSED = (ValueError, OSError, SyntaxError)
# What a file can have for results.
_DRAWN: dict[Kind, Callable[[Rendering], Image.Image]] = {
    "map": lambda rendering: grey(rendering.attention),
    "panel": small_panel,
    "image": lambda rendering: rendering.image,
}


class Outcome(NamedTuple):
    """How a file fared."""

    job: Job
    state: Literal["done", "there", "failed"]
    """`there`: all its results existed."""
    why: str = ""
    """A sentence, if it failed."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is to become of files."""

    to: str
    steering: Steering
    smoothing: float
    """In [0, 1), for videos."""
    batch_size: int
    format: Format
    """Of pictures."""
    extras: Sequence[Kind] = ()
    """What is written beside translations: `map`, `panel`, or both."""
    overwrite: bool = False


class Translator:
    """Translates files.

    Args:
        pipe: The pipeline.
        wishes: What is wanted of it.
        on_frame: Called at each frame of a video with its number, from 1 on, and about how many there
            are, if that is known.
    """

    def __init__(
        self, pipe: AGITPipeline, wishes: Wishes, on_frame: Callable[[int, int | None], None]
    ) -> None:
        self._pipe = pipe
        self._wishes = wishes
        self._on_frame = on_frame

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Translate files, and tell of each as soon as it is done.

        Results whose every file exists are passed over, unless they are to be overwritten.
        """
        for is_video, group in groupby(jobs, lambda job: job.is_video):
            todo = []
            for job in group:
                if self._missing(job):
                    todo.append(job)
                else:
                    yield Outcome(job, "there")
            if is_video:
                yield from map(self._video, todo)
            else:
                rest = iter(todo)
                while batch := list(islice(rest, self._wishes.batch_size)):
                    yield from self._pictures(batch)

    def _missing(self, job: Job) -> dict[Kind, Path]:
        return {
            kind: path
            for kind, path in results(job, self._wishes).items()
            if self._wishes.overwrite or not path.exists()
        }

    def _pictures(self, batch: Sequence[Job]) -> Iterator[Outcome]:
        opened = {}
        for job in batch:
            try:
                opened[job] = _open(job.source)
            except PictureError as error:
                yield Outcome(job, "failed", str(error))
        renderings = self._render(list(opened.values()))
        for job, rendering in zip(opened, renderings, strict=True):
            if isinstance(rendering, Exception):
                yield Outcome(job, "failed", f"{job.source}: {rendering}")
                continue
            try:
                for kind, path in self._missing(job).items():
                    save(_DRAWN[kind](rendering), path)
            except _REFUSED as error:
                yield Outcome(job, "failed", f"{job.source} could not be saved: {error}.")
            else:
                yield Outcome(job, "done")

    def _render(self, pictures: list[Image.Image]) -> list[Rendering | Exception]:
        size = max(len(pictures), 1)
        options = vars(self._wishes.steering) | {"batch_size": size, "return_generated": False}
        try:
            output = self._pipe(pictures, self._wishes.to, **options)
        except _REFUSED as error:
            if size == 1:
                return [error]
            # One that cannot be done does not take the others of its batch with it.
            return [alone for picture in pictures for alone in self._render([picture])]
        parts = zip(output.inputs, output.images, output.attention, strict=True)
        return [Rendering(*part) for part in parts]

    def _video(self, job: Job) -> Outcome:
        from agit_hub.video import VideoError

        try:
            self._write_video(job)
        except VideoError as error:
            return Outcome(job, "failed", str(error))
        except _REFUSED as error:
            return Outcome(job, "failed", f"{job.source}: {error}")
        return Outcome(job, "done")

    def _write_video(self, job: Job) -> None:
        from agit_hub.video import Video, writing

        wishes, times = self._wishes, []
        with ExitStack() as stack:
            video = stack.enter_context(Video(job.source))
            writers = {
                kind: stack.enter_context(writing(path, video, with_sound=kind == "image"))
                # The translation is entered first, and so put in place last.
                for kind, path in reversed(self._missing(job).items())
            }

            def pictures() -> Iterator[Image.Image]:
                for frame in video.frames():
                    times.append(frame.time)
                    yield frame.picture

            stream = self._pipe.stream(pictures(), wishes.to, wishes.steering, wishes.smoothing)
            for number, rendering in enumerate(stream, 1):
                time = times.pop()
                for kind, writer in writers.items():
                    writer.write(_DRAWN[kind](rendering), time)
                self._on_frame(number, video.length)


def results(job: Job, wishes: Wishes) -> dict[Kind, Path]:
    """The files that a job makes; the translation itself comes last, so that with it all are there."""
    extra, own = (".mp4", ".mp4") if job.is_video else (".png", ending(job.source, wishes.format))
    kinds: list[Kind] = [*wishes.extras]
    extras = {kind: job.result(f".{kind}{extra}") for kind in kinds}
    return {**extras, "image": job.result(own)}


def check_inputs_stay(jobs: Sequence[Job], wishes: Wishes) -> None:
    """Refuse work that would put a result in an input's place.

    Raises:
        PathError: Naming the first of them.
    """
    # By the files themselves: their names may differ in case, or be links.
    inputs = {_identity(job.source): job.source for job in jobs}
    for job in jobs:
        for path in results(job, wishes).values():
            if path.exists() and _identity(path) in inputs:
                raise PathError(
                    f"{path} would overwrite the input {inputs[_identity(path)]}: choose another --out."
                )


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _open(path: Path) -> Image.Image:
    picture = open_picture(path, str(path))
    try:
        Image.Exif().load(picture.info.get("exif", b""))
    except UNREADABLE:
        # A picture is whole without it.
        picture.info.pop("exif", None)
    return picture
