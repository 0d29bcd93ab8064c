"""Long trials of the Space: many users for minutes, and hostile files."""

import io
import random
import re
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.data import shapes
from tests.space.conftest import DEMO_MODEL, SPACE, Started, serve

pytestmark = pytest.mark.soak

CLIENTS, MINUTES = 20, 5
HOSTILE = 300


def _resident(pid: int) -> float:
    """Return a process's resident memory in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise AssertionError("no VmRSS")


def test_space_twenty_users_memory_is_bounded(tmp_path: Path) -> None:
    pipeline = AGITPipeline.from_pretrained(DEMO_MODEL, device="cpu")
    paths, expected = [], []
    held: list[float] = []  # at each answer
    for index in range(40):
        paths.append(tmp_path / f"{index}.png")
        shapes.draw("plain", index, size=200 + 10 * index, seed=8)[0].save(paths[-1])
        expected.append(pipeline(Image.open(paths[-1])).images[0].tobytes())

    def visit(started: Started, number: int, until: float) -> int:
        client = Client(started.address, verbose=False, download_files=tmp_path / f"c{number}")
        chance, done = random.Random(number), 0
        while time.monotonic() < until:
            index = chance.randrange(len(paths))
            image, _, _ = client.predict(handle_file(paths[index]), api_name="/translate")
            assert Image.open(image).tobytes() == expected[index]
            held.append(_resident(started.pid))
            done += 1
        return done

    with serve(tmp_path / "files", AGIT_MODELS=str(DEMO_MODEL)) as started:
        until = time.monotonic() + 60 * MINUTES
        with ThreadPoolExecutor(CLIENTS) as pool:
            visits = [pool.submit(visit, started, n, until) for n in range(CLIENTS)]
            answered = [each.result() for each in visits]
        assert min(answered) >= 1
    # Caches fill up in the first minute; from then on memory must not grow.
    early, late = held[len(held) // 5 : len(held) // 2], held[-len(held) // 4 :]
    print(f"{sum(answered)} results; MB: {np.mean(early):.0f} early, {np.mean(late):.0f} late")
    assert np.mean(late) < 1.1 * np.mean(early)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def _bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    zeros = zlib.compress(bytes(10**6))
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zeros) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _hostile(count: int, elsewhere: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents, the same at every run; some try to write to a folder."""
    chance = random.Random(7)
    drawn = shapes.draw("plain", 0, size=64, seed=1)[0]
    whole = {}
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        file = io.BytesIO()
        drawn.save(file, kind)
        whole[kind] = file.getvalue()
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    target = bytes(elsewhere / "agit-was-here")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(" + target + b") (w) file closefile\n"
    zipped = b"PK\x03\x04" + bytes(40)
    fixed = [
        ("empty.png", b""), ("bomb.png", _bomb(50_000, 50_000)), ("wide.png", _bomb(2**31 - 1, 1)),
        ("drawing.svg", svg), ("drawing.png", svg), ("program.png", eps), ("program.eps", eps),
        ("page.png", b"<html><script>alert(1)</script></html>"), ("archive.jpg", zipped),
        ("tiny.png", _bomb(0, 0)), ("dots.png", _bomb(3, 3)), ("text.gif", b"GIF89a"),
        ("../../escape.png", b"up and away"), ("..%2f..%2fescape.png", b"likewise"),
        (str(elsewhere / "escape.png"), b"absolutely"), ("a\\..\\b.png", b"windows"),
        ("x" * 300 + ".png", b"long"), ("nul\x00.png", b"nul"), ("-rf.png", b"flag"),
        ("$(touch agit-was-here).png", b"shell"), ("сон\u202egnp.exe", b"turned"),
    ]  # fmt: skip
    yield from fixed
    for number in range(count - len(fixed)):
        kind = chance.choice(list(whole))
        content = bytearray(whole[kind])
        cut = chance.randrange(4, max(5, len(content) // 2))
        how = number % 3
        if how == 0:
            content = content[:cut]
        elif how == 1:  # the start of one kind, the rest of another
            content = content[:12] + bytearray(whole[chance.choice(list(whole))])[cut:]
        else:
            content = bytearray(chance.randbytes(cut))
        yield f"{number}.{chance.choice(['png', 'jpg', 'webp', 'tif', 'exe'])}", bytes(content)


def test_space_hostile_files_get_messages(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = {path for path in tmp_path.parent.rglob("*") if path.is_file()}
    # Gradio refuses some of the names itself, with a message and a traceback in its log.
    with serve(tmp_path / "files", check_log=False, AGIT_MODELS=str(DEMO_MODEL)) as started:
        client = Client(started.address, verbose=False, download_files=tmp_path / "results")
        results = []
        for name, content in _hostile(HOSTILE, elsewhere):
            sent = httpx.post(
                f"{started.address}/gradio_api/upload",
                files={"files": (name, content)},
                timeout=60,
            )
            if sent.is_error:
                results.append(f"{sent.status_code}")
                assert sent.status_code < 500, (name, sent.text)
                continue
            (path,) = sent.json()
            file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
            try:
                client.predict(file, api_name="/translate")
            except AppError as error:
                results.append(str(error))
            else:
                results.append("")  # a valid image: Pillow repairs some damage
        assert len(results) == HOSTILE
        assert not [each for each in results if "Traceback" in each or str(tmp_path) in each]
        ours = [
            result
            for result in results
            if re.search(r"is (empty|damaged|not an image)|pixels", result)
        ]
        print(f"{results.count('')} images after all; {len(ours)} results of ours")
        assert results.count("") < HOSTILE / 4 and len(ours) > HOSTILE * 0.7
        # It still serves.
        example = SPACE / "examples" / "plain" / "plain-1.png"
        image, _, _ = client.predict(handle_file(example), api_name="/translate")
        assert Image.open(image).size == Image.open(example).size
    files = {path for path in tmp_path.parent.rglob("*") if path.is_file()}
    outside = {p for p in files - before if not p.is_relative_to(tmp_path)}
    assert not outside
    assert not [path for path in files if path.name == "agit-was-here"]
    assert not list(elsewhere.iterdir())
