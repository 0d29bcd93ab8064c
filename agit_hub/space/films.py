"""Videos of strangers: the first seconds, translated frame by frame within the Space's limits."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from agit_hub.data.images import to_rgb
from agit_hub.errors import SpaceError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.temporal_smoothing import TemporalSmoother
from agit_hub.inference.video import Frame, Video, open_writer
from agit_hub.space.limits import (
    MAX_DECODED_FRAMES,
    MAX_FILM_RATE,
    MAX_FILM_SECONDS,
    MAX_FILM_SIDE,
    MAX_FILM_WORK_SECONDS,
    MAX_VIDEO_MEGABYTES,
    MAX_VIDEO_MEGAPIXELS,
    VIDEO_FORMATS,
)
from agit_hub.visualization import fit_size, side_by_side

SMOOTHING = 0.9  # as on the command line
# A borrowed GPU takes many frames in one call; a processor gains nothing from it.
FRAMES_PER_GPU_CALL = 16


class FilmStep(NamedTuple):
    """How far a film is."""

    frames: int
    """Translated."""
    seconds: float
    """Of the film, so far."""
    total: float
    """Seconds that the film will probably have."""
    ended: str = ""
    """Why it ends before the video does; empty while it does not."""


def translate_film(
    path: Path,
    outputs: tuple[Path, Path],
    pipeline: AGITPipeline,
    to: str,
    edits: AttentionEdits,
    frames_per_call: int = 1,
    rate: int = MAX_FILM_RATE,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[FilmStep]:
    """Translate the first seconds of a video, without its sound.

    Args:
        path: The video.
        outputs: Files to write: input and output side by side, and the output alone.
        pipeline: The model.
        to: The label to translate to.
        edits: Edits of attention, in every frame.
        frames_per_call: How many frames the networks get at once.
        rate: How many frames of a second are translated.
        clock: Seconds.

    Yields:
        A step after each frame, and a last one at the end; the files are complete when there are no more.

    Raises:
        SpaceError: If the file is too large.
        VideoError: If it is no video that is accepted here, or damaged.
    """
    size = path.stat().st_size / 1e6
    if size > MAX_VIDEO_MEGABYTES:
        raise SpaceError(
            f"{path.name} has {size:.0f} MB; {MAX_VIDEO_MEGABYTES} MB is the limit for a video here. "
            f"Cut it to {MAX_FILM_SECONDS} seconds first."
        )
    with ExitStack() as stack:
        video = stack.enter_context(Video(path, VIDEO_FORMATS, round(MAX_VIDEO_MEGAPIXELS * 10**6)))
        writers = [stack.enter_context(open_writer(output, video)) for output in outputs]
        chosen, taken = _Frames(video, rate, clock), deque[Frame]()

        def images() -> Iterator[Image.Image]:
            for frame in chosen:
                taken.append(frame)
                yield frame.image

        smoother = TemporalSmoother(SMOOTHING)
        predictions = pipeline.predictions(images(), to, frames_per_call)
        total = video.seconds or MAX_FILM_SECONDS
        for number, prediction in enumerate(predictions, 1):
            rendering = smoother.smooth(prediction).render(edits)
            at = taken.popleft().time
            pair = side_by_side([to_rgb(rendering.input), to_rgb(rendering.image)])
            for writer, image in zip(writers, (pair, rendering.image), strict=True):
                writer.write(image, at)
            seconds = float(at + 1 / min(video.rate, Fraction(rate)))
            step = FilmStep(number, seconds, min(total, MAX_FILM_SECONDS))
            yield step
        yield step._replace(ended=chosen.ended)


class _Frames:
    """The frames of a film: of the first seconds, not too many a second, and not too large."""

    def __init__(self, video: Video, rate: int, clock: Callable[[], float]) -> None:
        self._video, self._clock = video, clock
        # Times are rounded in files: a little early is in time.
        self._least_step = Fraction(9, 10 * rate)
        self.ended = ""

    def __iter__(self) -> Iterator[Frame]:
        begin, first, last = self._clock(), None, Fraction(-1)
        for number, frame in enumerate(self._video.frames(), 1):
            first = frame.time if first is None else first
            at = frame.time - first
            if at >= MAX_FILM_SECONDS:
                self.ended = f"only the first {MAX_FILM_SECONDS} seconds are translated here"
            elif number > MAX_DECODED_FRAMES:
                self.ended = f"only {MAX_DECODED_FRAMES} frames are read here"
            elif self._clock() - begin > MAX_FILM_WORK_SECONDS:
                self.ended = f"a video may take {MAX_FILM_WORK_SECONDS} seconds here"
            if self.ended:
                return
            if at - last >= self._least_step:
                last = at
                yield Frame(_shrunk(frame.image), at)


def _shrunk(image: Image.Image) -> Image.Image:
    size = fit_size(image.size, MAX_FILM_SIDE)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
