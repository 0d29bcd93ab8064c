"""Many files translated one after the other: what is done is passed over, what fails stops nothing."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from PIL import Image

from agit_hub.data.images import UNREADABLE, open_image
from agit_hub.errors import ImageError, InputPathError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.image_io import Format, ending, grey, save, small_panel
from agit_hub.inference.inputs import Job
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.prediction import Prediction, Rendering

Kind = Literal["map", "panel", "image"]
# In place of what could not be had there is a sentence that says why.
LoadedDomain = tuple[Job, Image.Image | str]
Proposed = tuple[Job, Prediction | str]
Given = TypeVar("Given")
Made = TypeVar("Made")
# Threads that read, composite and write; large pictures are held by each.
_HANDS = 2
# Of edits that a picture does not allow, and of what Pillow makes of damage it finds late.
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
class TranslateOptions:
    """What is to become of files."""

    to: str
    edits: AttentionEdits
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
        self,
        pipe: AGITPipeline,
        wishes: TranslateOptions,
        on_frame: Callable[[int, int | None], None],
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
            yield from map(self._video, todo) if is_video else self._pictures(todo)

    def _missing(self, job: Job) -> dict[Kind, Path]:
        return {
            kind: path
            for kind, path in results(job, self._wishes).items()
            if self._wishes.overwrite or not path.exists()
        }

    def _pictures(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Read one ahead and finish one behind, so that the networks wait for no file."""
        with ThreadPoolExecutor(_HANDS) as hands:
            opened = _by(hands, _read, jobs, ahead=self._wishes.batch_size)
            yield from _by(hands, self._finish, self._proposed(opened), ahead=1)

    def _proposed(self, opened: Iterator[LoadedDomain]) -> Iterator[Proposed]:
        while batch := list(islice(opened, self._wishes.batch_size)):
            predictions = iter(self._propose([p for _, p in batch if isinstance(p, Image.Image)]))
            for job, picture in batch:
                if isinstance(picture, str):
                    yield job, picture
                    continue
                made = next(predictions)
                yield job, f"{job.source}: {made}" if isinstance(made, str) else made

    def _propose(self, pictures: list[Image.Image]) -> list[Prediction | str]:
        try:
            return list(self._pipe.predictions(pictures, self._wishes.to, len(pictures) or 1))
        except _REFUSED as error:
            if len(pictures) == 1:
                return [str(error)]
            # One that cannot be done does not take the others of its batch with it.
            return [alone for picture in pictures for alone in self._propose([picture])]

    def _finish(self, proposed: Proposed) -> Outcome:
        job, proposal = proposed
        if isinstance(proposal, str):
            return Outcome(job, "failed", proposal)
        try:
            rendering = proposal.render(self._wishes.edits)
        except _REFUSED as error:
            return Outcome(job, "failed", f"{job.source}: {error}")
        try:
            for kind, path in self._missing(job).items():
                save(_DRAWN[kind](rendering), path)
        except _REFUSED as error:
            return Outcome(job, "failed", f"{job.source} could not be saved: {error}.")
        return Outcome(job, "done")

    def _video(self, job: Job) -> Outcome:
        from agit_hub.errors import VideoError

        try:
            self._write_video(job)
        except VideoError as error:
            return Outcome(job, "failed", str(error))
        except _REFUSED as error:
            return Outcome(job, "failed", f"{job.source}: {error}")
        return Outcome(job, "done")

    def _write_video(self, job: Job) -> None:
        from agit_hub.inference.video import Video, writing

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

            stream = self._pipe.stream(pictures(), wishes.to, wishes.edits, wishes.smoothing)
            for number, rendering in enumerate(stream, 1):
                time = times.pop()
                for kind, writer in writers.items():
                    writer.write(_DRAWN[kind](rendering), time)
                self._on_frame(number, video.length)


def results(job: Job, wishes: TranslateOptions) -> dict[Kind, Path]:
    """The files that a job makes; the translation itself comes last, so that with it all are there."""
    extra, own = (".mp4", ".mp4") if job.is_video else (".png", ending(job.source, wishes.format))
    kinds: list[Kind] = [*wishes.extras]
    extras = {kind: job.result(f".{kind}{extra}") for kind in kinds}
    return {**extras, "image": job.result(own)}


def check_inputs_stay(jobs: Sequence[Job], wishes: TranslateOptions) -> None:
    """Refuse work that would put a result in an input's place.

    Raises:
        InputPathError: Naming the first of them.
    """
    # By the files themselves: their names may differ in case, or be links.
    inputs = {_identity(job.source): job.source for job in jobs}
    for job in jobs:
        for path in results(job, wishes).values():
            if path.exists() and _identity(path) in inputs:
                raise InputPathError(
                    f"{path} would overwrite the input {inputs[_identity(path)]}: choose another --out."
                )


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _by(
    hands: Executor, act: Callable[[Given], Made], items: Iterable[Given], ahead: int
) -> Iterator[Made]:
    """What other threads make of items, in order, begun before it is asked for."""
    begun = deque[Future[Made]]()
    for item in items:
        begun.append(hands.submit(act, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _read(job: Job) -> LoadedDomain:
    try:
        return job, _open(job.source)
    except ImageError as error:
        return job, str(error)


def _open(path: Path) -> Image.Image:
    picture = open_image(path, str(path))
    try:
        Image.Exif().load(picture.info.get("exif", b""))
    except UNREADABLE:
        # A picture is whole without it.
        picture.info.pop("exif", None)
    return picture
