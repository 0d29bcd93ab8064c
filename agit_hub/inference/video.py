"""Reading videos as upright frames, and writing them as H.264 in MP4, with PyAV."""

from collections.abc import Iterator, Sequence
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

# Visually nearly lossless.
_ENCODER_OPTIONS = {"crf": "16"}
# From this height on players assume BT.709 for a video that does not state its colour space.
_HD_HEIGHT = 720
# FFmpeg recognizes a file by its content. Formats that name other files or addresses to read (playlists,
# lists of parts, scripts) are not among these, so that a video reads nothing but itself.
FORMATS = ("mov", "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "mpegvideo", "ogg")
# Colour spaces and ranges in H.264's and PyAV's numbering.
_UNSPECIFIED, _BT709, _LIMITED = 2, 1, 1


def check_encoder() -> None:
    """Check that videos can be written here.

    Raises:
        VideoError: If this build of PyAV lacks the encoder.
    """
    if "libx264" not in av.codecs_available:
        raise VideoError(
            "Videos are written by FFmpeg's encoder libx264, which this build of PyAV lacks: pip install "
            "--force-reinstall av."
        )


class Colours:
    """What a stream says about its pixels beyond their values: RGB and YUV are converted as it has them.

    The translation is RGB of the same primaries and transfer function, so that their tags still hold.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self.primaries = _known(context.color_primaries)
        self.transfer = _known(context.color_trc)
        self.pixel_aspect = context.sample_aspect_ratio or Fraction(1)
        """Width of a pixel by its height."""


def _known(tag: int) -> int:
    return _BT709 if tag == _UNSPECIFIED else tag


class Frame(NamedTuple):
    """One frame of a video."""

    image: Image.Image
    """Upright, RGB."""
    time: Fraction
    """Its presentation time, in seconds."""


class Video:
    """Reads a video one frame at a time.

    Args:
        path: The file.
        formats: FFmpeg's names of the formats that it may have.
        max_pixels: Of a frame; larger ones are not decoded.

    Raises:
        VideoError: If the file is not a video, in another format, or its frames are too large.
    """

    def __init__(
        self, path: Path, formats: Sequence[str] = FORMATS, max_pixels: int | None = None
    ) -> None:
        self.path = path
        self._failure = f"{path} is damaged or not a video"
        with _video_errors(self._failure):
            self._container = _open(path, formats, max_pixels)
        try:
            stream = self._checked(max_pixels)
        except VideoError:
            self._container.close()
            raise
        stream.thread_type = "AUTO"
        self._stream = stream
        self.rate = stream.average_rate or Fraction(25)
        """Frames per second, on average."""
        self.time_base = stream.time_base or 1 / self.rate
        """The unit of times, in seconds."""
        self.colours = Colours(stream)
        self.quarter_turn = False
        """Whether frames are turned by 90 degrees to be upright; known from the first one on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _checked(self, max_pixels: int | None) -> VideoStream:
        """Return the video stream, if it can be decoded."""
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream):
            raise VideoError(f"{self.path} has no video stream.")
        if stream.codec_context is None:
            raise VideoError(f"{self.path} has a video stream that cannot be decoded here.")
        if max_pixels is not None:
            width, height = stream.width, stream.height
            if width * height > max_pixels:
                raise VideoError(
                    f"{self.path} has frames of {width} x {height} pixels; {max_pixels / 1e6:g} "
                    "megapixels is the limit here."
                )
            # The file may state another size than its frames have.
            stream.codec_context.options = {"max_pixels": str(max_pixels)}
        return stream

    @property
    def length(self) -> int | None:
        """The approximate number of frames, if the file states it."""
        if self._stream.frames or not self._container.duration:
            return self._stream.frames or None
        return round(self._container.duration / av.time_base * self.rate)

    @property
    def seconds(self) -> float | None:
        """The duration, if the file states it."""
        duration = self._container.duration
        return duration / av.time_base if duration else None

    def frames(self) -> Iterator[Frame]:
        """Decode the frames in presentation order.

        Raises:
            VideoError: If the file is damaged, or has no frames.
        """
        time = None
        # An AVI has a fixed rate and no times; those that FFmpeg guesses are wrong.
        fixed_rate = self._container.format.name == "avi"
        with _video_errors(self._failure):
            for frame in self._container.decode(self._stream):
                if frame.pts is not None and not fixed_rate:
                    time = frame.pts * (frame.time_base or self.time_base)
                else:
                    time = Fraction(0) if time is None else time + 1 / self.rate
                self.quarter_turn = bool(frame.rotation % 180)
                yield Frame(_upright(frame), time)
        if time is None:
            raise VideoError(f"{self.path} has no frames.")


