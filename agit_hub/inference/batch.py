"""Batch translation of files: existing results are skipped, and a failure does not stop the others."""

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
from agit_hub.environment import explain
from agit_hub.errors import ImageError, InputPathError, VideoError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.image_io import Format, output_suffix, save_image
from agit_hub.inference.inputs import Job
from agit_hub.inference.mask_files import JobMasks
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.prediction import Prediction, Rendering
from agit_hub.inference.temporal_smoothing import TemporalSmoother
from agit_hub.logging import get_logger
from agit_hub.visualization import grey_map

_log = get_logger("agit_hub.inference")
ResultKind = Literal["map", "panel", "image"]
Item = TypeVar("Item")
Output = TypeVar("Output")
# An error message stands for what failed.
Opened = tuple[Job, Image.Image | str]
Predicted = tuple[Job, Prediction | str]

PANEL_HEIGHT = 512
# Threads that read, composite and write; each holds large images.
_THREADS = 2
# Edits that do not match an image, damage that Pillow finds late, full disks: whatever one file raises is
# that file's alone.
_ANY_ERROR = UNREADABLE
_DRAW: dict[ResultKind, Callable[[Rendering], Image.Image]] = {
    "map": lambda rendering: grey_map(rendering.attention),
    "panel": lambda rendering: rendering.panel(PANEL_HEIGHT),
    "image": lambda rendering: rendering.image,
}


