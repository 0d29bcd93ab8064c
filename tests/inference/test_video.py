"""Videos: encoded here with PyAV, translated, and decoded again."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from agit_hub.errors import VideoError
from agit_hub.inference.video import Video, writing
from tests.cli.conftest import SHADE, Translate, listing, model, translate, work

__all__ = ["model", "translate", "work"]  # fixtures

RATE = 8
MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Encode a black video with a white upper left quarter; `times` are in eighths of a second."""

    def make(
        name: str = "film.mp4",
        times: tuple[int, ...] = (0, 1, 2, 3, 4, 5),
        size: tuple[int, int] = (64, 32),
        sound: str | None = None,
        rotation: int = 0,
        codec: str = "libx264",
    ) -> Path:
        path = tmp_path / "work" / name
        path.parent.mkdir(exist_ok=True)
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[: size[1] // 2, : size[0] // 2] = 255
        with av.open(path, "w") as output:
            stream = output.add_stream(codec, rate=RATE)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            if rotation:
                stream.set_display_rotation(rotation)
            tone = output.add_stream(sound, rate=16000, layout="mono") if sound else None
            for time in times:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, RATE)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if tone is not None:
                wave = (8000 * np.sin(np.arange(12000) / 5)).astype(np.int16)
                heard = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = 16000, 0, Fraction(1, 16000)
                output.mux(tone.encode(heard))
                output.mux(tone.encode(None))
        return path

    return make


