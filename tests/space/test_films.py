"""Videos of visitors: the first seconds, within the limits, and nothing but the file itself."""

import io
import resource
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.errors import ImageError, SpaceError, VideoError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.video import Frame
from agit_hub.space import films
from agit_hub.space.films import FilmStep, translate_film
from agit_hub.space.messages import visitor_message
from tests.space.conftest import DEMO_MODEL
from tests.space.videos import decoded, write_packets, write_video


@pytest.fixture(scope="module")
def pipeline() -> AGITPipeline:
    return AGITPipeline.from_pretrained(DEMO_MODEL, device="cpu")


Translate = Callable[..., Iterator[FilmStep]]


@pytest.fixture
def outputs(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "films" / "pair.mp4", tmp_path / "films" / "alone.mp4"


@pytest.fixture
def translate(pipeline: AGITPipeline, outputs: tuple[Path, Path]) -> Translate:
    def run(path: Path, edits: AttentionEdits | None = None, **options: Any) -> Iterator[FilmStep]:
        edits = edits or AttentionEdits()
        return translate_film(path, outputs, pipeline, "striped", edits, **options)

    return run


def test_film_is_input_beside_output_without_sound(
    translate: Translate, outputs: tuple[Path, Path], tmp_path: Path
) -> None:
    path = write_video(tmp_path / "clip.mp4", frames=4, rate=8)
    steps = list(translate(path, AttentionEdits(strength=0)))
    assert [step.frames for step in steps] == [1, 2, 3, 4, 4]
    assert [step.seconds for step in steps[:4]] == [1 / 8, 2 / 8, 3 / 8, 4 / 8]
    assert steps[-1].total == 0.5 and steps[-1].ended == ""
    before, _, _ = decoded(path)
    pairs, times, sounds = decoded(outputs[0])
    assert times == [0, 1 / 8, 2 / 8, 3 / 8] and sounds == 0
    # 64 pixels, 4 between, 64 pixels; with strength 0 both are the input, as far as the codec keeps it.
    assert pairs[0].shape == (48, 132, 3)
    for part in (pairs[0][:, :64], pairs[0][:, 68:]):
        assert np.abs(part.astype(int) - before[0]).mean() < 3
    alone, _, _ = decoded(outputs[1])
    assert alone[0].shape == (48, 64, 3) and len(alone) == 4


def test_film_of_a_longer_video_is_its_first_seconds(
    translate: Translate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "MAX_FILM_SECONDS", 1)
    *_, last = translate(write_video(tmp_path / "clip.mp4", frames=20, rate=8))
    assert last == FilmStep(8, 1.0, 1, "only the first 1 seconds are translated here")


def test_film_ends_when_its_work_took_too_long(translate: Translate, tmp_path: Path) -> None:
    ticks = iter(range(0, 10**6, 150))  # seconds: at the start, and at each frame
    steps = translate(write_video(tmp_path / "clip.mp4", frames=9), clock=lambda: next(ticks))
    *_, last = steps
    assert (last.frames, last.ended) == (2, "a video may take 400 seconds here")


def test_film_leaves_out_frames_beyond_its_rate(
    translate: Translate, outputs: tuple[Path, Path], tmp_path: Path
) -> None:
    *_, last = translate(write_video(tmp_path / "clip.mp4", frames=12, rate=24), rate=12)
    assert last.frames == 6 and last.seconds == 0.5
    assert decoded(outputs[1])[1] == pytest.approx([number / 12 for number in range(6)])


@pytest.mark.parametrize("step", [0, -1])
def test_film_of_endlessly_many_frames_at_one_time_ends(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "MAX_DECODED_FRAMES", 50)
    image, read = Image.new("RGB", (16, 16)), []

    def endless() -> Iterator[Frame]:
        time = 0
        while True:
            read.append(time)
            yield Frame(image, Fraction(time))
            time += step

    chosen = films._Frames(SimpleNamespace(frames=endless), 30, lambda: 0.0)  # type: ignore[arg-type]
    assert len(list(chosen)) == 1 and chosen.ended == "only 50 frames are read here"
    assert len(read) == 51


def test_film_frames_are_shrunk_to_the_limit(
    translate: Translate, outputs: tuple[Path, Path], tmp_path: Path
) -> None:
    assert list(translate(write_video(tmp_path / "wide.mp4", frames=1, size=(1600, 400))))
    frames, _, _ = decoded(outputs[1])
    assert frames[0].shape == (320, 1280, 3)


def test_film_stopped_midway_leaves_no_file(
    translate: Translate, outputs: tuple[Path, Path], tmp_path: Path
) -> None:
    steps = translate(write_video(tmp_path / "clip.mp4", frames=90, rate=30))
    # The encoder looks at many frames before it writes the first.
    assert any(list(outputs[0].parent.iterdir()) for _ in steps)
    steps.close()  # type: ignore[attr-defined]
    assert not list(outputs[0].parent.iterdir())


def _png(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (width, height)).save(data, "PNG")
    return data.getvalue()


def _bomb(side: int) -> bytes:
    """Return a PNG of black pixels in grey, made without ever holding them."""
    pack = zlib.compressobj(1)
    data = b"".join(pack.compress(bytes(side + 1)) for _ in range(side)) + pack.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in chunks
    )


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def test_film_of_vast_frames_is_refused_before_they_are_decoded(
    translate: Translate, tmp_path: Path
) -> None:
    stated = write_packets(tmp_path / "stated.mov", [_png(5000, 4000)], stated=(5000, 4000))
    hidden = write_packets(tmp_path / "hidden.mov", [_bomb(16_000)])  # 256 MB when decoded
    before = _peak_megabytes()
    with pytest.raises(VideoError, match=r"frames of 5000 x 4000 pixels; 9\.5 megapixels"):
        list(translate(stated))
    with pytest.raises(VideoError, match=r"hidden\.mov"):
        list(translate(hidden))
    assert _peak_megabytes() - before < 150