class VideoWriter:
    """Writes an MP4 file.

    Args:
        path: The file.
        video: Source of the frame rate and the audio.
        with_audio: Whether to copy the audio.
    """

    def __init__(self, path: Path, video: Video, with_audio: bool) -> None:
        self._video = video
        self._with_audio = with_audio
        self._output: OutputContainer = av.open(
            path, "w", format="mp4", options={"movflags": "+faststart"}
        )
        self._stream: VideoStream | None = None
        self._audio: _Audio | None = None
        self._last = -1

    def write(self, image: Image.Image, time: Fraction) -> None:
        """Add a frame at a time in seconds; an odd side is padded with its last pixels."""
        stream = self._stream or self._start(image)
        pixels = np.asarray(image.convert("RGB"))
        # Chroma has half the resolution, so sides must be even.
        odd = (0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)
        frame = av.VideoFrame.from_ndarray(np.pad(pixels, odd, mode="edge"), format="rgb24")
        frame = frame.reformat(
            stream.width, stream.height, "yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        # In damaged files times may decrease, which encoders refuse.
        self._last = max(self._last + 1, round(time / self._video.time_base))
        frame.pts, frame.time_base = self._last, self._video.time_base
        if self._audio is not None:
            self._audio.copy(until=float(time))
        self._output.mux(stream.encode(frame))

    def finish(self) -> None:
        """Write the frames that the encoder still buffers."""
        if self._stream is not None:
            self._output.mux(self._stream.encode(None))
        if self._audio is not None:
            self._audio.copy()

    def close(self) -> None:
        """Close the file."""
        if self._audio is not None:
            self._audio.close()
        self._output.close()

    def _start(self, image: Image.Image) -> VideoStream:
        stream = self._output.add_stream("libx264", rate=self._video.rate, options=_ENCODER_OPTIONS)
        stream.width, stream.height = (side + side % 2 for side in image.size)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._video.time_base
        colours = self._video.colours
        context.colorspace, context.color_range = _BT709, _LIMITED
        context.color_primaries, context.color_trc = colours.primaries, colours.transfer
        aspect = colours.pixel_aspect
        # Frames are upright: a quarter turn swaps the sides of a pixel.
        context.sample_aspect_ratio = 1 / aspect if self._video.quarter_turn else aspect
        self._stream = stream
        if self._with_audio:
            self._audio = _Audio(self._video.path, self._output)
        return stream


class _Audio:
    """Copies a video's audio, re-encoded as AAC if it would not play in an MP4."""

    def __init__(self, path: Path, output: OutputContainer) -> None:
        # Opened again, so that audio and frames are read independently.
        self._input = _open(path)
        self._output = output
        self._packets: Iterator[Packet[AudioStream]] = iter(())
        stream = self._input.streams.best("audio")
        if isinstance(stream, AudioStream):
            codec = stream.codec.canonical_name
            # MP4 supports PCM, but few players do.
            is_playable = codec in output.supported_codecs and not codec.startswith("pcm_")
            self._packets = self._remux(stream) if is_playable else self._encode(stream)
        self._next = next(self._packets, None)

    def copy(self, until: float = float("inf")) -> None:
        """Write the audio up to a time in seconds."""
        while (packet := self._next) is not None and _start_time(packet) <= until:
            self._output.mux(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._input.close()

    def _remux(self, stream: AudioStream) -> "Iterator[Packet[AudioStream]]":
        copy = self._output.add_stream_from_template(stream)
        for packet in self._input.demux(stream):
            if packet.dts is not None:  # the flush packet has none
                packet.stream = copy
                yield packet

    def _encode(self, stream: AudioStream) -> "Iterator[Packet[AudioStream]]":
        layout = "mono" if stream.channels == 1 else "stereo"
        encoder = self._output.add_stream("aac", rate=stream.rate, layout=layout)
        for frame in self._input.decode(stream):
            yield from encoder.encode(frame)
        yield from encoder.encode(None)


def _open(
    path: Path, formats: Sequence[str] = FORMATS, max_pixels: int | None = None
) -> InputContainer:
    """Open a file that may read nothing but itself."""
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
    if max_pixels is not None:
        # Larger ones are not even looked at; those in between get a sentence with their size.
        options["max_pixels"] = str(4 * max_pixels)
    # A name such as `concat:a|b` is a file's name as well.
    return av.open(f"file:{path}", "r", options=options, metadata_errors="replace")


@contextmanager
def open_writer(path: Path, video: Video, with_audio: bool = False) -> Iterator[VideoWriter]:
    """Open a writer for a video like another one; the file appears once it is complete."""
    with atomic_path(path) as unfinished, _video_errors(f"{path} could not be written"):
        writer = VideoWriter(unfinished, video, with_audio)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


@contextmanager
def _video_errors(failure: str) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise VideoError(f"{failure}: {error.strerror}.") from error


def _start_time(packet: "Packet[AudioStream]") -> float:
    return float((packet.dts or 0) * packet.time_base)


def _upright(frame: av.VideoFrame) -> Image.Image:
    guessed = "ITU709" if frame.height >= _HD_HEIGHT else "ITU601"
    known = frame.colorspace != _UNSPECIFIED
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=None if known else guessed)
    image = Image.fromarray(pixels)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