class FileResult(NamedTuple):
    """The outcome of one file."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    """`skipped`: all its results existed."""
    error: str = ""
    """The message, if it failed."""


@dataclass(frozen=True, kw_only=True)
class TranslateOptions:
    """How files are translated."""

    to: str
    edits: AttentionEdits
    masks: JobMasks | None = None
    """Where each file may change."""
    smoothing: float = 0.0
    """Temporal smoothing of videos, in [0, 1)."""
    batch_size: int = 1
    format: Format = "png"
    """Of images."""
    extras: Sequence[ResultKind] = ()
    """Results beside translations: `map`, `panel`, or both."""
    overwrite: bool = False
    keep_location: bool = False
    """Whether results may state where a photograph was taken, as its file does."""

    def __post_init__(self) -> None:
        TemporalSmoother(self.smoothing)  # raises if it is out of range

    def edits_of(self, job: Job) -> AttentionEdits:
        """Return the edits of a file.

        Raises:
            MaskError: If its mask cannot be read.
        """
        return self.edits if self.masks is None else self.masks.edits(job, self.edits)


class BatchTranslator:
    """Translates files.

    Args:
        pipe: The pipeline.
        options: How files are translated.
        on_frame: Called at each frame of a video with its number, starting at 1, and the approximate
            number of frames if known.
    """

    def __init__(
        self,
        pipe: AGITPipeline,
        options: TranslateOptions,
        on_frame: Callable[[int, int | None], None] = lambda *_: None,
    ) -> None:
        self._pipe = pipe
        self._options = options
        self._on_frame = on_frame

    def run(self, jobs: Iterable[Job]) -> Iterator[FileResult]:
        """Translate files, and yield each one's outcome as soon as it is known.

        Files whose results all exist are skipped, unless `overwrite` is set.
        """
        for is_video, group in groupby(jobs, lambda job: job.is_video):
            todo = []
            for job in group:
                if self._missing_results(job):
                    todo.append(job)
                else:
                    yield FileResult(job, "skipped")
            yield from (
                map(self._translate_video, todo) if is_video else self._translate_images(todo)
            )

    def _missing_results(self, job: Job) -> dict[ResultKind, Path]:
        return {
            kind: path
            for kind, path in result_paths(job, self._options).items()
            if self._options.overwrite or not path.exists()
        }

    def _translate_images(self, jobs: Iterable[Job]) -> Iterator[FileResult]:
        """Read ahead and write behind in threads, so that the networks do not wait for files."""
        with ThreadPoolExecutor(_THREADS) as threads:
            opened = _thread_map(threads, _open, jobs, ahead=self._options.batch_size)
            yield from _thread_map(threads, self._write, self._predict(opened), ahead=1)

    def _predict(self, opened: Iterator[Opened]) -> Iterator[Predicted]:
        while batch := list(islice(opened, self._options.batch_size)):
            images = [image for _, image in batch if isinstance(image, Image.Image)]
            predictions = iter(self._predict_batch(images))
            for job, image in batch:
                if isinstance(image, str):
                    yield job, image
                    continue
                prediction = next(predictions)
                is_error = isinstance(prediction, str)
                yield job, f"{job.source}: {prediction}" if is_error else prediction

    def _predict_batch(self, images: list[Image.Image]) -> list[Prediction | str]:
        try:
            return list(self._pipe.predictions(images, self._options.to, len(images) or 1))
        except _ANY_ERROR as error:
            if len(images) == 1:
                return [_reason(error)]
            # One that fails must not take the others of its batch with it.
            return [result for image in images for result in self._predict_batch([image])]

    def _write(self, predicted: Predicted) -> FileResult:
        job, prediction = predicted
        if isinstance(prediction, str):
            return FileResult(job, "failed", prediction)
        try:
            rendering = prediction.render(self._options.edits_of(job))
        except _ANY_ERROR as error:
            return FileResult(job, "failed", f"{job.source}: {_reason(error)}")
        try:
            for kind, path in self._missing_results(job).items():
                save_image(_DRAW[kind](rendering), path, self._options.keep_location)
        except _ANY_ERROR as error:
            return FileResult(job, "failed", f"{job.source} could not be saved: {_reason(error)}")
        return FileResult(job, "done")

    def _translate_video(self, job: Job) -> FileResult:
        try:
            self._write_video(job)
            return FileResult(job, "done")
        except VideoError as error:  # names the file itself
            return FileResult(job, "failed", str(error))
        except _ANY_ERROR as error:
            return FileResult(job, "failed", f"{job.source}: {_reason(error)}")

    def _write_video(self, job: Job) -> None:
        from agit_hub.inference.video import Video, open_writer

        options, times = self._options, []
        with ExitStack() as stack:
            video = stack.enter_context(Video(job.source))
            writers = {
                kind: stack.enter_context(open_writer(path, video, with_audio=kind == "image"))
                # The translation is entered first, and so put in place last.
                for kind, path in reversed(self._missing_results(job).items())
            }

            def images() -> Iterator[Image.Image]:
                for frame in video.frames():
                    times.append(frame.time)
                    yield frame.image

            edits = options.edits_of(job)
            stream = self._pipe.stream(images(), options.to, edits, options.smoothing)
            for number, rendering in enumerate(stream, 1):
                time = times.pop()
                for kind, writer in writers.items():
                    writer.write(_DRAW[kind](rendering), time)
                self._on_frame(number, video.length)


def result_paths(job: Job, options: TranslateOptions) -> dict[ResultKind, Path]:
    """Return the files of a job; the translation is last, so that it exists only if all do."""
    if job.is_video:
        suffix = extra_suffix = ".mp4"
    else:
        suffix, extra_suffix = output_suffix(job.source, options.format), ".png"
    paths = {kind: job.result(f".{kind}{extra_suffix}") for kind in options.extras}
    return {**paths, "image": job.result(suffix)}


def check_inputs_kept(jobs: Sequence[Job], options: TranslateOptions) -> None:
    """Check that no result would overwrite an input, or another result.

    Raises:
        InputPathError: Naming the first that would.
    """
    # By device and inode: names may differ in case, or be links.
    inputs = {number: job.source for job in jobs if (number := _file_id(job.source))}
    owners: dict[str, Job] = {}
    for job in jobs:
        for path in result_paths(job, options).values():
            # Names that differ in case alone are one on some file systems.
            other = owners.setdefault(str(path).casefold(), job)
            if other is not job:
                raise InputPathError(
                    f"{path} would be a result of both {other.source} and {job.source}: translate them "
                    "into different folders (--out)."
                )
            if (number := _file_id(path)) is not None and number in inputs:
                raise InputPathError(
                    f"{path} would overwrite the input {inputs[number]}: choose another --out."
                )


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # a broken link, which fails when it is opened
        return None
    return status.st_dev, status.st_ino


def _reason(error: Exception) -> str:
    _log.debug("One file failed.", exc_info=error)
    return str(explain(error) or error) or type(error).__name__


def _thread_map(
    threads: Executor, function: Callable[[Item], Output], items: Iterable[Item], ahead: int
) -> Iterator[Output]:
    """Map over items in a thread pool, preserving order, with up to `ahead` results in advance."""
    futures = deque[Future[Output]]()
    for item in items:
        futures.append(threads.submit(function, item))
        if len(futures) > ahead:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def _open(job: Job) -> Opened:
    try:
        image = open_image(job.source, str(job.source))
    except ImageError as error:
        return job, str(error)
    return job, image
