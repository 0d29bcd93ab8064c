"""Videos of drawn objects, and hostile ones."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from agit_hub.data import shapes


def write_video(
    path: Path, frames: int = 4, rate: int = 8, size: tuple[int, int] = (64, 48)
) -> Path:
    """Write a video of an object that stands still."""
    image = shapes.draw("plain", 0, size=64, seed=3)[0].resize(size)
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def write_packets(path: Path, packets: list[bytes], stated: tuple[int, int] | None = None) -> Path:
    """Write a video of 64 x 64 pixels, or of what is stated, whose frames are PNG files of any size."""
    with av.open(path, "w") as output:
        stream = output.add_stream("png", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(1, 8)
            packet.is_keyframe = True
            output.mux(packet)
    if stated is not None:
        data = bytearray(path.read_bytes())
        at = data.index(b"stsd") + 12 + 4  # the entry's name, after one version, count and size
        data[at + 28 : at + 32] = b"".join(side.to_bytes(2, "big") for side in stated)
        path.write_bytes(data)
    return path


def decoded(path: Path) -> tuple[list[np.ndarray], list[float], int]:
    """Return the frames, their times, and the number of sound tracks."""
    with av.open(path) as container:
        sounds = len(container.streams.audio)
        frames = list(container.decode(video=0))
    return (
        [frame.to_ndarray(format="rgb24") for frame in frames],
        [f.time or 0.0 for f in frames],
        sounds,
    )