def test_film_of_a_large_file_is_refused(translate: Translate, tmp_path: Path) -> None:
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(101 * 10**6)
    with pytest.raises(
        SpaceError, match=r"large.mp4 has 101 MB; 100 MB is the limit .* Cut it to 10"
    ):
        list(translate(tmp_path / "large.mp4"))


def _playlists(video: Path) -> dict[str, str]:
    """Files that name another file to read."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{video}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{video.name}'\n",
        "address": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        "text": "no video",
        "nothing": "",
    }


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".jpg"])
@pytest.mark.parametrize("kind", ["hls", "concat", "address", "sdp", "dash", "text", "nothing"])
def test_film_reads_nothing_but_its_file(
    translate: Translate, tmp_path: Path, kind: str, suffix: str
) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_text(_playlists(write_video(tmp_path / "private.mp4"))[kind])
    with pytest.raises(VideoError) as raised:
        list(translate(path))
    message = visitor_message(raised.value)
    assert message.startswith(f"clip{suffix} is damaged or not a video") and "/" not in message


def test_film_of_images_and_sounds_is_refused(translate: Translate, tmp_path: Path) -> None:
    (tmp_path / "image.mp4").write_bytes(_png(64, 64))
    with pytest.raises(VideoError, match="damaged or not a video"):
        list(translate(tmp_path / "image.mp4"))
    tiny = write_packets(tmp_path / "tiny.mov", [_png(8, 8)], stated=(8, 8))
    with pytest.raises(ImageError, match="8 x 8 pixels is too small"):
        list(translate(tiny))


def test_film_of_any_damage_is_a_sentence(translate: Translate, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    chance = np.random.default_rng(0)
    refused = 0
    for number in range(40):
        damaged = bytearray(whole)
        for at in chance.integers(0, len(whole), 12):
            damaged[at] = chance.integers(256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(
            bytes(damaged[: chance.integers(50, len(whole))] if number % 2 else damaged)
        )
        try:
            list(translate(path))
        except (VideoError, ImageError):
            refused += 1
    assert refused >= 15
