"""Videos frame by frame, with PyAV: read as upright pictures, written as H.264 in MP4."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from PIL import Image

from agit_hub.atomic import atomic_path
from agit_hub.errors import VideoError

# Nearly without visible loss.
_QUALITY = {"crf": "16"}
# From here on players take BT.709 for the colours of a video that does not say.
_HIGH_DEFINITION = 720
# As H.264 and PyAV number them.
_UNSPECIFIED, _BT709, _LIMITED = 2, 1, 1


class Frame(NamedTuple):
    """One picture of a video."""

    picture: Image.Image
    """Upright, RGB."""
    time: Fraction
    """When it is shown, in seconds."""


class Video:
    """A video to be read, one frame at a time.

    Args:
        path: The file.

    Raises:
        VideoError: If it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failure = f"{path} is damaged, or no video"
        with _in_a_sentence(self._failure):
            self._container: InputContainer = av.open(path)
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream):
            self._container.close()
            raise VideoError(f"{path} holds no pictures.")
        stream.thread_type = "AUTO"
        self._stream = stream
        self.rate = stream.average_rate or Fraction(25)
        """Frames a second, on average."""
        self.time_base = stream.time_base or 1 / self.rate
        """The unit in which times are counted, in seconds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def length(self) -> int | None:
        """About how many frames there are, if the file says so."""
        if self._stream.frames or not self._container.duration:
            return self._stream.frames or None
        return round(self._container.duration / av.time_base * self.rate)

    def frames(self) -> Iterator[Frame]:
        """Decode the frames in the order in which they are shown.

        Raises:
            VideoError: If the file is damaged, or has none.
        """
        time = None
        # An AVI has a fixed rate and tells of no times; those that are guessed for it are wrong.
        counted = self._container.format.name == "avi"
        with _in_a_sentence(self._failure):
            for frame in self._container.decode(self._stream):
                if frame.pts is not None and not counted:
                    time = frame.pts * (frame.time_base or self.time_base)
                else:
                    time = Fraction(0) if time is None else time + 1 / self.rate
                yield Frame(_upright(frame), time)
        if time is None:
            raise VideoError(f"{self.path} holds no frames.")


class VideoWriter:
    """An MP4 in the making.

    Args:
        path: The file.
        video: The one whose rate and, if wanted, sound it has.
        with_sound: Whether the sound is copied.
    """

    def __init__(self, path: Path, video: Video, with_sound: bool) -> None:
        self._video = video
        self._with_sound = with_sound
        self._output: OutputContainer = av.open(
            path, "w", format="mp4", options={"movflags": "+faststart"}
        )
        self._stream: VideoStream | None = None
        self._sound: _Sound | None = None
        self._last = -1

    def write(self, picture: Image.Image, time: Fraction) -> None:
        """Add a picture, shown from a time on, in seconds; an odd side grows by its last pixels."""
        stream = self._stream or self._start(picture)
        pixels = np.asarray(picture.convert("RGB"))
        # Colours are halved in both directions, so sides must be even.
        odd = (0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)
        frame = av.VideoFrame.from_ndarray(np.pad(pixels, odd, mode="edge"), format="rgb24")
        frame = frame.reformat(
            stream.width, stream.height, "yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        # Damaged files may count backwards, which no encoder takes.
        self._last = max(self._last + 1, round(time / self._video.time_base))
        frame.pts, frame.time_base = self._last, self._video.time_base
        if self._sound is not None:
            self._sound.copy(until=float(time))
        self._output.mux(stream.encode(frame))

    def finish(self) -> None:
        """Write what is still held back."""
        if self._stream is not None:
            self._output.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.copy()

    def close(self) -> None:
        """Close the file, finished or not."""
        if self._sound is not None:
            self._sound.close()
        self._output.close()

    def _start(self, picture: Image.Image) -> VideoStream:
        stream = self._output.add_stream("libx264", rate=self._video.rate, options=_QUALITY)
        stream.width, stream.height = (side + side % 2 for side in picture.size)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._video.time_base
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._stream = stream
        if self._with_sound:
            self._sound = _Sound(self._video.path, self._output)
        return stream


class _Sound:
    """A video's sound, beside its pictures: as it is, or as AAC where it would not play in an MP4."""

    def __init__(self, path: Path, output: OutputContainer) -> None:
        # LoadedDomain once more, so that sound and pictures are read each at its own pace.
        self._input: InputContainer = av.open(path)
        self._output = output
        self._packets: Iterator[Packet[AudioStream]] = iter(())
        stream = self._input.streams.best("audio")
        if isinstance(stream, AudioStream):
            codec = stream.codec.canonical_name
            # MP4 may hold PCM, but few players take it there.
            plays = codec in output.supported_codecs and not codec.startswith("pcm_")
            self._packets = self._copied(stream) if plays else self._encoded(stream)
        self._next = next(self._packets, None)

    def copy(self, until: float = float("inf")) -> None:
        """Write the sound up to a time in seconds."""
        while (packet := self._next) is not None and _start_of(packet) <= until:
            self._output.mux(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._input.close()

    def _copied(self, stream: AudioStream) -> "Iterator[Packet[AudioStream]]":
        copy = self._output.add_stream_from_template(stream)
        for packet in self._input.demux(stream):
            if packet.dts is not None:  # the last one is empty
                packet.stream = copy
                yield packet

    def _encoded(self, stream: AudioStream) -> "Iterator[Packet[AudioStream]]":
        layout = "mono" if stream.channels == 1 else "stereo"
        encoder = self._output.add_stream("aac", rate=stream.rate, layout=layout)
        for frame in self._input.decode(stream):
            yield from encoder.encode(frame)
        yield from encoder.encode(None)


@contextmanager
def writing(path: Path, video: Video, with_sound: bool = False) -> Iterator[VideoWriter]:
    """Write a video like another one, to appear under its name when it is whole."""
    with atomic_path(path) as unfinished, _in_a_sentence(f"{path} could not be written"):
        writer = VideoWriter(unfinished, video, with_sound)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


@contextmanager
def _in_a_sentence(failure: str) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise VideoError(f"{failure}: {error.strerror}.") from error


def _start_of(packet: "Packet[AudioStream]") -> float:
    return float((packet.dts or 0) * packet.time_base)


def _upright(frame: av.VideoFrame) -> Image.Image:
    guessed = "ITU709" if frame.height >= _HIGH_DEFINITION else "ITU601"
    known = frame.colorspace != _UNSPECIFIED
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=None if known else guessed)
    picture = Image.fromarray(pixels)
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