def _decoded(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [f.time or 0.0 for f in frames]


def _sound(path: Path) -> tuple[str, list[bytes], np.ndarray] | None:
    """Codec, packets and samples."""
    with av.open(path) as container:
        if not container.streams.audio:
            return None
        codec = container.streams.audio[0].codec.canonical_name
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(path) as container:
        samples = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return codec, packets, np.concatenate(samples)


def test_a_video_is_translated_with_its_times_and_sound(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    # A variable rate: nothing is shown anew for half a second.
    film = make_video(times=(0, 1, 2, 6, 7), sound="aac")
    done = translate("film.mp4", "--maps", "--panels")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "Translated 1 video to zebra -> out/.\n"
    assert listing(work / "out") == ["film.map.mp4", "film.mp4", "film.panel.mp4"]
    frames, times = _decoded(work / "out" / "film.mp4")
    assert times == [0, 1 / RATE, 2 / RATE, 6 / RATE, 7 / RATE]
    assert all(frame.shape == (32, 64, 3) for frame in frames)
    # Away from the white, whose edge is soft in what the networks see.
    evenly = np.stack(frames).astype(int)[:, 22:, 42:]
    assert np.abs(evenly - SHADE).max() <= 2
    maps, _ = _decoded(work / "out" / "film.map.mp4")
    assert len(maps) == 5 and maps[2].shape == (32, 64, 3) and maps[2].min() >= 253
    panels, _ = _decoded(work / "out" / "film.panel.mp4")
    assert len(panels) == 5 and panels[0].shape == (32, 3 * 64 + 2 * 4, 3)
    before, after = _sound(film), _sound(work / "out" / "film.mp4")
    assert before is not None and after is not None
    assert after[:2] == before[:2] and after[0] == "aac"
    assert _sound(work / "out" / "film.map.mp4") is None


def test_colours_come_through(translate: Translate, make_video: MakeVideo, work: Path) -> None:
    make_video(size=(64, 32))
    translate("film.mp4", "--to", "horse")
    frames, _ = _decoded(work / "out" / "film.mp4")
    expected = np.zeros((32, 64, 3))
    expected[:16, :32] = 255
    assert np.abs(frames[0] - expected).mean() < 2


def test_a_video_is_passed_over_when_it_is_there(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video()
    translate("film.mp4")
    before = (work / "out" / "film.mp4").stat()
    done = translate("film.mp4")
    assert done.stdout == "Translated 0 pictures to zebra -> out/ (1 was there already).\n"
    assert (work / "out" / "film.mp4").stat() == before
    translate("film.mp4", "--overwrite")
    assert (work / "out" / "film.mp4").stat().st_ino != before.st_ino


def test_a_broken_video_leaves_nothing_and_stops_nothing(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video("good.webm", codec="libvpx-vp9")
    (work / "bad.mov").write_bytes(b"no film")
    Image.new("RGB", (16, 16)).save(work / "still.png")
    done = translate("bad.mov", "good.webm", "still.png")
    assert done.stderr == (
        "warning: bad.mov is damaged, or no video: Invalid data found when processing input.\n"
    )
    assert done.exit_code == 1
    assert done.stdout == "Translated 1 picture and 1 video to zebra -> out/ (1 failed).\n"
    assert listing(work / "out") == ["good.mp4", "still.png"]


def test_a_point_without_attention_fails_the_video(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video()
    done = translate("film.mp4", "--point", "3,3", "--to", "horse")
    assert done.exit_code == 1 and "film.mp4: No attention is paid at (3, 3)" in done.stderr
    assert listing(work) == ["film.mp4"]


# The angle is counterclockwise: the white upper left corner comes to lie below, then to the right.
@pytest.mark.parametrize(("rotation", "corner"), [(90, "lower left"), (-90, "upper right")])
def test_a_turned_video_is_read_upright(make_video: MakeVideo, rotation: int, corner: str) -> None:
    with Video(make_video(rotation=rotation)) as video:
        first = next(iter(video.frames())).picture
    assert first.size == (32, 64)
    places = {"lower left": (4, 60), "upper right": (28, 4)}
    for name, place in places.items():
        assert (np.mean(first.getpixel(place)) > 128) == (name == corner)


@pytest.mark.parametrize("name", ["film.avi", "film.mkv"])
def test_sound_that_does_not_play_in_an_mp4_becomes_aac(
    make_video: MakeVideo, tmp_path: Path, name: str
) -> None:
    film = make_video(name, sound="pcm_s16le", codec="mpeg4")
    with Video(film) as video, writing(tmp_path / "out.mp4", video, with_sound=True) as writer:
        for frame in video.frames():
            writer.write(frame.picture, frame.time)
    frames, times = _decoded(tmp_path / "out.mp4")
    assert len(frames) == 6 and np.allclose(np.diff(times), 1 / RATE, atol=0.002)
    sound = _sound(tmp_path / "out.mp4")
    assert sound is not None and sound[0] == "aac"
    assert len(sound[2]) == pytest.approx(12000, abs=2048)
    # A sine's mean square is half of its height's.
    assert sound[2].std() == pytest.approx(8000 / 32768 / 2**0.5, rel=0.1)


def test_odd_sides_grow_by_their_last_pixels(make_video: MakeVideo, tmp_path: Path) -> None:
    pixels = np.full((17, 21, 3), 60, np.uint8)
    pixels[16], pixels[:, 20] = 220, 220
    with Video(make_video()) as video, writing(tmp_path / "out.mp4", video) as writer:
        for number in range(3):
            writer.write(Image.fromarray(pixels), Fraction(number, RATE))
    frames, _ = _decoded(tmp_path / "out.mp4")
    assert len(frames) == 3 and frames[0].shape == (18, 22, 3)
    assert frames[0][17, 21].min() > 180 and frames[0][4, 4].max() < 80


@pytest.mark.parametrize("height", [64, 720])
def test_a_colour_stays_what_it_is(make_video: MakeVideo, tmp_path: Path, height: int) -> None:
    colour = (200, 40, 90)
    with Video(make_video()) as video, writing(tmp_path / "out.mp4", video) as writer:
        writer.write(Image.new("RGB", (64, height), colour), Fraction(0))
    with Video(tmp_path / "out.mp4") as video:
        (frame,) = video.frames()
    assert np.abs(np.asarray(frame.picture).astype(int) - colour).max() <= 4
    with av.open(tmp_path / "out.mp4") as container:
        assert next(container.decode(video=0)).colorspace == 1  # BT.709, as H.264 numbers it


def test_nothing_appears_before_it_is_whole(make_video: MakeVideo, tmp_path: Path) -> None:
    def break_off() -> None:
        with Video(make_video()) as video, writing(tmp_path / "out" / "a.mp4", video) as writer:
            for number in range(100):  # for the encoder holds the first ones back
                writer.write(Image.new("RGB", (32, 32)), Fraction(number, RATE))
            assert listing(tmp_path / "out") != []
            assert not (tmp_path / "out" / "a.mp4").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert listing(tmp_path / "out") == []


def test_frames_are_read_one_by_one_and_counted(make_video: MakeVideo) -> None:
    with Video(make_video("film.mkv", times=tuple(range(40)))) as video:
        assert video.length == pytest.approx(40, abs=1) and video.rate == RATE
        assert [frame.time for frame in video.frames()] == [Fraction(n, RATE) for n in range(40)]


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mkv"
    with av.open(path, "w") as output:
        stream = output.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), "s16", "mono")
        silence.sample_rate = 16000
        output.mux(stream.encode(silence))
        output.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"song\.mkv holds no pictures"):
        Video(path)
