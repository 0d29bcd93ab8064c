"""open_image: damaged, malicious and unsupported files raise a one-sentence ImageError."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from agit_hub.data.images import open_image
from agit_hub.errors import DataError, ImageError

KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"]
if "AVIF" in Image.SAVE or (Image.init() and "AVIF" in Image.SAVE):
    KINDS.append("AVIF")


def _encoded(kind: str, **how: Any) -> bytes:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def _png(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header declares this size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def _refusal(path: Path, **limits: Any) -> str:
    with pytest.raises(ImageError) as raised:
        open_image(path, **limits)
    message = str(raised.value)
    assert isinstance(raised.value, ValueError) and isinstance(raised.value, DataError)
    assert message.startswith(f"{path.name} ") and "\n" not in message
    # Messages must not reveal a server's folders.
    assert str(path.parent) not in message
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_open_image_known_format_is_decoded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.anything"
    data = _encoded(kind)
    path.write_bytes(data)
    for given in (path, str(path)):
        image = open_image(given)
        assert image.size == (50, 40)
        expected = Image.open(io.BytesIO(data))
        assert image.mode == expected.mode and image.tobytes() == expected.tobytes()
    # Nothing is read later, when the file may have been deleted.
    path.unlink()
    assert image.convert("RGB").getpixel((49, 39)) == expected.convert("RGB").getpixel((49, 39))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_open_image_keeps_the_mode(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (20, 30)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").mode == mode


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_open_image_truncated_file_raises(kind: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    data = _encoded(kind)
    path.write_bytes(data[: max(4, int(share * len(data)))])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    _refusal(path)


def test_open_image_damaged_data_after_good_header_raises(tmp_path: Path) -> None:
    data = bytearray(_encoded("PNG"))
    data[60:160] = b"\xff" * 100
    (tmp_path / "bad.png").write_bytes(bytes(data))
    assert "damaged" in _refusal(tmp_path / "bad.png")


def test_open_image_empty_file_raises(tmp_path: Path) -> None:
    (tmp_path / "nothing.png").touch()
    assert _refusal(tmp_path / "nothing.png") == "nothing.png is empty."


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="9"/></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\n(x) run showpage\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("drawing.svg", SVG),
        ("drawing.png", SVG),
        ("letter.png", b"Dear Sir or Madam,\n" * 20),
        ("print.eps", EPS),
        ("print.jpg", EPS),
        (
            "page.png",
            b"<html><script>1</script>" + _encoded("PNG"),
        ),  # the image is not at the start
        ("archive.png", b"PK\x03\x04" + bytes(200)),
        ("paper.pdf", b"%PDF-1.7\n" + bytes(200)),
        ("zeros.png", bytes(1000)),
        ("one.png", b"\x89"),
    ],
)
def test_open_image_other_content_with_any_extension_raises(
    name: str, data: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    message = _refusal(tmp_path / name)
    assert "not an image in a known format" in message and "JPEG" in message and "PNG" in message


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "PDF", "SGI"])
def test_open_image_rare_pillow_format_raises(kind: str, tmp_path: Path) -> None:
    (tmp_path / "rare.png").write_bytes(_encoded(kind))
    assert "known format" in _refusal(tmp_path / "rare.png")


def test_open_image_script_with_image_signature_raises(tmp_path: Path) -> None:
    (tmp_path / "both.gif").write_bytes(b"GIF89a/*\0\0\0\0\0*/=1;alert(1)//" + bytes(40))
    _refusal(tmp_path / "both.gif")


@pytest.mark.parametrize("tail", [b"PK\x03\x04" + bytes(99), b"<script>alert(1)</script>", SVG])
def test_open_image_trailing_data_is_ignored(tail: bytes, tmp_path: Path) -> None:
    whole = _encoded("PNG")
    (tmp_path / "both.png").write_bytes(whole + tail)
    expected = Image.open(io.BytesIO(whole))
    assert open_image(tmp_path / "both.png").tobytes() == expected.tobytes()


@pytest.mark.parametrize("side", [50_000, 2**31 - 1])
def test_open_image_giant_header_raises_before_decoding(side: int, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png(side, side))
    for limit in (10**8, 10**19):  # Pillow's own limit applies as well
        assert "pixels" in _refusal(tmp_path / "bomb.png", max_pixels=limit)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_open_image_over_100_megapixels_raises_by_default(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(_png(10_001, 10_000))
    message = _refusal(path)
    assert "10001 x 10000" in message and "100 megapixels" in message


def test_open_image_max_pixels_is_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_encoded("PNG"))
    assert open_image(path, max_pixels=2000).size == (50, 40)
    assert "50 x 40" in _refusal(path, max_pixels=1999)


def test_open_image_max_bytes_is_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(_png(16, 16).ljust(2_500_000, b"\0"))
    message = _refusal(path, max_bytes=2_000_000)
    assert "2.5 MB" in message and "2 MB" in message
    path.write_bytes(_encoded("BMP"))
    size = path.stat().st_size
    assert open_image(path, max_bytes=size).size == (50, 40)
    _refusal(path, max_bytes=size - 1)


def test_open_image_missing_file_folder_or_dangling_link_raises(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "gone.png") == "gone.png does not exist."
    (tmp_path / "folder.png").mkdir()
    _refusal(tmp_path / "folder.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    assert "does not exist" in _refusal(tmp_path / "link.png")


def test_open_image_errors_use_the_given_name(tmp_path: Path) -> None:
    (tmp_path / "tmpa8x2.png").write_bytes(_encoded("PNG")[:300])
    (tmp_path / "tmpb7y1.png").write_bytes(_encoded("PNG"))
    (tmp_path / "tmpc6z0.png").write_bytes(SVG)
    (tmp_path / "tmpd5w9.png").touch()
    for path, limits in (
        (tmp_path / "tmpa8x2.png", {}),
        (tmp_path / "tmpb7y1.png", {"max_pixels": 9}),
        (tmp_path / "tmpb7y1.png", {"max_bytes": 9}),
        (tmp_path / "tmpc6z0.png", {}),
        (tmp_path / "tmpd5w9.png", {}),
        (tmp_path / "tmpe4v8.png", {}),
    ):
        with pytest.raises(ImageError, match=r"^Your image ") as raised:
            open_image(path, "Your image", **limits)
        assert path.stem not in str(raised.value)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_open_image_animation_gives_the_first_frame(kind: str, tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (20, 20), color) for color in ("red", "blue"))
    how: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    red.save(tmp_path / "animation", kind, save_all=True, append_images=[blue, blue], **how)
    image = open_image(tmp_path / "animation").convert("RGB")
    assert image.size == (20, 20) and image.getpixel((10, 10)) == (255, 0, 0)
