"""Videos, encoded with PyAV, translated, and decoded again."""

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from agit_hub.errors import VideoError
from agit_hub.inference.video import Video, open_writer
from tests.cli.conftest import SHADE, Translate, listing, model, translate, work

__all__ = ["model", "translate", "work"]  # fixtures

RATE = 8
MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Encode a black video with a white upper left quarter; `times` are in eighths of a second."""

    def make(
        name: str = "clip.mp4",
        times: tuple[int, ...] = (0, 1, 2, 3, 4, 5),
        size: tuple[int, int] = (64, 32),
        audio: str | None = None,
        rotation: int = 0,
        codec: str = "libx264",
        colours: dict[str, object] | None = None,
    ) -> Path:
        path = tmp_path / "work" / name
        path.parent.mkdir(exist_ok=True)
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[: size[1] // 2, : size[0] // 2] = 255
        with av.open(path, "w") as output:
            stream = output.add_stream(codec, rate=RATE)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for name, value in (colours or {}).items():
                setattr(stream.codec_context, name, value)
            if rotation:
                stream.set_display_rotation(rotation)
            tone = output.add_stream(audio, rate=16000, layout="mono") if audio else None
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


def _audio(path: Path) -> tuple[str, list[bytes], np.ndarray] | None:
    """Codec, packets and samples."""
    with av.open(path) as container:
        if not container.streams.audio:
            return None
        codec = container.streams.audio[0].codec.canonical_name
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(path) as container:
        samples = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return codec, packets, np.concatenate(samples)


def test_translate_video_keeps_times_and_audio(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    # A variable rate: no new frame for half a second.
    clip = make_video(times=(0, 1, 2, 6, 7), audio="aac")
    done = translate("clip.mp4", "--maps", "--panels")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "Translated 1 video to zebra -> out/.\n"
    assert listing(work / "out") == ["clip.map.mp4", "clip.mp4", "clip.panel.mp4"]
    frames, times = _decoded(work / "out" / "clip.mp4")
    assert times == [0, 1 / RATE, 2 / RATE, 6 / RATE, 7 / RATE]
    assert all(frame.shape == (32, 64, 3) for frame in frames)
    # Away from the white, whose edge is soft at the networks' size.
    even = np.stack(frames).astype(int)[:, 22:, 42:]
    assert np.abs(even - SHADE).max() <= 2
    maps, _ = _decoded(work / "out" / "clip.map.mp4")
    assert len(maps) == 5 and maps[2].shape == (32, 64, 3) and maps[2].min() >= 253
    panels, _ = _decoded(work / "out" / "clip.panel.mp4")
    assert len(panels) == 5 and panels[0].shape == (32, 3 * 64 + 2 * 4, 3)
    before, after = _audio(clip), _audio(work / "out" / "clip.mp4")
    assert before is not None and after is not None
    assert after[:2] == before[:2] and after[0] == "aac"
    assert _audio(work / "out" / "clip.map.mp4") is None


def test_translate_video_keeps_colours(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video(size=(64, 32))
    translate("clip.mp4", "--to", "horse")
    frames, _ = _decoded(work / "out" / "clip.mp4")
    expected = np.zeros((32, 64, 3))
    expected[:16, :32] = 255
    assert np.abs(frames[0] - expected).mean() < 2


def test_translate_existing_video_is_skipped(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video()
    translate("clip.mp4")
    before = (work / "out" / "clip.mp4").stat()
    done = translate("clip.mp4")
    assert (
        done.stdout
        == "Translated 0 images to zebra -> out/ (1 existed already: --overwrite replaces them).\n"
    )
    assert (work / "out" / "clip.mp4").stat() == before
    translate("clip.mp4", "--overwrite")
    assert (work / "out" / "clip.mp4").stat().st_ino != before.st_ino


def test_translate_broken_video_does_not_stop_others(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video("good.webm", codec="libvpx-vp9")
    (work / "bad.mov").write_bytes(b"no video")
    Image.new("RGB", (16, 16)).save(work / "still.png")
    done = translate("bad.mov", "good.webm", "still.png")
    assert re.fullmatch(
        r"warning: bad\.mov is damaged or not a video.*Invalid data.*\n", done.stderr
    )
    assert done.exit_code == 1
    assert done.stdout == "Translated 1 image and 1 video to zebra -> out/ (1 failed).\n"
    assert listing(work / "out") == ["good.mp4", "still.png"]


def test_translate_video_is_put_in_place_after_its_extras(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video()
    (work / "out" / "clip.map.mp4").mkdir(parents=True)
    done = translate("clip.mp4", "--maps", "--overwrite")
    assert done.exit_code == 1 and "warning: clip.mp4: " in done.stderr
    assert listing(work / "out") == []


def test_translate_video_point_without_attention_fails(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video()
    done = translate("clip.mp4", "--point", "3,3", "--to", "horse")
    assert done.exit_code == 1 and "clip.mp4: No attention at (3, 3)" in done.stderr
    assert listing(work) == ["clip.mp4"]


# The angle is counterclockwise: it moves the white upper left corner below, then to the right.
@pytest.mark.parametrize(("rotation", "corner"), [(90, "lower left"), (-90, "upper right")])
def test_video_rotation_is_applied(make_video: MakeVideo, rotation: int, corner: str) -> None:
    with Video(make_video(rotation=rotation)) as video:
        first = next(iter(video.frames())).image
    assert first.size == (32, 64)
    places = {"lower left": (4, 60), "upper right": (28, 4)}
    for name, place in places.items():
        assert (np.mean(first.getpixel(place)) > 128) == (name == corner)


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv"])
def test_open_writer_audio_unplayable_in_mp4_becomes_aac(
    make_video: MakeVideo, tmp_path: Path, name: str
) -> None:
    clip = make_video(name, audio="pcm_s16le", codec="mpeg4")
    with Video(clip) as video, open_writer(tmp_path / "out.mp4", video, with_audio=True) as writer:
        for frame in video.frames():
            writer.write(frame.image, frame.time)
    frames, times = _decoded(tmp_path / "out.mp4")
    assert len(frames) == 6 and np.allclose(np.diff(times), 1 / RATE, atol=0.002)
    audio = _audio(tmp_path / "out.mp4")
    assert audio is not None and audio[0] == "aac"
    assert len(audio[2]) == pytest.approx(12000, abs=2048)
    # A sine's mean square is half of its amplitude's.
    assert audio[2].std() == pytest.approx(8000 / 32768 / 2**0.5, rel=0.1)


def test_video_writer_odd_sides_are_padded(make_video: MakeVideo, tmp_path: Path) -> None:
    pixels = np.full((17, 21, 3), 60, np.uint8)
    pixels[16], pixels[:, 20] = 220, 220
    with Video(make_video()) as video, open_writer(tmp_path / "out.mp4", video) as writer:
        for number in range(3):
            writer.write(Image.fromarray(pixels), Fraction(number, RATE))
    frames, _ = _decoded(tmp_path / "out.mp4")
    assert len(frames) == 3 and frames[0].shape == (18, 22, 3)
    assert frames[0][17, 21].min() > 180 and frames[0][4, 4].max() < 80


@pytest.mark.parametrize("height", [64, 720])
def test_video_writer_keeps_colours(make_video: MakeVideo, tmp_path: Path, height: int) -> None:
    colour = (200, 40, 90)
    with Video(make_video()) as video, open_writer(tmp_path / "out.mp4", video) as writer:
        writer.write(Image.new("RGB", (64, height), colour), Fraction(0))
    with Video(tmp_path / "out.mp4") as video:
        (frame,) = video.frames()
    assert np.abs(np.asarray(frame.image).astype(int) - colour).max() <= 4
    with av.open(tmp_path / "out.mp4") as container:
        assert next(container.decode(video=0)).colorspace == 1  # BT.709 in H.264's numbering


def test_open_writer_file_appears_when_complete(make_video: MakeVideo, tmp_path: Path) -> None:
    def interrupt() -> None:
        with Video(make_video()) as video, open_writer(tmp_path / "out" / "a.mp4", video) as writer:
            for number in range(100):  # the encoder buffers the first frames
                writer.write(Image.new("RGB", (32, 32)), Fraction(number, RATE))
            assert listing(tmp_path / "out") != []
            assert not (tmp_path / "out" / "a.mp4").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert listing(tmp_path / "out") == []


def test_video_frames_have_times_and_length(make_video: MakeVideo) -> None:
    with Video(make_video("clip.mkv", times=tuple(range(40)))) as video:
        assert video.length == pytest.approx(40, abs=1) and video.rate == RATE
        assert [frame.time for frame in video.frames()] == [Fraction(n, RATE) for n in range(40)]


def test_video_without_video_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.mkv"
    with av.open(path, "w") as output:
        stream = output.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), "s16", "mono")
        silence.sample_rate = 16000
        output.mux(stream.encode(silence))
        output.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"song\.mkv has no video"):
        Video(path)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".wmv", "wmv2"),
        (".flv", "flv"),
        (".ts", "mpeg2video"),
        (".mpg", "mpeg2video"),
        (".mpeg", "mpeg1video"),
        (".m4v", "libx264"),
        (".3gp", "libx264"),
    ],
)
def test_translate_video_of_any_kind(
    translate: Translate, work: Path, suffix: str, codec: str
) -> None:
    with av.open(work / f"clip{suffix}", "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(25):  # FFmpeg recognises no transport stream that is much shorter
            pixels = np.full((32, 64, 3), 9 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    done = translate(f"clip{suffix}")
    assert done.exit_code == 0, done.stderr
    with Video(work / "out" / "clip.mp4") as video:
        times = [frame.time for frame in video.frames()]
    assert len(times) == 25 and times[-1] - times[0] == Fraction(24, 25)


def test_translate_video_without_encoder_is_refused_before_work(
    translate: Translate, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video()
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    done = translate("clip.mp4")
    assert done.exit_code == 2 and "libx264" in done.stderr and "reinstall" in done.stderr


# Of an HDR clip of a phone in H.273's numbering: BT.2020, PQ.
HDR = {"color_primaries": 9, "color_trc": 16, "colorspace": 9}


@pytest.mark.parametrize("rotation", [0, 90])
def test_translate_video_keeps_pixel_aspect_and_colour_tags(
    translate: Translate, make_video: MakeVideo, work: Path, rotation: int
) -> None:
    aspect = Fraction(4, 3)
    make_video(rotation=rotation, colours={**HDR, "sample_aspect_ratio": aspect})
    assert translate("clip.mp4").exit_code == 0
    with av.open(work / "out" / "clip.mp4") as container:
        context = container.streams.video[0].codec_context
        assert context.sample_aspect_ratio == (1 / aspect if rotation else aspect)
        # RGB has the clip's primaries and transfer; the matrix is that of the new YUV.
        tags = context.color_primaries, context.color_trc, context.colorspace
    assert tags == (9, 16, 1)


def test_translate_video_without_colour_tags_is_bt709(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video()
    assert translate("clip.mp4").exit_code == 0
    with av.open(work / "out" / "clip.mp4") as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{other}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{other.name}'\n",
    ],
)
def test_video_that_names_another_file_does_not_read_it(
    make_video: MakeVideo, content: str
) -> None:
    other = make_video("other.mp4")
    path = other.with_name("playlist.mp4")
    path.write_text(content.format(other=other))
    with pytest.raises(VideoError, match=r"playlist\.mp4 is damaged or not a video"):
        Video(path)


def test_video_in_an_unknown_codec_is_refused(make_video: MakeVideo) -> None:
    path = make_video()
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xyz1").replace(b"avcC", b"xyzC"))
    with pytest.raises(VideoError, match="has a video stream that cannot be decoded here"):
        Video(path)


def test_video_with_a_name_like_an_address_is_a_file(make_video: MakeVideo) -> None:
    path = make_video("concat:a|b %20.mp4")
    with Video(path) as video:
        assert len(list(video.frames())) == 6
